"""Writes tracked by userfaultfd, against the contents of the memory itself."""

import contextlib
import ctypes
import errno
import gc
import mmap
import os
import random
import resource
import threading

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import hugetlb
import linux
import memory
import runas
import seccomp
import swap
from linux import PAGE
from needs import Absent, need

PAGES = 300
KINDS = {
    "touched": memory.touched,
    "untouched": memory.untouched,
    "shared_anonymous": backed.shared_anonymous,
    "memfd": backed.memfd,
    "file_shared": backed.file_shared,
    "file_private": backed.file_private,
}


@pytest.fixture(autouse=True)
def _needs(request):
    if "without" not in request.node.name:
        need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)


@contextlib.contextmanager
def tracked(make, pages=PAGES):
    with make(pages) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        yield made, tracker


def numbers(mask):
    return np.flatnonzero(mask).tolist()


def array(made):
    """The bytes of a memory as a writable array."""
    return np.frombuffer((ctypes.c_char * (made.pages * PAGE)).from_address(made.start), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_what_was_written(kind):
    with tracked(KINDS[kind]) as (made, tracker):
        assert numbers(tracker.written()) == []
        made.read()
        told = numbers(tracker.written())
        if kind == "untouched" and os.uname().release.startswith("6.18.15"):
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
    """Over many rounds, while others write: each page whose content changed was told, once."""
    with tracked(KINDS[kind]) as (made, tracker):
        data = array(made).reshape(PAGES, PAGE)
        told, done = np.zeros(PAGES, int), threading.Event()
        before = data.copy()

        def write(seed):
            chance = random.Random(seed)
            for _ in range(3000):
                data[chance.randrange(PAGES // 2), chance.randrange(PAGE)] ^= seed

        threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2, 4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            told += tracker.written()
        for thread in threads:
            thread.join()
        done.set()
        told += tracker.written()
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


@pytest.mark.root
def test_without_privileges():
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)

    def mine():
        with tracked(memory.touched) as (made, tracker):
            made.write(3, 5, value=2)
            return numbers(tracker.written())

    assert runas.as_nobody(mine) == [3, 4]


def protected(made):
    """Which pages are write-protected, by their entries; whether their mapping is watched."""
    with fpm.PageMap() as pm:
        return pm.read(made.start, made.end).uffd_wp.any()


@pytest.mark.parametrize("way", ["close", "collect", "error"])
@pytest.mark.parametrize("kind", ["touched", "shared_anonymous", "untouched"])
def test_the_memory_is_left_as_it_was(way, kind):
    with KINDS[kind](PAGES) as made, fpm.PageMap() as pm:
        before = pm.read(made.start, made.end).entries.copy()
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        tracker = fpm.WriteTracker(made.start, made.end)
        assert protected(made)
        if way == "close":
            tracker.close()
            tracker.close()
            with pytest.raises(ValueError, match="closed"):
                tracker.written()
            with pytest.raises(ValueError, match="closed"):
                tracker.regions()
        elif way == "error":
            with pytest.raises(ZeroDivisionError), tracker:
                1 / 0  # noqa: B018
        else:
            del tracker
            gc.collect()
        assert not protected(made)
        after = pm.read(made.start, made.end).entries
        flags = np.uint16(fpm.Flag.PRESENT >> 48 | fpm.Flag.SWAP >> 48 | fpm.Flag.UFFD_WP >> 48)
        assert ((before["flags"] & flags) == (after["flags"] & flags)).all()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        fpm.WriteTracker(made.start, made.end).close()


def test_trackers_side_by_side_and_one_over_another():
    with memory.touched(PAGES) as made:
        middle = made.at(100)
        with (
            fpm.WriteTracker(made.start, middle) as first,
            fpm.WriteTracker(middle, made.end) as second,
        ):
            made.write(99, 101, value=2)
            with pytest.raises(OSError, match="tracked already") as caught:
                fpm.WriteTracker(made.at(50), made.at(150))
            assert caught.value.errno == errno.EBUSY
            assert numbers(first.written()) == [99]
            assert numbers(second.written()) == [0]


def test_spans_that_cannot_be_tracked():
    with memory.touched(20) as made:
        made.unmap(8, 10)
        with pytest.raises(ValueError, match=f"nothing is mapped at {made.at(8):#x}"):
            fpm.WriteTracker(made.start, made.end)
        with pytest.raises(ValueError, match=r"may not be written \(---p\)"):
            fpm.WriteTracker(made.start - PAGE, made.at(4))
        with pytest.raises(ValueError, match="nothing is mapped"):
            fpm.WriteTracker(1 << 62, (1 << 62) + PAGE)
        made.protect(memory.READ, 2, 3)
        with pytest.raises(ValueError, match=r"may not be written \(r--p\)"):
            fpm.WriteTracker(made.start, made.at(4))
        with pytest.raises(ValueError, match="aligned"):
            fpm.WriteTracker(made.start + 1, made.end)
        assert not protected(made)
        with fpm.WriteTracker(made.start, made.start) as tracker:
            assert len(tracker.written()) == 0
    with fpm.PageMap() as pm:
        (vdso,) = [m for m in pm.mappings() if m.path == "[vdso]"]
        with pytest.raises(ValueError, match="no one writes there"):
            fpm.WriteTracker(vdso.start, vdso.end)


@pytest.mark.parametrize("happen", ["unmap", "map"])
def test_memory_that_goes_away_is_said_to(happen):
    with tracked(memory.touched) as (made, tracker):
        if happen == "unmap":
            made.unmap(100, 110)
        else:
            made.map(memory.PRIVATE, first=100, last=110)
        with pytest.raises(OSError, match="not tracked any more") as caught:
            tracker.written()
        assert caught.value.errno == errno.EFAULT


def test_no_descriptor_left():
    """Nothing is held on to, whichever of the descriptors is the one too many."""

    def child():
        with memory.touched(PAGES) as made:
            gc.collect()
            # so that no lower number is free
            highest = max(map(int, os.listdir("/proc/self/fd")))
            while (last := os.open("/dev/null", os.O_RDONLY)) <= highest:
                pass
            open_now = len(os.listdir("/proc/self/fd"))
            for more in range(4):
                resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1 + more, 4096))
                with pytest.raises(OSError, match="Too many open files") as caught:
                    fpm.WriteTracker(made.start, made.end)
                assert caught.value.errno == errno.EMFILE
            del caught
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert len(os.listdir("/proc/self/fd")) == open_now
            fpm.WriteTracker(made.start, made.end).close()
            return True

    assert runas.in_child(child)


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


def test_without_userfaultfd():
    """Before Linux 6.7, or forbidden: said, and no descriptor is left."""
    numbers_of = {"x86_64": 323, "aarch64": 282}

    def child():
        seccomp.refuse(numbers_of[os.uname().machine], errno.EPERM)
        with memory.touched(4) as made:
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(fpm.UnsupportedError, match="forbidden"):
                fpm.WriteTracker(made.start, made.end)
            gc.collect()
            return len(os.listdir("/proc/self/fd")) == before

    assert runas.in_child(child)


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
