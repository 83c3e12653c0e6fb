"""Make docs/questions.md: the questions that people ask, and what the command line answers.

As root, with Debian's postgresql, redis-server, default-jre-headless, smem and procps:

    PYTHONPATH=tests python docs/questions.py > docs/questions.md

The programs are real, started for the while; swap is made for it. The answers are those of a
terminal of 100 columns. All of it runs in namespaces of its own, where no other processes are,
and no other servers.
"""

import code
import contextlib
import fcntl
import io
import itertools
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asked import PROGRAMS, SERVED, SESSION, Question, questions

import linux
import namespaces
import oracle
import runas
import swap
from database import fill, page_out, running
from fastpagemap.cli.watch.census import Census
from fastpagemap.cli.watch.top import Top
from needs import Missing, need
from screens import on_screen
from screens import shown as screen_text

CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1
COLUMNS, LINES, MOST_LINES = 100, 18, 16
STYLE = re.compile(r"\x1b\[[0-9;]*m")
HEAD = """\
# Ten questions, one command each

Made by `docs/questions.py` on Linux {release}, as root. It asked about PostgreSQL
with most of its shared buffers in swap, redis, a JVM, and Python programs with numpy. `...` stands
for lines that are left out. Notes on standard error are left out, too.

The number after a command counts its keystrokes, with Enter. For smem and pmap, it is the command
that comes nearest; `-` means that it tells nothing about this. [words.md](words.md) explains the
words.
"""


def shown(asked: Question, folder: str, environment: dict[str, str]) -> str:
    """Return a command and what it prints on a terminal, or what Python says."""
    if asked.command.startswith("fpm."):
        return session(asked.command)
    done = terminal(shlex.split(asked.command), folder, environment)
    lines = STYLE.sub("", done.replace("\r", "")).rstrip().splitlines()
    if not lines:
        raise SystemExit(f"questions: '{asked.command}' printed nothing")
    if asked.last:
        start = max(at for at, line in enumerate(lines) if line.startswith(asked.last))
        lines = ["...", *lines[start:]]
    elif len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 3], "...", *lines[-2:]]
    return "\n".join([f"$ {asked.command}", *map(str.rstrip, lines)])


def session(question: str) -> str:
    """Return what is typed to Python, and what it answers."""
    console, said = code.InteractiveConsole(), io.StringIO()
    with contextlib.redirect_stdout(said):
        for line in (*SESSION, question):
            print(">>>", line)
            console.push(line)
    return said.getvalue().rstrip()


def top() -> str:
    """Return the screen of `fastpagemap top`, once rates are known."""
    frames = []

    async def scenario(screen: Any) -> None:
        first = screen.view.rows
        await screen.until(lambda: screen.view.rows is not first)
        frames.append(screen_text(screen))

    on_screen(Top(Census(1.0)), scenario, (COLUMNS, LINES))
    lines = [line.rstrip() for line in frames[0].splitlines()]
    return "\n".join(["$ fastpagemap top", *lines]).rstrip()


def visit() -> None:
    """Ask serve.py, once it listens, for one page after the other, until it has ended."""
    until_listening(SERVED)
    with contextlib.suppress(OSError):
        for part in itertools.cycle(range(30)):
            urllib.request.urlopen(f"http://127.0.0.1:{SERVED}/{part}", timeout=5).close()
            time.sleep(0.1)


def terminal(words: list[str], folder: str, environment: dict[str, str]) -> str:
    """Run a command on a terminal of its own."""
    inner = f"stty cols {COLUMNS} rows 50; exec {shlex.join(words)} 2>/dev/null"
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", inner, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=120,
    )
    return done.stdout


@contextlib.contextmanager
def program(*words: str, folder: str) -> Iterator[int]:
    """Have a program run for the while; gives its pid."""
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, 9)


def redis(command: str) -> None:
    """Have redis do something."""
    with socket.create_connection(("127.0.0.1", 16399), timeout=60) as connection:
        connection.sendall(command.encode() + b"\r\n")
        connection.recv(100)


def until_listening(port: int) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit(f"questions: nothing listens at port {port}")


def send_to_swap(pid: int) -> None:
    """Send half of a process's largest private mapping to swap."""
    lines = [line for line in oracle.maps(pid) if not line.path and "w" in line.permissions]
    line = max(lines, key=lambda line: line.end - line.start)
    half = (line.start + line.end) // 2 // linux.PAGE * linux.PAGE
    linux.process_madvise(pid, line.start, half, linux.MADV_PAGEOUT)


def main() -> None:
    """Start the programs, and answer."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, text in PROGRAMS.items():
            Path(folder, name).write_text(text)
        commands = os.path.dirname(sys.executable)
        environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "NO_COLOR": "1"}
        stack.enter_context(swap.any_swap(512 << 20))
        server = stack.enter_context(running())
        fill(server)
        how = ("--username=postgres", "--tuples-only", "--no-align")
        session = stack.enter_context(server.session("psql", *how))
        server.ask(session, "SELECT sum(abalance) FROM pgbench_accounts;")
        page_out(server.processes())
        words = ["redis-server", "--port", "16399", "--save", "", "--enable-debug-command", "yes"]
        keeper = stack.enter_context(program(*words, folder=folder))
        until_listening(16399)
        redis("DEBUG POPULATE 500000 key 100")
        send_to_swap(keeper)
        java = ["java", "-Xmx1g", "-Xms256m", "-m", "java.rmi/sun.rmi.registry.RegistryImpl"]
        stack.enter_context(program(*java, "16398", folder=folder))
        until_listening(16398)
        terminal(["fastpagemap", "dump", str(keeper), "-o", "before.fpm"], folder, environment)
        redis("DEBUG POPULATE 100000 more 100")
        postgres = server.processes()[0]
        answer(questions(keeper, postgres), folder, environment)


def answer(asked: list[Question], folder: str, environment: dict[str, str]) -> None:
    """Print the page."""
    print(HEAD.format(release=os.uname().release))
    print("| question | fastpagemap | smem | pmap |")
    print("| --- | --- | --- | --- |")
    for each in asked:
        found = map(keystrokes, (each.command, each.smem, each.pmap))
        print("|", " | ".join([each.text, *found]), "|")
    print(f"| What is happening now? | {keystrokes('fastpagemap top')} | - | - |")
    for number, each in enumerate(asked, 1):
        if "serve.py" in each.command:
            threading.Thread(target=visit, daemon=True).start()
        print(f"\n## {number}. {each.text}\n\n```\n{shown(each, folder, environment)}")
        print(f"```\n\n{each.more}", flush=True)
    print(f"\n## 10. What is happening now?\n\n```\n{top()}\n```\n")
    print(
        "It shows all processes, live. `fastpagemap watch PID` shows one, page by page.", flush=True
    )


def keystrokes(command: str) -> str:
    """Return a command and how many keys it takes; nothing where there is none."""
    return f"`{command}`: {len(command) + 1}" if command else "-"


def in_own_namespace() -> None:
    """Go where only processes are that this starts."""

    def first() -> None:
        with socket.socket() as any_socket:  # its ports are free, and so the same in each page
            up = struct.pack("16sH14x", b"lo", IFF_UP)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, up)
        linux.call("mount", b"proc", b"/proc", b"proc", 0, None)
        linux.call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", 0, None)
        main()

    namespaces.unshare(namespaces.CLONE_NEWPID | CLONE_NEWNET)
    runas.in_child(first)


if __name__ == "__main__":
    try:
        for each in ("redis-server", "java", "smem", "pmap", "script"):
            need(shutil.which(each), each)
        namespaces.in_own_mounts(in_own_namespace)
    except Missing as missing:
        sys.exit(f"questions: this machine lacks {missing}")
