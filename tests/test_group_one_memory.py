"""Processes that share all of their memory, as between vfork and exec: counted as one."""

import contextlib
import os
import select
import signal

import pytest

import fastpagemap as fpm
import linux
import oracle
import oracle_group
import runas
from compare import while_still
from fastpagemap._kernel.descriptor import compare_memory
from linux import PAGE
from needs import Absent, need
from victim import Victim

PAGES = 1000


def can_compare():
    try:
        return compare_memory(os.getpid(), os.getpid()) == 0
    except OSError:
        return False


@pytest.fixture
def twins():
    """Memory of a victim, the pid of that, and of a child that has the very same memory."""
    need(can_compare(), "kcmp", Absent)
    with Victim(runas.NOBODY if os.geteuid() == 0 else None) as victim:
        made = victim.make("touched", PAGES)
        child = victim.ask("clone")
        yield made, (victim.pid, child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def sharers(group, pid, made):
    """How many of a group map the pages; one that the kernel moves meanwhile is in no frame."""
    span = made.start, made.end
    return set(while_still(lambda: group.sharers(pid, *span), lambda: oracle.words(*span, pid))[1])


@pytest.mark.root
def test_counted_once(twins):
    made, pids = twins
    with fpm.Group(pids) as both, fpm.Group(pids[:1]) as one:
        own, total = one.total(), both.total()
        names = "rss", "union", "unique"
        assert [total[name] for name in names] == [own[name] for name in names]
        assert total["unique"] >= PAGES * PAGE
        assert abs(int(total["pss"]) - int(own["pss"])) < PAGES * PAGE / 2  # others come and go
        first, second = both.usage()
        assert (first["pid"], second["pid"]) == pids
        assert first["uss"] == second["uss"] >= PAGES * PAGE
        assert (both.overlap() == one.overlap()[0, 0]).all()
        assert sharers(both, pids[1], made) == {2}
        assert sharers(one, pids[0], made) == {1}


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_swap(twins):
    made, pids = twins
    made.victim.pageout(made)
    slots = len(set(oracle_group.slots(pids[0])))
    assert slots >= PAGES
    with fpm.Group(pids) as group:
        total = group.total()
        assert [row["swapped"] for row in group.usage()] == [slots * PAGE] * 2
    assert total["swapped"] == total["swapped_union"] == slots * PAGE


def test_ordinary_user(twins):
    _, pids = twins

    def ask():
        with fpm.Group(pids) as group:
            assert group.usage()["rss"].tolist() == [group.total()["rss"]] * 2

    runas.as_nobody(ask)


@pytest.mark.root
def test_others_are_told_apart(twins):
    """A fork has its own memory."""
    made, pids = twins
    forked = made.victim.fork()
    linux.wait_until_asleep(forked)
    with Victim() as other, fpm.Group([forked, *pids, other.pid]) as group:
        overlap, total, rows = group.overlap(), group.total(), group.usage()
    assert total["rss"] == sum(int(rows["rss"][number]) for number in (0, 1, 3))
    assert overlap[0, 1] == overlap[0, 2] < overlap[1, 2] == overlap[1, 1]


@pytest.mark.root
@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
def test_one_ends(twins, number):
    """The other one has the memory on."""
    made, pids = twins
    with fpm.Group(pids) as group:
        before = group.total()
        pidfd = os.pidfd_open(pids[number])
        os.kill(pids[number], signal.SIGKILL)
        select.select([pidfd], [], [], 60)
        os.close(pidfd)
        assert group.total()["union"] == before["union"]
        assert group.ended == (pids[number],)
        assert sharers(group, pids[1 - number], made) == {1}
