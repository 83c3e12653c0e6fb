"""``fastpagemap top`` on a terminal of its own: how it begins and how it leaves."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("textual")

from locked import Locked
from terminal import Terminal

COMMAND = [sys.executable, "-m", "fastpagemap", "top"]


def test_of_all_processes_of_a_name_and_of_a_pid(victim):
    for arguments, text in (
        ([], b"all processes: "),
        ([victim.pid], b"%d and children: 1" % victim.pid),
        ([os.path.basename(os.path.realpath(sys.executable))], b" and children: "),
    ):
        with Terminal(*arguments, command=COMMAND) as terminal:
            terminal.read_until(text)
            os.write(terminal.leader, b"q")
            assert terminal.wait() == 0
            assert terminal.is_sane()


@pytest.mark.parametrize(
    ("leave", "code"), [(b"\x03", 130), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_leaving_a_process_that_is_watched(victim, leave, code):
    with Terminal(victim.pid, command=COMMAND) as terminal:
        terminal.read_until(b"and children: 1")
        os.write(terminal.leader, b"\r")
        terminal.read_until(b"whole process")
        assert terminal.leave(leave) == code
        assert terminal.is_sane()


def test_it_is_left_at_once_though_a_process_does_not_answer():
    with Locked(name="it-is-locked") as process:
        process.lock()
        with Terminal(process.pid, command=COMMAND) as terminal:
            terminal.read_until(b"1 no answer")
            terminal.read_until(b"it-is-locked (no")
            began = time.monotonic()
            os.write(terminal.leader, b"q")
            assert terminal.wait() == 0
            assert time.monotonic() - began < 10


def test_no_colour(victim):
    with Terminal(victim.pid, command=COMMAND, NO_COLOR="1") as terminal:
        terminal.read_until(b"and children: 1")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0
        assert not re.search(rb"\x1b\[[\d;]*[34]8;[25];", terminal.written)


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["999999999"], {}, 1),
        (["2"], {}, 1),
        (["no such thing"], {}, 1),
        (["-5"], {}, 2),
        (["--interval", "0"], {}, 2),
        (["--interval", "nan"], {}, 2),
        ([], {"TERM": "dumb"}, 2),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments, environment, code):
    with Terminal(*arguments, command=COMMAND, **environment) as terminal:
        assert terminal.wait() == code
        assert terminal.written.startswith(b"fastpagemap: ")
        assert terminal.written.count(b"\n") == 1
        assert b"\x1b" not in terminal.written


def test_without_a_terminal_it_is_misuse():
    said = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("fastpagemap: top needs a terminal")
    assert "report --all" in said.stderr


def test_children_whose_ends_are_ignored(victim):
    """Workers are started by another thread, which can set no handler."""
    program = (
        "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "import fastpagemap.cli; sys.exit(fastpagemap.cli.main())"
    )
    with Terminal(victim.pid, command=[sys.executable, "-c", program, "top"]) as terminal:
        terminal.read_until(b"and children: 1")
        terminal.read_until(b"Mi")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0
