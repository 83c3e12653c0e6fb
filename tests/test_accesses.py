"""Accesses tracked by userfaultfd: all pages that a test touched are told, and no others."""

import ctypes
import os
import random
import threading

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import hugetlb
import linux
import memory
import runas
import swap
from linux import PAGE
from needs import need
from tracked import PAGES, accessed, array, numbers, pages_of, protected

pytestmark = pytest.mark.usefixtures("_access_tracking")

MAKERS = [
    memory.touched,
    memory.untouched,
    memory.zero,
    backed.shared_anonymous,
    backed.memfd,
    backed.memfd_sparse,
    backed.memfd_private,
    backed.memfd_read_only,
    backed.posix,
    backed.tmpfs,
    backed.tmpfs_private,
]
KINDS = {make.__name__: make for make in MAKERS}
#: Those that only root can make.
OF_ROOT = [pytest.mark.root]
PARAMETERS = [
    pytest.param(kind, marks=OF_ROOT if kind.startswith("tmpfs") else []) for kind in KINDS
]
READV = {"x86_64": 310, "aarch64": 270}
WRITEV = {"x86_64": 311, "aarch64": 271}


def touch(made, pages, chance, writable):
    """Read or write a byte of each page."""
    for page in pages:
        if writable and chance.randrange(2):
            made.write(page, page + 1, value=chance.randrange(256))
        else:
            made.read(page, page + 1)


def exact(kind):
    """Go through rounds of random accesses; each is told in its round and in no other."""
    chance = random.Random(kind)
    with accessed(KINDS[kind]) as (made, tracker):
        assert numbers(tracker.accessed()) == []
        for turn in range(10):
            some = sorted(chance.sample(range(PAGES), chance.randrange(1, 120)))
            touch(made, some, chance, kind != "memfd_read_only")
            assert numbers(tracker.accessed(reset=False)) == some
            assert pages_of(tracker.regions(), made) == some
            if turn % 2:
                assert pages_of(tracker.regions(reset=True), made) == some
            else:
                assert numbers(tracker.accessed()) == some
            assert numbers(tracker.accessed()) == []


@pytest.mark.parametrize("kind", PARAMETERS)
def test_exactly_what_was_accessed(kind):
    exact(kind)


@pytest.mark.root
def test_without_privileges():
    for kind in ("touched", "memfd", "shared_anonymous"):
        runas.as_nobody(exact, kind)


def test_pages_in_the_cache_that_are_not_mapped_yet():
    """Only the page that is read is mapped, not its neighbours in the file."""
    fd = backed.sized_memfd(PAGES)
    os.pwrite(fd, b"x" * PAGES * PAGE, 0)
    with accessed(lambda pages: backed.mapped(fd, pages)) as (made, tracker):
        made.read(100, 101)
        assert numbers(tracker.accessed()) == [100]


@pytest.mark.parametrize("make", [memory.touched, backed.shared_anonymous])
def test_reads_of_threads(make):
    """Each page that a thread reads, once, between or during many answers is told; no other is."""
    pages = 20_000
    with accessed(make, pages) as (made, tracker):
        data = array(made).reshape(pages, PAGE)
        some = random.Random(1).sample(range(pages), pages // 2)
        told = np.zeros(pages, int)

        def read(part):
            for page in part:
                data[page, 0].item()

        threads = [threading.Thread(target=read, args=(some[n::3],)) for n in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            told += tracker.accessed()
        for thread in threads:
            thread.join()
        told += tracker.accessed()
        assert numbers(told) == sorted(some)
        assert numbers(tracker.accessed()) == []


def test_each_access_is_told_to_one_of_four_threads():
    with accessed(memory.touched, 64 * PAGES) as (made, tracker):
        made.read()
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(tracker.accessed())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (np.sum(answers, axis=0) == 1).all()


def test_system_calls_access():
    reader, writer = os.pipe()
    with accessed(memory.touched) as (made, tracker), open(reader, "rb"), open(writer, "wb"):
        view = memoryview(array(made))
        assert os.write(writer, view[5 * PAGE - 1 : 6 * PAGE + 1]) == PAGE + 2
        assert numbers(tracker.accessed()) == [4, 5, 6]
        assert os.readv(reader, [view[9 * PAGE : 9 * PAGE + 5]]) == 5
        assert numbers(tracker.accessed()) == [9]
        with open("/dev/zero", "rb", buffering=0) as zero:
            assert zero.readinto(view[20 * PAGE : 22 * PAGE]) == 2 * PAGE
        assert numbers(tracker.accessed()) == [20, 21]
        made.lock(30, 32)
        assert numbers(tracker.accessed()) == [30, 31]


@pytest.mark.root
@pytest.mark.parametrize("way", ["readv", "writev", "mem"])
def test_another_process_accesses(way):
    with accessed(memory.touched) as (made, tracker):
        parent = os.getpid()

        def child():
            if way == "mem":
                with open(f"/proc/{parent}/mem", "rb", buffering=0) as file:
                    file.seek(made.at(9))
                    return len(file.read(PAGE + 1))
            content = ctypes.create_string_buffer(PAGE + 1)
            local = (ctypes.c_size_t * 2)(ctypes.addressof(content), PAGE + 1)
            remote = (ctypes.c_size_t * 2)(made.at(9), PAGE + 1)
            number = (READV if way == "readv" else WRITEV)[os.uname().machine]
            return linux.syscall(number, parent, local, 1, remote, 1, 0)

        assert runas.in_child(child) == PAGE + 1
        assert numbers(tracker.accessed()) == [9, 10]


@pytest.mark.parametrize("make", [memory.huge, memory.huge_zero])
def test_a_huge_page_is_accessed_as_a_whole(make):
    each = memory.huge_page_pages()
    with accessed(make, 3 * each) as (made, tracker), fpm.PageMap() as pm:
        assert numbers(tracker.accessed()) == []
        made.read(each + 7, each + 8)
        assert numbers(tracker.accessed()) == list(range(each, 2 * each))
        assert numbers(tracker.accessed()) == []
        huge = pm.regions(made.start, made.end, mask=fpm.Category.HUGE, returns=0)
        assert huge[["start", "end"]].tolist() == [(made.start, made.end)]


@pytest.mark.root
@pytest.mark.parametrize("make", [hugetlb.hugetlb, hugetlb.hugetlb_shared, hugetlb.hugetlb_memfd])
def test_hugetlb(make):
    size = linux.meminfo("Hugepagesize") // PAGE
    with accessed(make, 4 * size) as (made, tracker):
        assert numbers(tracker.accessed()) == []
        made.read(size + 3, size + 4)
        assert numbers(tracker.accessed()) == list(range(size, 2 * size))
        assert numbers(tracker.accessed()) == []
        tracker.close()
        with pytest.raises(ValueError, match="within a hugetlb page"):
            fpm.AccessTracker(made.start + PAGE, made.end)


@pytest.mark.root
def test_own_pages_swapped_out_and_in_again():
    with (
        swap.zram_swap(64 << 20, priority=32500),
        accessed(memory.touched) as (made, tracker),
        fpm.PageMap() as pm,
    ):
        made.read(10, 20)
        swap.pageout(made.start, made.end)
        need(pm.swapped(made.start, made.end).all(), "pages that all go to swap")
        assert numbers(tracker.accessed()) == list(range(10, 20))
        assert numbers(tracker.accessed()) == []
        made.read(15, 18)
        made.write(200, 201)
        assert numbers(tracker.accessed()) == [15, 16, 17, 200]


@pytest.mark.root
@pytest.mark.parametrize("make", [backed.memfd, backed.shared_anonymous])
def test_shared_memory_swapped_out_and_in_again(make):
    """What was accessed before is forgotten, as the docstring says."""
    with swap.zram_swap(64 << 20, priority=32500), accessed(make) as (made, tracker):
        made.read(10, 20)
        swap.pageout(made.start, made.end)
        assert numbers(tracker.accessed()) == []
        made.read(15, 18)
        made.write(200, 201)
        assert numbers(tracker.accessed()) == [15, 16, 17, 200]


def test_what_is_dropped_is_forgotten():
    with accessed(memory.touched) as (made, tracker):
        made.read(3, 6)
        made.drop(4, 8)
        assert numbers(tracker.accessed(reset=False)) == [3]
        made.read(7, 8)
        assert numbers(tracker.accessed()) == [3, 7]


@pytest.mark.root
def test_pages_that_are_merged_are_accessed_one_by_one():
    with accessed(memory.merged, 64) as (made, tracker):
        made.read(7, 9)
        assert numbers(tracker.accessed()) == [7, 8]
        made.write(5, 6)
        assert numbers(tracker.accessed()) == [5]


def test_memory_that_may_not_be_accessed_for_a_while():
    with accessed(memory.touched) as (made, tracker):
        made.read(49, 52)
        made.protect(memory.NONE, 50, 60)
        assert numbers(tracker.accessed()) == [49, 50, 51]
        assert numbers(tracker.accessed()) == []
        made.protect(memory.READ_WRITE, 50, 60)
        made.read(51, 53)
        assert numbers(tracker.accessed()) == [51, 52]
        made.protect(memory.NONE)
        assert numbers(tracker.accessed()) == []
        tracker.close()
        assert not protected(made)
        made.protect(memory.READ_WRITE).write()


def test_what_is_no_access():
    with accessed(memory.touched) as (made, tracker):
        made.protect(memory.READ, 50, 60).protect(memory.READ_WRITE, 50, 60)
        made.advise(linux.MADV_FREE, 70, 72)
        with fpm.PageMap() as pm:
            pm.read(made.start, made.end)
            pm.usage()
        assert numbers(tracker.accessed()) == []
