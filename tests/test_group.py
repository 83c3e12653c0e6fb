"""Processes counted as one, against sets of frames."""

import os
import select

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import kinds
import memory
import oracle_frames
import runas
from features import need_page_counts
from linux import PAGE
from needs import need
from oracle_group import Twin
from victim import Victim, parted

pytestmark = pytest.mark.root

#: What each process does with its memory after it was shared.
KINDS = [
    *("touched", "sparse", "zero", "huge", "huge_zero", "merged", "protected"),
    *("file_shared", "file_copied", "shared_anonymous", "memfd", "memfd_private"),
    *("hugetlb", "hugetlb_shared"),
]
READ_ONLY = {"protected", "hugetlb", "hugetlb_shared", "merged"}
TRIES = 30


def while_still(pids, ask, agree):
    """Have `agree` compare the twin with what `ask` says, in a moment in which nothing changes.

    Other programs map the same libraries, and come and go meanwhile. What the twin says before and
    after shows most of that; a program that came and went in between is known by a second try.
    """
    for left in reversed(range(TRIES)):
        before, answer = Twin(pids), ask()
        if before != Twin(pids):
            continue
        try:
            return agree(before, answer)
        except AssertionError:
            if not left:
                raise
    return need(False, "processes that map the same libraries all the time")


def check(group):
    """Hold all that a group says of what is mapped against the twin."""
    need_page_counts()

    def agree(twin, answers):
        rows, total, overlap = answers
        for row, wanted in zip(rows, twin.usage(), strict=True):
            same(row, wanted)
        same(total, twin.total())
        assert total["changed"] == 0
        assert overlap.tolist() == twin.overlap()
        assert overlap.dtype == np.uint64
        return total

    return while_still(group.pids, lambda: (group.usage(), group.total(), group.overlap()), agree)


def same(row, wanted):
    """Shares of a page are rounded down, by less than a byte for each."""
    for name, value in wanted.items():
        if name == "pss":
            assert value - row["rss"] / PAGE - 1 < row[name] <= value + 1, name
        else:
            assert row[name] == value, name


@pytest.fixture
def victim():
    """Another process, which maps nothing that anybody else maps."""
    with parted() as victim:
        yield victim


@pytest.fixture
def family(victim, request):
    """A victim with memory of a kind, of which two children have a copy, and it has changed some.

    Gives the memory and the three pids.
    """
    # KSM merges no more than 256 pages into one, and the others have pages to write and to drop.
    pages = 200 if request.param == "merged" else 3 * memory.huge_page_pages()
    made = victim.make(request.param, pages)
    pids = victim.pid, victim.fork(), victim.fork()
    if request.param not in READ_ONLY:
        made.do("write", 10, 700, 3)
        made.do("drop", 100, 200)
        made.do("read", 120, 140)
    return made, pids


@pytest.mark.parametrize("family", KINDS, indirect=True)
def test_forked(family):
    made, pids = family
    with fpm.Group(pids) as group:
        check(group)

        def agree(twin, masks):
            for pid, found in zip(pids, masks, strict=True):
                assert found.tolist() == twin.sharers(pid, made.start, made.end)
                assert found.dtype == np.uint16

        # the kernel may move a page meanwhile, which then is in no frame
        while_still(pids, lambda: [group.sharers(pid, made.start, made.end) for pid in pids], agree)


@pytest.mark.parametrize("family", KINDS, indirect=True)
def test_with_an_outsider(family):
    """What a process maps that is not in the group is not unique."""
    _, pids = family
    for inside in pids[1:], pids[:1]:
        with fpm.Group(inside) as group:
            check(group)


@pytest.mark.parametrize("kind", ["touched", "huge", "memfd"])
def test_unique(victim, kind):
    """The memory is unique as long as all who map it are in the group."""
    made = victim.make(kind, 2 * memory.huge_page_pages())
    size = made.end - made.start
    pids = victim.pid, victim.fork()
    with fpm.Group(pids) as both, fpm.Group(pids[:1]) as one:
        all_of_it, part = check(both), check(one)
    assert all_of_it["union"] - all_of_it["unique"] < size <= all_of_it["unique"]
    assert part["union"] - part["unique"] >= size


def test_mapped_three_times():
    """A heap that a JVM maps three times counts once, but in rss."""
    with parted() as victim:
        before = fpm.Group([victim.pid]).total()
        many = victim.make("memfd", 1000)
        victim.ask("again", many.number, 2)
        with fpm.Group([victim.pid]) as group:
            total = check(group)
            (row,) = group.usage()

            def agree(_, sharers):
                assert set(sharers) == {1}

            # as in test_forked: a page that is moved meanwhile is in no frame
            while_still(group.pids, lambda: group.sharers(victim.pid, many.start, many.end), agree)
    assert total["rss"] - before["rss"] >= 3000 * PAGE
    # the interpreter has grown a little
    assert 1000 * PAGE <= total["union"] - before["union"] < 1800 * PAGE
    assert row["uss"] % PAGE == 0
    assert row["uss"] == total["unique"]


def test_smaps_rollup(victim):
    """The kernel rounds the share of each page down to 1/4096 of a byte, and the sum to a KiB."""
    victim.make("file_copied", 300)
    made = victim.make("touched", 3000)
    pids = victim.pid, victim.fork(), victim.fork()
    made.do("write", 0, 1000)

    def rollups():
        found = []
        for pid in pids:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                fields = {line.split()[0]: line.split()[1] for line in list(file)[1:]}
            found.append([int(fields[name]) * 1024 for name in ("Rss:", "Pss:")])
        return found

    def agree(_, answers):
        for row, (rss, pss) in zip(*answers, strict=True):
            assert row["rss"] == rss
            assert abs(int(row["pss"]) - pss) <= 1024 + rss / PAGE

    with fpm.Group(pids) as group:
        while_still(pids, lambda: (group.usage(), rollups()), agree)


def test_what_was_unique_is_mapped_no_more():
    """The pages of a file that is held open stay when who mapped it has ended."""
    with parted() as victim:
        made = victim.make("memfd", 200)
        pids = victim.pid, victim.fork()
        pfns = fpm.PageMap(victim.pid).read(made.start, made.end).pfn
        child = os.pidfd_open(pids[1])
        held = open_memfd(victim.pid)
        with fpm.Group(pids) as group, fpm.Frames() as frames:
            before = frames.mapcounts(pfns)
            total = check(group)
            victim.kill()
            select.select([child], [], [], 60)
            assert before.max() <= 2
            assert total["unique"] >= 200 * PAGE
            counts = frames.mapcounts(pfns)
            with backed.mapped(os.dup(held), 200) as again:
                again.read()
                # the kernel moves pages, and what it moved them from may be mapped by anybody
                stayed = pfns == oracle_frames.pfns(again.start, again.end)
            assert stayed.any()
            assert (counts[stayed] == 0).all()
            assert os.fstat(held).st_blocks * 512 == 200 * PAGE
            with pytest.raises(ProcessLookupError, match="all processes of the group have ended"):
                group.total()
            assert group.ended == pids
            assert group.pids == ()
            with pytest.raises(ProcessLookupError, match=f"process {pids[0]} has ended"):
                group.sharers(pids[0], made.start, made.end)
            with pytest.raises(ProcessLookupError, match="all processes of the group have ended"):
                group.overlap()
        os.close(child)
        os.close(held)


def open_memfd(pid):
    """Open the memfd that a process has open."""
    directory = f"/proc/{pid}/fd"
    names = (f"{directory}/{name}" for name in os.listdir(directory))
    return os.open(next(n for n in names if "memfd:" in os.readlink(n)), os.O_RDWR)


def test_one_ends(victim):
    made = victim.make("touched", 500)
    child = victim.fork()
    with Victim() as other, fpm.Group([victim, other, child]) as group:
        assert group.pids == (victim.pid, other.pid, child)
        other.kill()
        assert [row["pid"] for row in group.usage()] == [victim.pid, child]
        assert group.ended == (other.pid,)
        assert group.overlap().shape == (2, 2)
        assert len(group) == 2
        with pytest.raises(ProcessLookupError, match=f"process {other.pid} has ended"):
            group.sharers(other.pid, made.start, made.end)
        check(group)


def test_one_becomes_another_program(victim):
    with Victim() as other, fpm.Group([victim, other]) as group:
        other.exec()
        total = group.total()
        assert group.ended == (other.pid,)
        assert total["rss"] < 2 * fpm.Group([victim]).total()["rss"]


def test_this_process_itself():
    with memory.touched(700), fpm.Group([os.getpid()]) as group:
        total = group.total()
    assert total["union"] <= total["rss"]
    with open("/proc/self/statm") as file:
        rss = int(file.read().split()[1]) * PAGE
    assert 0.7 * rss < total["union"] < 1.3 * rss


def test_kinds_are_known():
    assert set(KINDS) <= set(kinds.ALL)


def test_other_users_processes(victim):
    def ask(pid):
        with pytest.raises(PermissionError, match=f"/proc/{pid}"):
            fpm.Group([pid])

    runas.as_nobody(ask, victim.pid)
