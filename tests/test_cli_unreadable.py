"""Processes that are not in a report: how many, which, and why."""

import errno
import os

import pytest

import linux
import runas
from commandline import run
from fastpagemap.cli import collect
from fastpagemap.model.errors import UnsupportedError
from fastpagemap.report import unreadable
from fastpagemap.report.report import Unreadable
from victim import Victim

DENIED = os.strerror(errno.EACCES)
#: Each lets somebody read the memory of others: CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON.
READING = 19, 21, 38


def test_those_that_may_not_be_read_are_counted_alone():
    some = [Unreadable(pid, "a", f"{DENIED} (needs more)") for pid in range(100)]
    assert [*unreadable.lines(some)] == [f"100 processes could not be read: {DENIED} (needs more)"]
    assert [*unreadable.lines([])] == []


def test_others_are_named():
    some = [Unreadable(1, "a", DENIED), Unreadable(2, "b\n\x1b[2J", "no answer")]
    assert [*unreadable.lines(some)] == [
        f"2 processes could not be read: 1 of them: {DENIED}; 1 of them: no answer",
        r"process 2 (b\n\x1b[2J): no answer",
    ]


def test_not_more_than_a_screen_of_them():
    some = [Unreadable(pid, "a", "no answer") for pid in range(100)]
    lines = [*unreadable.lines(some)]
    assert len(lines) == unreadable.MAX_NAMED + 2
    assert lines[-1] == "80 more are in what --json prints"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsupportedError(errno.EOPNOTSUPP, "what is missing"), "what is missing"),
        (MemoryError(), "not enough memory"),
        (MemoryError("4 pages"), "not enough memory: 4 pages"),
        (OverflowError("too large"), "unexpected OverflowError: too large"),
    ],
)
@pytest.mark.parametrize("group", [None, "path", "kind"])
def test_whatever_one_process_meets_is_noted(victim, monkeypatch, error, reason, group):
    """The others are read all the same."""
    real, mine = collect.open_process, os.getpid()

    def refuse(pid):
        if pid == mine:
            raise error
        return real(pid)

    monkeypatch.setattr(collect, "open_process", refuse)
    for timeout in (None, 20.0):
        found = collect.collect_all([mine, victim.pid], group, timeout=timeout)
        assert [(one.pid, one.reason) for one in found.unreadable] == [(mine, reason)]
        assert found.total("size") > 0
        if group is None:
            assert found.labels["pid"] == [victim.pid]


def test_paths_have_a_budget(victim, monkeypatch):
    """A process may map files of paths as long as it likes: they are kept until the end."""
    whole = collect.collect_all([victim.pid], "path").labels["path"]
    monkeypatch.setattr(collect, "MAX_PATHS_SIZE", sum(map(len, whole)))
    found = collect.collect_all([victim.pid, os.getpid()], "path", timeout=20.0)
    assert found.labels["path"] == whole
    assert [(one.pid, one.reason) for one in found.unreadable] == [
        (os.getpid(), "not enough memory: its paths are too long")
    ]


def run_unprivileged(*arguments):
    """Run the command as root, but one that may not read the processes of other users."""

    def without():
        for capability in READING:
            linux.call("prctl", linux.PR_CAPBSET_DROP, capability)
        return run(*arguments)

    return runas.in_child(without)


@pytest.mark.root
def test_process_ids_that_were_typed_are_listed():
    """There are only as many of them as someone typed."""
    pytest.importorskip("click")
    with Victim(0) as own, Victim(runas.NOBODY) as one, Victim(runas.NOBODY) as two:
        said = run_unprivileged("report", own.pid, one.pid, two.pid)
        assert said.returncode == 0
        pids = ", ".join(map(str, sorted([one.pid, two.pid])))
        assert f"2 processes could not be read ({pids}): {DENIED}" in said.stderr.decode()
        said = run_unprivileged("report", two.pid, one.pid)
        assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
        assert f"2 processes could not be read ({pids}): {DENIED}" in said.stderr.decode()


@pytest.mark.root
def test_process_ids_that_were_to_be_recorded_are_listed(tmp_path):
    pytest.importorskip("pyarrow")
    with Victim(0) as own, Victim(runas.NOBODY) as one, Victim(runas.NOBODY) as two:
        options = "--count", 1, "-o", tmp_path
        said = run_unprivileged("record", own.pid, two.pid, one.pid, *options)
        assert said.returncode == 0
        pids = ", ".join(map(str, sorted([one.pid, two.pid])))
        assert f"2 processes could not be read ({pids}): {DENIED}" in said.stderr.decode()
        said = run_unprivileged("record", one.pid, *options)
        assert said.returncode == 1
        assert f"1 process could not be read ({one.pid}): {DENIED}" in said.stderr.decode()


def test_of_many_typed_process_ids_a_few_are_listed():
    some = [Unreadable(pid, "a", DENIED) for pid in range(1, 21)]
    few = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 6 more"
    expected = [f"20 processes could not be read ({few}): {DENIED}"]
    assert [*unreadable.lines(some, range(1, 19))] == expected
    some[0] = Unreadable(1, "a", "no answer")
    assert unreadable.summary(some, [1, 2]) == (
        f"20 processes could not be read: 1 of them (1): no answer; 19 of them (2): {DENIED}"
    )
