"""What a group has in swap: private memory by its slot, shared memory by file and page."""

import pytest

import fastpagemap as fpm
from linux import PAGE
from oracle_group import slots
from victim import Victim

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = 300


def pages(row, *names):
    """Fields of a row, in pages."""
    return [round(float(row[name]) / PAGE, 2) for name in names]


def of_slots(*pids):
    """How many slots each of some processes has, all together, and each once."""
    found = [slots(pid) for pid in pids]
    return [each.total() for each in found], len(set().union(*found))


@pytest.fixture
def private(victim):
    """A victim and a child of it that share the slots of private memory."""
    made = victim.make("touched", PAGES)
    victim.pageout(made)
    return made, (victim.pid, victim.fork())


@pytest.fixture
def shared(victim):
    """A victim and a child of it that share a memfd, all of it in swap."""
    made = victim.make("memfd", PAGES)
    victim.pageout(made)
    return made, (victim.pid, victim.fork())


def test_private(private):
    _, pids = private
    each, once = of_slots(*pids)
    assert once >= PAGES
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == [sum(each), once, once]
    for row, own in zip(rows, each, strict=True):
        assert pages(row, "swapped", "swapped_uss") == [own, 0]
        assert pages(row, "swapped_pss") == [own / 2]


def test_private_written_again(private):
    """What one has written since is in memory again, and its slot the other's alone."""
    made, pids = private
    made.do("write", 0, 100)
    each, once = of_slots(*pids)
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == [sum(each), once, once]
    assert pages(rows[1], "swapped_uss") == [100]
    assert pages(rows[0], "swapped_uss") == [0]
    assert pages(rows[1], "swapped_pss") == [(each[1] - 100) / 2 + 100]


def test_private_with_an_outsider(private):
    made, pids = private
    made.do("write", 0, 100)
    (own,), once = of_slots(pids[1])
    with fpm.Group(pids[1:]) as group:
        total, (row,) = group.total(), group.usage()
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == [own, once, 100]
    assert pages(row, "swapped_pss", "swapped_uss") == [(own - 100) / 2 + 100, 100]


def test_shared(shared):
    _, pids = shared
    each, once = of_slots(*pids)
    with fpm.Group(pids) as group:
        total, rows = group.total(), group.usage()
    wanted = [sum(each) + 2 * PAGES, once + PAGES, once + PAGES]
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == wanted
    for row, own in zip(rows, each, strict=True):
        assert pages(row, "swapped", "swapped_uss") == [own + PAGES, 0]
        assert pages(row, "swapped_pss") == [(own + PAGES) / 2]


def test_shared_with_an_outsider(shared):
    _, pids = shared
    (own,), _ = of_slots(pids[0])
    with fpm.Group(pids[:1]) as group:
        total, (row,) = group.total(), group.usage()
    assert pages(total, "swapped", "swapped_union") == [own + PAGES] * 2
    assert pages(total, "swapped_unique") == [0]
    assert pages(row, "swapped_pss", "swapped_uss") == [(own + PAGES) / 2, 0]


def test_shared_and_mapped_twice(victim):
    """Each page of the file counts once, but in `swapped`."""
    made = victim.make("memfd", PAGES)
    victim.pageout(made)
    victim.ask("again_untouched", made.number, 2)
    (own,), _ = of_slots(victim.pid)
    with fpm.Group([victim]) as group:
        total, (row,) = group.total(), group.usage()
    once = own + PAGES
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == [own + 3 * PAGES, once, once]
    assert pages(row, "swapped_pss", "swapped_uss") == [once, once]


def test_files_that_look_alike(victim):
    """Two files of shared memory are two, though all are on the kernel's own tmpfs."""
    kinds = "memfd", "shared_anonymous", "sysv", "sysv"
    for kind in kinds:
        victim.pageout(victim.make(kind, PAGES))
    (own,), _ = of_slots(victim.pid)
    with fpm.Group([victim]) as group:
        total = group.total()
    wanted = own + len(kinds) * PAGES
    assert pages(total, "swapped", "swapped_union", "swapped_unique") == [wanted] * 3


def test_ended_meanwhile(private):
    _, pids = private
    with Victim() as other, fpm.Group([*pids, other.pid]) as group:
        other.kill()
        each, once = of_slots(*pids)
        assert pages(group.total(), "swapped", "swapped_union") == [sum(each), once]
        assert group.ended == (other.pid,)
