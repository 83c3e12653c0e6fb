"""``fastpagemap watch`` on a terminal of its own: how it begins and how it leaves."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

import fastpagemap as fpm

pytest.importorskip("textual")

from terminal import COMMAND, Terminal


@pytest.mark.parametrize(
    ("leave", "code"),
    [(b"q", 0), (b"\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_leaving_a_terminal_as_it_was(victim, leave, code):
    with Terminal(victim.pid) as terminal:
        terminal.read_until(b"whole process")
        assert terminal.leave(leave) == code
        assert terminal.is_sane()


def test_no_colour(victim):
    with Terminal(victim.pid, NO_COLOR="1") as terminal:
        terminal.read_until(b"####")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0
        assert not re.search(rb"\x1b\[[\d;]*[34]8;[25];", terminal.written)
        assert not re.search(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7])m", terminal.written)


def test_sixteen_colours_have_characters(victim):
    with Terminal(victim.pid, TERM="xterm", COLORTERM="") as terminal:
        terminal.read_until(b"####")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_without_a_terminal_it_is_misuse(victim, stream):
    leader, follower = pty.openpty()
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    ends[stream] = subprocess.PIPE
    with subprocess.Popen([*COMMAND, str(victim.pid)], **ends) as process:
        assert process.wait(30) == 2
        said = process.stderr.read() if stream == "stderr" else os.read(leader, 4096)
    assert said.startswith(b"fastpagemap: watch needs a terminal")
    assert said.count(b"\n") == 1
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["999999999"], {}, 1),
        (["2"], {}, 1),
        (["no such thing"], {}, 1),
        (["self", "--interval", "0"], {}, 2),
        ([], {}, 2),
        (["1"], {"TERM": "dumb"}, 2),
    ],
)
def test_what_cannot_be_watched_is_one_line(arguments, environment, code):
    with Terminal(*arguments, **environment) as terminal:
        assert terminal.wait() == code
        assert terminal.written.startswith(b"fastpagemap: ")
        assert terminal.written.count(b"\n") == 1
        assert b"\x1b" not in terminal.written


@pytest.mark.root
def test_a_process_that_may_not_be_read_is_one_line(victim):
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        # now, while the interpreter's own files can be read for certain
        "import fastpagemap.report.tables, fastpagemap.cli.commands.watch\n"
        "import fastpagemap.cli.watch.view\n"
        "import runas; runas.become(runas.NOBODY)\n"
        "sys.exit(fastpagemap.cli.main())"
    )
    command = [sys.executable, "-c", program, os.path.dirname(__file__), "watch"]
    with Terminal(victim.pid, command=command) as terminal:
        assert terminal.wait() == 1
        assert b"CAP_SYS_PTRACE" in terminal.written
        assert terminal.written.count(b"\n") == 1
        assert b"\x1b" not in terminal.written


def test_textual_missing_is_said(victim):
    program = "import sys; sys.modules['textual'] = None; import fastpagemap.cli as c"
    command = [sys.executable, "-c", program + "; sys.exit(c.main())", "watch"]
    with Terminal(victim.pid, command=command) as terminal:
        assert terminal.wait() == 1
        assert terminal.written.startswith(b"fastpagemap: textual is not installed: pip install")
        assert terminal.written.count(b"\n") == 1


def test_dirty_bits_are_cleared_only_where_there_are_any(victim):
    if fpm.capabilities().soft_dirty:
        return
    with Terminal(victim.pid, "--dirty") as terminal:
        assert terminal.wait() == 1
        assert b"soft-dirty" in terminal.written
        assert b"\x1b" not in terminal.written


def test_what_is_unexpected_is_a_line_and_no_traceback(victim):
    program = (
        "import sys; from fastpagemap.cli import main\n"
        "from fastpagemap.cli.watch.view import Watch\n"
        "Watch.action_help = lambda self: 1 / 0\n"
        "sys.exit(main(['watch', sys.argv[1]]))"
    )
    with Terminal(victim.pid, command=[sys.executable, "-c", program]) as terminal:
        terminal.read_until(b"whole process")
        assert terminal.leave(b"?") == 1
        assert terminal.is_sane()
        said = terminal.written.rpartition(b"fastpagemap: ")[2]
        assert said.startswith(b"unexpected ZeroDivisionError: division by zero (please report it")
        assert b"Traceback" not in terminal.written
