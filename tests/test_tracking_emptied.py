"""Pages that were emptied are told, though the kernel keeps their protection."""

import os
import time

import pytest

import backed
import fastpagemap as fpm
import hugetlb
import linux
import runas
from fastpagemap.tracking.emptied import Emptied
from interruption import disturbed, interrupted
from linux import PAGE
from tracked import codes, numbers, pages_of

pytestmark = pytest.mark.usefixtures("_write_tracking")
PAGES = 16
PUNCH = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE


def remove(made, first, last):
    made.advise(linux.MADV_REMOVE, first, last)


def punch(made, first, last):
    size = (last - first) * PAGE
    linux.call("fallocate", made.fd, PUNCH, first * PAGE, size)


def cut(made, first, last):
    """Of the last pages, which come back empty."""
    assert last == made.pages
    os.ftruncate(made.fd, first * PAGE)
    os.ftruncate(made.fd, last * PAGE)


def cut_off(made, first, last):
    assert last == made.pages
    os.ftruncate(made.fd, first * PAGE - 100)


WAYS = [remove, punch, cut, cut_off]
ASK = {
    "written": lambda tracker, made: numbers(tracker.written()),
    "regions": lambda tracker, made: pages_of(tracker.regions(reset=True), made),
}


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [backed.memfd, backed.posix])
def test_told_once(kind, way, ask):
    with kind(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        told = list(range(12, PAGES))
        way(made, 12, PAGES)
        assert numbers(tracker.written(reset=False)) == told
        assert pages_of(tracker.regions(), made) == told
        made.write(3, 4, value=5)
        assert ASK[ask](tracker, made) == [3, *told]
        assert ASK[ask](tracker, made) == []
        if way is not cut_off:
            made.read()
            assert ASK[ask](tracker, made) == []
            made.write(13, 14)
            assert ASK[ask](tracker, made) == [13]
            way(made, 12, PAGES)
            assert ASK[ask](tracker, made) == told
            assert ASK[ask](tracker, made) == []


def cut_in_part(made, first, last):
    """A hole in which no whole page is."""
    linux.call("fallocate", made.fd, PUNCH, first * PAGE + 100, PAGE)


def write_call(made, first, last):
    os.pwrite(made.fd, b"new" * (last - first), first * PAGE)


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("way", [remove, punch, cut, cut_in_part, write_call])
def test_all_is_told_where_only_the_time_tells(way, ask):
    everything = list(range(PAGES))
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        for _ in range(2):
            way(made, 12, PAGES)
            made.read()
            assert numbers(tracker.written(reset=False)) == everything
            assert pages_of(tracker.regions(), made) == everything
            assert ASK[ask](tracker, made) == everything
            assert ASK[ask](tracker, made) == []
            made.write(5, 6, value=7)
            assert ASK[ask](tracker, made) == [5]
            assert ASK[ask](tracker, made) == []


def test_what_was_empty_before_is_not_told():
    with backed.memfd_sparse(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        assert numbers(tracker.written()) == []
        punch(made, 0, PAGES)
        assert numbers(tracker.written()) == list(range(0, PAGES, 3))


def test_a_file_that_was_not_changed_for_long():
    """Its times tell when to look again."""
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        for page in (3, 7):
            tracker.written()
            time.sleep(0.2)  # a tick of the clock, and more
            assert numbers(tracker.written()) == []
            assert numbers(tracker.written()) == []
            remove(made, page, page + 1)
            assert numbers(tracker.written()) == [page]


def test_a_file_whose_time_of_modification_was_set_back():
    """As `cp -p` and `rsync` do."""
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        os.utime(made.fd, (1, 1))
        tracker.written()
        time.sleep(0.2)  # a tick of the clock, and more: an answer relies on the times
        assert numbers(tracker.written()) == []
        remove(made, 3, 4)
        os.utime(made.fd, (1, 1))
        assert numbers(tracker.written()) == [3]
        assert numbers(tracker.written()) == []


def test_beside_other_memory():
    """A span of several mappings, of which one is a part of a file."""
    with backed.memfd(PAGES) as made, backed.memfd(8, offset=5) as other:
        made.map(backed.FILE_SHARED, fd=other.fd, offset=7, first=4, last=8)
        made.unmap(12, 14)
        made.map(backed.SHARED, first=12, last=14)
        with fpm.WriteTracker(made.at(1), made.at(15)) as tracker:
            size = 2 * PAGE
            linux.call("fallocate", other.fd, PUNCH, 8 * PAGE, size)
            punch(made, 4, 11)
            assert numbers(tracker.written()) == [4, 5, 7, 8, 9]


def test_dropped_from_this_mapping_alone():
    """What the file still has is not changed, whoever has taken it out of this page table."""
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.drop()
        assert numbers(tracker.written()) == []
        made.advise(linux.MADV_PAGEOUT)
        remove(made, 5, 6)
        assert numbers(tracker.written()) == [5]


def test_wherever_a_handler_may_run():
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        points = 0
        while True:
            made.write(value=points % 99)
            tracker.written()
            punch(made, 3, 6)
            if not interrupted(tracker.written, codes("written"), points):
                break
            assert numbers(tracker.written()) == [3, 4, 5]
            points += 1
        assert points > 10
        assert numbers(tracker.written()) == []


@pytest.mark.parametrize("ask", ASK)
def test_a_change_of_the_file_during_an_answer_is_told_afterwards(ask):
    """Though the answer tells of a store: that cannot be why the file has changed since then."""
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        # From when the pages are looked at.
        late = codes(ask) - {getattr(fpm.WriteTracker, ask).__code__}
        late |= {fpm.WriteTracker._asks_again.__code__, Emptied.explain.__code__}
        late -= {getattr(fpm.WriteTracker, name).__code__ for name in ("_answer", "_need_open")}
        points, acted = 0, True
        while acted:
            made.write(3, 4, value=points % 99 + 1)
            told, acted = disturbed(
                lambda: ASK[ask](tracker, made), late, points, lambda: write_call(made, 7, 8)
            )
            assert told == [3]
            assert ASK[ask](tracker, made) == (list(range(PAGES)) if acted else [])
            points += 1
        assert points > 5


def told_by_somebody():
    with backed.memfd(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        remove(made, 3, 5)
        return numbers(tracker.written())


def test_as_nobody():
    assert runas.as_nobody(told_by_somebody) == [3, 4]


@pytest.mark.root
@pytest.mark.parametrize("ask", ASK)
def test_hugetlb_dropped(ask):
    with hugetlb.hugetlb(4 * 512) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        size = made.pages // 4
        dropped = list(range(size, 2 * size))
        made.drop(size, 2 * size)
        assert numbers(tracker.written(reset=False)) == dropped
        assert pages_of(tracker.regions(), made) == dropped
        made.write(2 * size, 2 * size + 1)
        assert len(tracker.regions()) == 1
        assert ASK[ask](tracker, made) == list(range(size, 3 * size))
        assert ASK[ask](tracker, made) == []
        made.read(size, size + 1)
        assert numbers(tracker.written()) == []
        made.write(size, size + 1)
        assert ASK[ask](tracker, made) == dropped
        made.drop(size, 2 * size)
        points = 0
        while interrupted(lambda: ASK[ask](tracker, made), codes(ask), points):
            assert numbers(tracker.written(reset=False)) == dropped
            points += 1
        assert points > 5
        assert numbers(tracker.written()) == []


@pytest.mark.root
def test_hugetlb_emptied_is_told_later_if_regions_do_not_ask_for_it():
    size = linux.meminfo("Hugepagesize") // PAGE
    present = fpm.Category.WRITTEN | fpm.Category.PRESENT
    with hugetlb.hugetlb_memfd(4 * size) as made:
        made.write()
        with fpm.WriteTracker(made.start, made.end) as tracker:
            made.write(0, 1, value=2)
            punch(made, size, 2 * size)
            found = tracker.regions(reset=True, mask=present)
            assert pages_of(found, made) == list(range(size))
            assert numbers(tracker.written()) == list(range(size, 2 * size))
            assert numbers(tracker.written()) == []
