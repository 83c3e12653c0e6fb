"""Every example in every --help, run as it is printed, beside a real PostgreSQL server (root).

In a pid namespace of its own the server is process 1234, as in the examples. What they read is
there, and 'sudo' and 'ssh host' only run what follows them.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import click
import pytest

import backed
import cgroups
import database
import linux
import namespaces
import runas
from fastpagemap.cli.group import COMMANDS, EXAMPLES, cli
from needs import need, refusal
from terminal import Terminal

pytestmark = pytest.mark.root

PID = 1234
ADDR_NO_RANDOMIZE = 0x0040000
CGROUP = "/system.slice/postgresql.service"
PROGRAMS = {
    "fastpagemap": f'exec {sys.executable} -m fastpagemap "$@"',
    "sudo": 'exec "$@"',
    "ssh": 'shift; exec "$@"',
}
DIRECTORIES = (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions")
#: These go on until a key or Ctrl-C ends them.
LIVE = re.compile(r"(sudo )?fastpagemap (watch|top)\b")
COUNTING = re.compile(
    r"(sudo )?fastpagemap (record|writes \S+ --|forks \S+ (--interval|A)|run --at)"
)
#: Python programs that the examples name. A server as gunicorn is: a parent and a worker.
SCRIPTS = {
    "program.py": """import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
data = [str(number) for number in range(100_000)]
if os.fork() == 0:
    time.sleep(5)
    os._exit(sys.argv[1:] not in ([], ["ARGUMENTS"]))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
""",
    "package/__main__.py": """import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
data = bytes(1 << 20)
signal.pause()
""",
    "service.py": """import signal
data = bytes(1 << 20)
print("ready", flush=True)
signal.pause()
""",
    "bin/gunicorn": f"""#!{sys.executable}
import os, signal
if os.fork() == 0:
    print("forked", flush=True)
signal.pause()
""",
}
#: A pipe fails if any program in it does.
SHELL = ["bash", "-o", "pipefail", "-c"]
#: Seconds that an example may take.
LONGEST = 60


def examples():
    """The commands in the epilogs, without what is said of them."""
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    for epilog in [EXAMPLES, *(command.epilog or "" for command in commands)]:
        _, _, text = epilog.partition("Examples:\n")
        for line in text.partition("\n\n")[0].splitlines():
            yield re.split(r"\s{2,}", line.strip())[0]


def test_examples_are_found():
    found = list(examples())
    assert f"fastpagemap {PID}" in found
    assert len(found) > 60
    named = {word for line in found for word in line.split()}
    assert set(COMMANDS) <= named
    assert {"fastpagemap", "sudo"} <= {line.split()[0] for line in found}


def prepare(directory, server):
    """Make what the examples read, and the programs that they name."""
    os.mkdir("bin")
    for name, command in PROGRAMS.items():
        with open(f"bin/{name}", "w") as file:
            file.write(f"#!/bin/sh\n{command}\n")
        os.chmod(f"bin/{name}", 0o755)
    for name in (*DIRECTORIES, "package"):
        os.makedirs(name)
    for name, text in SCRIPTS.items():
        with open(name, "w") as file:
            file.write(text)
    os.chmod("bin/gunicorn", 0o755)
    os.environ.update(HOME=directory, PATH=f"{directory}/bin:{os.environ['PATH']}")
    for name in ("model.bin", "model.safetensors"):
        with open(name, "wb") as file:
            file.write(bytes(1 << 20))
    for name in ("before.fpm", "after.fpm"):
        subprocess.run(["fastpagemap", "dump", str(PID), "-o", name], check=True)
    command = ["fastpagemap", "record", str(PID), "-o", "recorded", "--count", "1"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    with open("maps", "w") as file:  # where the example says that its entries begin
        file.write(f"7f0000000000-7f{4096 * linux.PAGE:010x} rw-p 00000000 00:00 0 \n")
    with open(f"/proc/{PID}/pagemap", "rb") as pagemap, open("entries", "wb") as file:
        pagemap.seek(0x7FFFF0000 * 8)
        file.write(pagemap.read(4096 * 8))
    # The directory of Debian's package, as far as this process sees it.
    linux.call("mount", b"tmpfs", b"/var/lib/postgresql", b"tmpfs", 0, None)
    os.makedirs("/var/lib/postgresql/16")
    os.symlink(server.data, "/var/lib/postgresql/16/main")


def refused(line, said):
    """Why this kernel cannot answer; empty if it has no excuse."""
    excuses = {"writes": "soft-dirty", "--dirty": "soft-dirty", "writes program.py": "Linux 6.7"}
    return next((why for word, why in excuses.items() if word in line and why in said), "")


def run(line):
    """Run an example to its end."""
    said = subprocess.run([*SHELL, line], capture_output=True, text=True, timeout=LONGEST)
    assert said.returncode == 0 or refused(line, said.stderr), f"{line}: {said.stderr}"
    assert "Traceback" not in said.stderr


def look_at(line):
    """Run an example that draws on the whole screen, and press q."""
    with Terminal(line, command=SHELL, size=(100, 30)) as shown:
        end = time.monotonic() + LONGEST
        while shown.process.poll() is None:
            assert time.monotonic() < end, f"{line}: {shown.written[-500:]}"
            if select.select([shown.leader], [], [], 0.1)[0]:
                shown.written += os.read(shown.leader, 1 << 16)
            if b"\x1b[?1049h" in shown.written:
                os.write(shown.leader, b"q")
        code, said = shown.wait(), shown.written.decode(errors="replace")
    assert code == 0 or refused(line, said), f"{line}: {code} {said[-500:]}"


def count(line):
    """Run an example that prints a line now and then, until it has printed the first."""
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*SHELL, line], start_new_session=True, **pipes) as process:
        select.select([process.stdout], [], [], LONGEST)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        out, said = (text.decode() for text in process.communicate(timeout=LONGEST))
    assert out or refused(line, said), f"{line}: {said}"
    assert "Traceback" not in said


@contextlib.contextmanager
def examples_cgroup(name):
    """The cgroup that the examples name, which is another one for each run of the tests.

    The topmost one that this namespace of mounts shows is a cgroup named after the run.
    """
    with cgroups.named(f"/{name}{CGROUP}") as cgroup:
        top = cgroup.removesuffix(CGROUP)
        shown = os.path.dirname(top)
        with backed.bound(top, shown):
            yield shown + CGROUP


def try_all(name):
    """In the first process of a pid namespace: the lines that failed, and why."""
    linux.call("mount", b"proc", b"/proc", b"proc", 0, None)
    linux.call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", 0, None)
    # So that there is something at the address in an example.
    linux.call("personality", ADDR_NO_RANDOMIZE)
    try:
        linux.write_text("/proc/sys/kernel/ns_last_pid", PID - 100)
    except OSError as error:
        raise refusal(error, "to choose a pid") from error
    failed = []
    with contextlib.ExitStack() as stack:
        cgroup = stack.enter_context(examples_cgroup(name))
        server = stack.enter_context(database.running(PID))
        linux.write_text(f"{cgroup}/cgroup.procs", PID)
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastpagemap-"))
        stack.enter_context(contextlib.chdir(directory))
        prepare(directory, server)
        workers = subprocess.Popen(["gunicorn"], stdout=subprocess.PIPE, start_new_session=True)
        stack.callback(os.killpg, workers.pid, signal.SIGKILL)
        assert workers.stdout.readline() == b"forked\n"
        service = subprocess.Popen(
            [sys.executable, "-m", "memray", "run", "-q", "-o", "capture.bin", "service.py"],
            stdout=subprocess.PIPE,
        )
        stack.callback(service.kill)
        assert service.stdout.readline() == b"ready\n"
        for line in examples():
            how = look_at if LIVE.match(line) else count if COUNTING.match(line) else run
            try:
                how(line)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                failed.append(str(error))
    return failed


@pytest.mark.timeout(20 * LONGEST)  # all of them, on a machine that is busy
def test_examples_run_as_printed():
    pytest.importorskip("matplotlib")
    pytest.importorskip("textual")
    pytest.importorskip("memray")
    pytest.importorskip("prometheus_client")
    for program in ("bash", "jq"):
        need(shutil.which(program), program)
    need(os.path.isdir("/var/lib/postgresql"), "PostgreSQL (Debian's package postgresql)")

    name = f"fastpagemap-examples-{os.getpid()}"

    def enter():
        namespaces.unshare(namespaces.CLONE_NEWPID)
        return runas.in_child(try_all, name)

    assert "\n".join(namespaces.in_own_mounts(enter)) == ""
