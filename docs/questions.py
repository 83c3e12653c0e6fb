"""Make docs/questions.md: the questions that people ask, and what the command line answers.

As root, with Debian's postgresql, redis-server, default-jre-headless, smem and procps:

    PYTHONPATH=tests python docs/questions.py > docs/questions.md

The programs are real, started for the while; swap is made for it. The answers are those of a
terminal of 100 columns.
"""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import linux
import oracle
import swap
from database import fill, page_out, running

COLUMNS, MOST_LINES = 100, 16
STYLE = re.compile(r"\x1b\[[0-9;]*m")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HEAD = """\
# Ten questions, one command each

Made by `docs/questions.py` on Linux {release}, as root: PostgreSQL with most of its
shared buffers in swap, redis, a JVM, and Python programs with numpy. Lines are left out where `...`
stands, and notes on standard error. The keystrokes are those of the command as it is printed, and
Enter. Of smem and pmap it is the command that comes nearest; `-`: neither tells anything of it.
"""
#: Programs to be run, by file name.
PROGRAMS = {
    "shop.py": (EXAMPLES / "shop.py").read_text(),
    "ml.py": """import time
import numpy as np
weights, gradients = np.ones(4_000_000), np.zeros(1_000_000)
for step in range(30):
    gradients += 0.1
    weights[:500_000] -= gradients[:500_000]
    time.sleep(0.1)
""",
    "array.py": """import numpy as np
import fastpagemap as fpm
array = np.zeros(1 << 27, np.uint8)
array[: 20 << 20] = 1
print(fpm.resident(array), "of", array.nbytes, "bytes")
""",
    "serve.py": """import os, time
table = [f"{number:40}" for number in range(300_000)]
for worker in range(2):
    if not os.fork():
        break
time.sleep(4)
for row in table[:200_000]:
    pass
time.sleep(100)
""",
}


def shown(command: str, folder: str, environment: dict[str, str]) -> str:
    """Return what a command prints on a terminal; of a name alone, `report` may have to be said."""
    words = shlex.split(command)
    done = terminal(words, folder, environment)
    if words[0] == "fastpagemap" and (not done.strip()):
        done = terminal(["fastpagemap", "report", *words[1:]], folder, environment)
    lines = STYLE.sub("", done.replace("\r", "")).rstrip().splitlines()
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 3], "...", *lines[-2:]]
    return "\n".join(line.rstrip() for line in lines)


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
        parent = stack.enter_context(program(sys.executable, "serve.py", folder=folder))
        shown(f"fastpagemap dump {keeper} -o before.fpm", folder, environment)
        redis("DEBUG POPULATE 100000 more 100")
        postgres = server.processes()[0]
        answer(questions(keeper, parent, postgres), folder, environment)


class Question(NamedTuple):
    """A question, the command that answers it, what else there is, and what is to be said of it."""

    text: str
    command: str
    more: str
    smem: str = ""
    pmap: str = ""


def questions(redis: int, parent: int, postgres: int) -> list[Question]:
    """Return the questions, of these processes."""
    return [
        Question(
            "What is swapped, in which process, in which mapping?",
            "fastpagemap redis-server --filter swapped",
            "Of all processes it is `fastpagemap report --all --sort swapped`. smem and pmap leave "
            "out what of shared memory is in swap.",
            smem="smem -P redis-server -c 'pid swap'",
            pmap=f"pmap -X {redis}",
        ),
        Question(
            "Is my array in RAM?",
            "python array.py",
            "In Python, `fpm.resident(array)` is the whole question, of anything with memory.",
        ),
        Question(
            "What was allocated, and what of it is there, line by line?",
            "fastpagemap run shop.py",
            "It needs memray: `pip install 'fastpagemap[memray]'`.",
        ),
        Question(
            "Who writes how fast?",
            "fastpagemap writes ml.py",
            "Of a process that runs already it is `fastpagemap writes PID`, where the kernel has "
            "soft-dirty bits.",
        ),
        Question(
            "Why did my workers grow?",
            f"fastpagemap forks {parent}",
            "With `--interval 5` it goes on, and says what has changed. `fastpagemap forks "
            "serve.py` runs the program, and tells it by object, too.",
            smem="smem -P serve.py",
        ),
        Question(
            "What does this service use?",
            f"fastpagemap report --tree {postgres}",
            "`union` has each page once; `unique` is what ends with the service. smem has neither, "
            "and no swap of shared memory.",
            smem="smem -tP postgres",
        ),
        Question(
            "Why is this JVM so large?",
            "fastpagemap java --group kind",
            "Most of its size is reserved, not used. `fastpagemap java --min 1M` tells it by "
            "mapping.",
            pmap="pmap -X $(pidof java)",
        ),
        Question(
            "What has changed since?",
            f"fastpagemap diff before.fpm {redis}",
            "`fastpagemap dump PID -o before.fpm` has kept what was.",
        ),
        Question(
            "Where is the machine's swap?",
            "fastpagemap report --swap",
            "Each place once, with shared memory that no process maps, and what is unexplained.",
            smem="smem -rs swap",
        ),
    ]


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
        print(f"\n## {number}. {each.text}\n\n```\n$ {each.command}")
        print(shown(each.command, folder, environment))
        print(f"```\n\n{each.more}")
    print("\n## 10. What is happening now?\n\n```\n$ fastpagemap top\n```\n")
    print("It shows all processes, live; `fastpagemap watch PID` shows one, page by page.")


def keystrokes(command: str) -> str:
    """Return a command and how many keys it takes; nothing where there is none."""
    return f"`{command}`: {len(command) + 1}" if command else "-"


if __name__ == "__main__":
    main()
