"""The command line, and a process that keeps its own memory locked."""

import json
import os
import signal
import subprocess
import time

import pytest

import linux
from commandline import COMMAND, run
from locked import Locked

pytest.importorskip("click")

#: Seconds that the process is given; what it says then.
TIMEOUT = 0.5
SAID = "no answer within 0.5 s: its memory is locked"


@pytest.fixture(scope="module")
def locked():
    with Locked(name="it-is-locked") as process:
        assert run(process.pid).returncode == 0
        process.lock()
        yield process


def within(*arguments, **options):
    """Run the command with the time-out; it ends soon after it."""
    return run(*arguments, "--timeout", TIMEOUT, timeout=60, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "PID"],
        ["report", "PID", "--json"],
        ["report", "it-is-locked"],
        ["doctor", "PID"],
        ["dump", "PID", "-o", "a.fpm"],
        ["diff", "PID", "PID"],
        ["map", "PID", "-o", "a.png"],
    ],
)
def test_it_is_given_up(locked, arguments, tmp_path):
    if arguments[0] == "map":
        pytest.importorskip("matplotlib")
    said = within(*(str(locked.pid) if a == "PID" else a for a in arguments), cwd=tmp_path)
    text = f"fastpagemap: process {locked.pid} (it-is-locked): {SAID}\n"
    assert (said.returncode, said.stdout, said.stderr.decode()) == (1, b"", text)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("group", [[], ["--group", "path"], ["--group", "kind"]])
def test_all_others_are_reported(locked, victim, group):
    said = within("report", "--all", "--json", *group)
    assert said.returncode == 0
    found = json.loads(said.stdout)
    assert {"pid": locked.pid, "name": "it-is-locked", "reason": SAID} in found["unreadable"]
    assert f"fastpagemap: process {locked.pid} (it-is-locked): {SAID}\n" in said.stderr.decode()
    if not group:
        assert victim.pid in [row["pid"] for row in found["rows"]]


def test_its_command_line_is_not_waited_for(locked):
    """That is memory, too: of several processes of a name, it is shown to tell them apart."""
    with Locked(name="it-is-locked") as other:
        said = within("report", "it-is-locked")
    assert said.returncode == 2
    rows = {line.split()[0]: line.split()[4:] for line in said.stderr.decode().splitlines()[2:]}
    assert rows[str(locked.pid)] == ["it-is-locked"]
    # what follows may be cut: the path of the tests may be long
    assert rows[str(other.pid)][1:3] == ["-S", "-E"]


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("arguments", [["report", "PID"], ["report", "--all"]])
def test_ctrl_c_ends_it_at_once(locked, arguments):
    arguments = [str(locked.pid) if a == "PID" else a for a in arguments]
    command = [*COMMAND, *arguments, "--timeout", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            reader = waiting_child(process.pid)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (*said, process.returncode) == (b"", b"", 130)
    assert time.monotonic() - began < 10
    while linux.is_running(reader):  # it was killed, and nothing keeps it from ending
        assert time.monotonic() - began < 60


def waiting_child(pid):
    """The pid of a process's child, once that waits for the lock."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
        for child in children:
            if linux.stat(child)[0] == "D":
                return int(child)
    raise TimeoutError


def test_a_reader_of_its_output_is_not_kept(locked):
    """The worker that is left behind, whatever becomes of it, does not hold the pipe."""
    with subprocess.Popen(
        [*COMMAND, "report", str(locked.pid), "--timeout", "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        began = time.monotonic()
        assert SAID.encode() in process.stdout.read()
    assert time.monotonic() - began < 60


def test_it_can_be_read_again():
    with Locked() as process:
        process.lock()
        assert within(process.pid).returncode == 1
        process.unlock()
        linux.wait_until_asleep(process.pid)
        assert within(process.pid).returncode == 0
