"""Processes that end, or are replaced, or are locked, between the questions of one report."""

import errno
import json
import os
import resource
import signal
import subprocess
import threading
import time

import pytest

import backed
import fastpagemap as fpm
import forks
import linux
import runas
import swap
from commandline import COMMAND, run
from linux import PAGE
from locked import Locked
from reused import process_with
from sharer import Sharer

pytest.importorskip("click")

from fastpagemap.cli import together

TIMEOUT = 10


@pytest.mark.root
def test_another_process_with_the_pid_of_a_member_is_not_counted():
    with Sharer({}) as stays:
        with Sharer({}) as ends:
            chosen = together.of_tree(os.getpid(), TIMEOUT)
            pid = ends.pid
        assert {stays.pid, pid} <= set(chosen)
        # Processes are told apart by the tick of the clock in which they began.
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))
        other = process_with(pid)
        try:
            group = together.collect_group(chosen, timeout=TIMEOUT)
            sharers = together.collect_sharers(stays.pid, chosen, timeout=TIMEOUT)
            by_pid = dict.fromkeys([stays.pid, pid])
            anyone = together.collect_group(by_pid, timeout=TIMEOUT)
        finally:
            other.communicate(b"\n")
    assert pid in group.more["ended"]
    assert pid not in group.labels["pid"]
    assert stays.pid in group.labels["pid"]
    assert pid not in sharers.labels["pid"]
    # Who is named by a pid alone is whoever has it.
    assert anyone.labels["pid"] == [stays.pid, pid]


def test_a_command_is_not_of_the_tree_that_it_looks_at():
    command = ["sh", "-c", '"$@" report --tree $$ --json; :', "sh", *COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as shell:
        found = json.loads(shell.communicate()[0])
    assert [row["pid"] for row in found["rows"]] == [shell.pid]
    assert found["ended"] == []  # such as its worker


def test_the_name_of_a_whole_tree_means_its_root():
    def fork():
        linux.write_text("/proc/self/comm", "of-one-tree")
        return forks.waiting()

    with Sharer({"fork": fork}) as root:
        child = root.ask("fork")
        said = run("report", "--tree", "of-one-tree", "--json")
        assert [row["pid"] for row in json.loads(said.stdout)["rows"]] == [root.pid, child]
        assert run("report", "of-one-tree").returncode == 2
        with Sharer({"fork": fork}) as other:
            other.ask("fork")
            said = run("report", "--tree", "of-one-tree")
        assert said.returncode == 2
        assert b"2 processes are called 'of-one-tree': say which, by its process id" in said.stderr


def test_a_tree_with_one_that_is_locked_or_may_not_be_read_is_counted():
    with Locked(name="it-is-locked") as locked:
        locked.lock()
        said = run("report", "--tree", os.getpid(), "--timeout", 0.5, "--json", timeout=100)
        assert said.returncode == 0, said.stderr
        found = json.loads(said.stdout)
    assert found["rows"][0]["pid"] == os.getpid()
    assert locked.pid in [one["pid"] for one in found["unreadable"]]


@pytest.mark.root
def test_sharers_of_a_process_that_ended_are_an_error():
    with Sharer({}) as target, Sharer({}) as other:

        class Ending(dict):
            def __iter__(self):  # asked once the process itself has answered
                os.kill(target.pid, signal.SIGKILL)
                os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
                return super().__iter__()

        chosen = Ending({other.pid: None})
        with pytest.raises(ProcessLookupError):
            together.collect_sharers(target.pid, chosen, timeout=TIMEOUT)


def test_a_member_that_locks_its_memory_after_it_was_asked_is_left_out():
    with Locked(name="it-is-locked") as locked, Sharer({}) as sharer:
        unreadable = []
        began = dict.fromkeys([sharer.pid, locked.pid])
        members = together._readable(began, unreadable, TIMEOUT)
        assert (list(members), unreadable) == ([sharer.pid, locked.pid], [])
        locked.lock()
        found = together._counted(members, unreadable, 0.5)
    assert found.usage["pid"].tolist() == [sharer.pid]
    assert found.total["rss"] == found.usage["rss"].sum()
    assert list(members) == [sharer.pid]
    assert [(one.pid, one.name) for one in unreadable] == [(locked.pid, "it-is-locked")]


@pytest.mark.usefixtures("any_swap")
@pytest.mark.root
def test_an_outsider_that_is_locked_keeps_no_group_from_being_counted():
    with backed.memfd(64) as made, Locked() as outside, Sharer({}) as sharer:
        made.write()
        swap.pageout(made.start, made.end)
        outside.lock()
        said = run("report", sharer.pid, sharer.pid, "--timeout", 0.5, "--json", timeout=120)
    assert said.returncode == 0, said.stderr
    assert b"another process cannot be read" in said.stderr
    found = json.loads(said.stdout)
    assert [row["pid"] for row in found["rows"]] == [sharer.pid]
    assert found["together"]["swapped_union"] >= 64 * PAGE
    assert "swapped_unique" not in found["together"]


@pytest.mark.parametrize("as_user", [False, True])
def test_rows_and_the_last_line_are_about_the_same_processes(as_user):
    def counts():
        return [_while_they_end() for _ in range(4)]

    for found in runas.as_nobody(counts) if as_user else counts():
        assert len(found.usage) + len(found.ended) == CHILDREN + 1
        assert found.total["rss"] == found.usage["rss"].sum()


CHILDREN = 24


def _while_they_end():
    """Count this process's children, which end one after the other meanwhile."""
    stays, *children = [_waiting() for _ in range(CHILDREN + 1)]
    pids = [stays.pid, *(child.pid for child in children)]
    members = together._readable(dict.fromkeys(pids), [], None).values()

    def end():
        for child in children:
            child.kill()
            child.wait()

    thread = threading.Thread(target=end)
    try:
        thread.start()
        return together._count([member.known for member in members], ())
    finally:
        thread.join()
        stays.kill()
        stays.wait()


def test_a_group_of_more_processes_than_files_may_be_open():
    """The command raises its soft limit as far as it may; a library leaves it alone."""
    children = [_waiting() for _ in range(40)]
    pids = [child.pid for child in children]
    try:
        for hard, code in ((256, 0), (64, 1)):
            said = run("report", *pids, preexec_fn=lambda hard=hard: _allow(64, hard))
            assert said.returncode == code
            assert said.stderr.count(b"ulimit -n") == code
        lines = said.stderr.splitlines()

        def grouped():
            _allow(64, 256)
            with pytest.raises(OSError, match=r"RLIMIT_NOFILE.* which is 64, of 256") as raised:
                fpm.Group(pids)
            return raised.value.errno, resource.getrlimit(resource.RLIMIT_NOFILE)

        assert runas.in_child(grouped) == (errno.EMFILE, (64, 256))
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert len(lines) == 1
    assert b"which is 64, of 64 at most" in lines[0]


def _allow(soft, hard):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _waiting():
    """A process that does nothing any more: one that is still being loaded gets more memory."""
    process = subprocess.Popen(["sleep", "60"], preexec_fn=linux.die_with_parent)
    linux.wait_until_asleep(process.pid)
    return process


@pytest.mark.root
@pytest.mark.parametrize("arguments", [["--who"], ["--tree"], []])
def test_a_process_that_calls_exec_is_not_said_to_be_gone(arguments, tmp_path):
    """It goes on, as another program: ps lists it."""
    program = tmp_path / "again"
    program.write_text('#!/bin/sh\nexec "$0"\n')
    program.chmod(0o755)
    with subprocess.Popen([program]) as process:
        try:
            said = run("report", *arguments, process.pid)
            while not said.returncode:  # it was quicker than the process
                said = run("report", *arguments, process.pid)
        finally:
            process.kill()
    text = said.stderr.decode()
    assert "called exec" in text
    assert "group" not in text or "--tree" in arguments
