"""Writes tracked by userfaultfd, against the contents of the memory itself."""

import mmap
import random
import threading

import numpy as np
import pytest

import fastpagemap as fpm
import hugetlb
import linux
import memory
import runas
import swap
from linux import PAGE
from needs import Absent, need
from tracked import ARMS_UNTOUCHED, KINDS, PAGES, array, numbers, tracked

pytestmark = pytest.mark.usefixtures("_write_tracking")


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_what_was_written(kind):
    with tracked(KINDS[kind]) as (made, tracker):
        assert numbers(tracker.written()) == []
        made.read()
        told = numbers(tracker.written())
        if kind == "untouched" and not ARMS_UNTOUCHED:
            need(not told, "reads of armed memory without page tables untold", Absent)
        assert told == []
        some = sorted(random.Random(kind).sample(range(PAGES), 40))
        for page in some:
            made.write(page, page + 1, value=7)
        assert numbers(tracker.written(reset=False)) == some
        assert numbers(tracker.written()) == some
        assert numbers(tracker.written()) == []
        made.write(some[0], some[0] + 1, value=8)
        assert numbers(tracker.written()) == some[:1]


@pytest.mark.parametrize("kind", ["touched", "shared_anonymous"])
def test_writes_of_threads_against_the_contents(kind):
    """Over many rounds, while others write: each page whose content changed was told, once.

    But all of shared memory after a write during the answer before.
    """
    with tracked(KINDS[kind]) as (made, tracker):

        def answer():
            found = tracker.written()
            return np.zeros(PAGES, bool) if kind != "touched" and found.all() else found

        data = array(made).reshape(PAGES, PAGE)
        told = np.zeros(PAGES, int)
        before = data.copy()

        def write(seed):
            chance = random.Random(seed)
            for _ in range(3000):
                data[chance.randrange(PAGES // 2), chance.randrange(PAGE)] ^= seed

        threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2, 4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            told += answer()
        for thread in threads:
            thread.join()
        told += answer()
        changed = (data != before).any(axis=1)
        assert changed.any()
        assert (told[changed] > 0).all()
        assert not told[PAGES // 2 :].any()
        assert not tracker.written().any()


def test_each_write_is_told_to_one_of_two_threads():
    with tracked(memory.touched, 64 * PAGES) as (made, tracker):
        made.write(value=3)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(tracker.written())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (np.sum(answers, axis=0) == 1).all()


def test_a_system_call_writes():
    with tracked(memory.touched) as (made, tracker), open("/dev/zero", "rb", buffering=0) as zero:
        view = memoryview(array(made))
        assert zero.readinto(view[5 * PAGE + 1 : 7 * PAGE + 1]) == 2 * PAGE
        assert numbers(tracker.written()) == [5, 6, 7]


def test_pages_dropped_are_written():
    with tracked(memory.touched) as (made, tracker):
        made.drop(3, 6)
        assert numbers(tracker.written()) == [3, 4, 5]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["touched", "shared_anonymous", "memfd"])
def test_swapped_out_and_in_again(kind):
    with swap.zram_swap(64 << 20, priority=32500), tracked(KINDS[kind]) as (made, tracker):
        made.write(10, 20, value=9)
        made.advise(linux.MADV_PAGEOUT)
        made.read(0, PAGES // 2)
        assert numbers(tracker.written()) == list(range(10, 20))
        made.write(290, 295, value=9)
        made.write(100, 101, value=9)
        assert numbers(tracker.written()) == [100, *range(290, 295)]


def test_a_huge_page_is_split_by_a_write():
    pages = memory.huge_page_pages()
    with tracked(memory.huge, 4 * pages) as (made, tracker), fpm.PageMap() as pm:
        assert numbers(tracker.written()) == []
        made.write(pages + 7, pages + 8, value=5)
        assert numbers(tracker.written()) == [pages + 7]
        huge = pm.regions(made.start, made.end, mask=fpm.Category.HUGE, returns=0)
        assert huge[["start", "end"]].tolist() == [
            (made.start, made.at(pages)),
            (made.at(2 * pages), made.end),
        ]


@pytest.mark.root
@pytest.mark.parametrize("make", [hugetlb.hugetlb, hugetlb.hugetlb_shared, hugetlb.hugetlb_memfd])
def test_hugetlb(make):
    with make(4 * 512) as made:
        size = linux.meminfo("Hugepagesize") // PAGE
        with fpm.WriteTracker(made.start, made.end) as tracker:
            assert numbers(tracker.written()) == []
            made.write(size + 3, size + 4, value=4)
            assert numbers(tracker.written()) == list(range(size, 2 * size))
            assert numbers(tracker.written()) == []
        with pytest.raises(ValueError, match="within a hugetlb page"):
            fpm.WriteTracker(made.start + PAGE, made.end)


def test_an_array_and_its_copy_in_a_child():
    """The child writes without being told, or telling; the parent goes on."""
    data = np.ones(PAGES * PAGE, np.uint8)
    start, end = fpm.span(data)

    def page(index):
        return (data[index * PAGE :].ctypes.data - start) // PAGE

    def told(tracker):
        # others have memory on the first and the last page
        return [page for page in numbers(tracker.written()) if 0 < page < len(tracker) - 1]

    with fpm.WriteTracker(start, end) as tracker:
        data[5 * PAGE] = 3

        def child():
            data[100 * PAGE :: PAGE] = 7
            with pytest.raises(ValueError, match="make another here"):
                tracker.written()
            with fpm.WriteTracker(start, end) as own:
                data[9 * PAGE] = 3
                found = told(own)
            tracker.close()
            return found

        assert runas.in_child(child) == [page(9)]
        assert told(tracker) == [page(5)]
        data[50 * PAGE] = 3
        assert told(tracker) == [page(50)]


def test_regions_and_out():
    with tracked(memory.touched) as (made, tracker):
        made.write(7, 9, value=2)
        found = tracker.regions(mask=fpm.Category.WRITTEN, returns=fpm.Category.WRITTEN)
        assert found[["start", "end"]].tolist() == [(made.at(7), made.at(9))]
        out = np.ones(PAGES, bool)
        assert tracker.written(out=out) is out
        assert numbers(out) == [7, 8]
        made.write(7, 9, value=3)
        for wrong in (np.ones(PAGES - 1, bool), np.ones(PAGES, np.uint8)):
            with pytest.raises(ValueError, match="out"):
                tracker.written(out=wrong)
        assert numbers(tracker.written()) == [7, 8]


def test_more_regions_than_one_call_gives():
    """Every other page of more than the kernel collects, over more than one range."""
    pages = 40_000
    with tracked(memory.touched, pages) as (made, tracker):
        array(made)[:: 2 * PAGE] = 9
        assert (tracker.written() == (np.arange(pages) % 2 == 0)).all()
        assert not tracker.written().any()


def test_mapped_twice():
    """A write through another mapping of the same memory is not one to the span."""
    with mmap.mmap(-1, 4 * PAGE) as page, fpm.WriteTracker(*fpm.span(page)) as tracker:
        page[PAGE] = 1
        assert numbers(tracker.written()) == [1]


def test_clear_soft_dirty():
    with memory.touched(20) as made, fpm.PageMap() as pm:
        if not fpm.capabilities().soft_dirty:
            with pytest.raises(fpm.UnsupportedError, match="CONFIG_MEM_SOFT_DIRTY"):
                pm.clear_soft_dirty()
            return
        pm.clear_soft_dirty()
        made.write(3, 5, value=2)
        assert numbers(pm.soft_dirty(made.start, made.end)) == [3, 4]
