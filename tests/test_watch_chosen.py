"""Which processes ``fastpagemap top --name`` and ``--user`` show."""

import contextlib
import glob
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("textual")

from fastpagemap.cli.naming import matching
from fastpagemap.cli.processes import command_of
from fastpagemap.cli.watch.census import Census
from fastpagemap.cli.watch.chosen import Chosen
from forks import forked
from terminal import Terminal

COMMAND = [sys.executable, "-m", "fastpagemap", "top"]
#: Calls exec when it is told to, and answers when it has.
PROGRAM = "import os, sys; print(flush=True); input(); os.execvp('cat', ['cat'])"


@contextlib.contextmanager
def running(*arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], **pipes) as process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def listed(census, condition):
    """Sample until the pids are as expected."""
    end = time.monotonic() + 30
    while not condition(pids := {member.pid for member in census.sample()}):
        assert time.monotonic() < end, pids
        time.sleep(0.01)
    return pids


@contextlib.contextmanager
def census(roots=(), **wanted):
    made = Census(0.05, roots, chosen=Chosen(**wanted))
    try:
        yield made
    finally:
        made.close()


def test_of_a_name():
    """Of a command line, too; and those that begin later."""
    with running("a-word-of-its-own") as one, census(name="a-word-of-its-o?n") as made:
        assert listed(made, lambda pids: one.pid in pids) == {one.pid}
        with running("a-word-of-its-own") as other:
            listed(made, lambda pids: pids == {one.pid, other.pid})
        listed(made, lambda pids: pids == {one.pid})


def test_who_calls_exec_is_another():
    with running("a-word-of-its-own") as process, census(name="a-word-of-its-own") as made:
        listed(made, lambda pids: pids == {process.pid})
        process.stdin.write(b"\n")
        process.stdin.flush()
        listed(made, lambda pids: not pids)


def test_of_a_family():
    """A root that does not match is left out, and its children are not."""
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'in' + 'put()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        try:
            with census([parent.pid], name="input()") as made:
                found = listed(made, bool)
                assert parent.pid not in found
                assert len(found) == 1
        finally:
            parent.communicate(b"\n")


def owner_of(pid):
    """The user that a process runs as; None if it has ended since it was listed."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


@pytest.mark.root
def test_of_a_user():
    with running() as process, census(user="nobody") as made:
        pids = listed(made, lambda pids: True)
        assert process.pid not in pids
        assert {owner for pid in pids if (owner := owner_of(pid)) is not None} <= {65534}
    with running() as process, census(user="0") as made:
        listed(made, lambda pids: process.pid in pids)


def test_what_is_shown_is_said():
    with (
        running("a-word-of-its-own") as process,
        Terminal("--name", "a-word-of-its-own", "--user", os.geteuid(), command=COMMAND) as it,
    ):
        it.read_until(b"of user %d with 'a-word-of-its-own': 1" % os.geteuid())
        it.read_until(b"%d " % process.pid)
        os.write(it.leader, b"q")
        assert it.wait() == 0


@pytest.mark.parametrize("arguments", [["--name", "no such process"], ["--user", "no such user"]])
def test_if_there_is_none(arguments):
    with Terminal(*arguments, command=COMMAND) as terminal:
        assert terminal.wait() == 1
        assert terminal.written.startswith(b"fastpagemap: no process is ")
        assert b"\x1b" not in terminal.written


def test_workers_are_not_meant():
    """The pattern is in their command lines as it is in that of the command."""
    pattern = "*" + glob.escape(command_of(os.getpid())[-12:])
    with forked() as child:
        assert matching(pattern, [os.getpid(), child]) == []
