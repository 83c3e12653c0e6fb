"""Soft-dirty bits, against the contents of the memory itself: what they tell, and what they cannot.

Every claim of PageMap.soft_dirty's docstring is here, to be seen on each kernel that has the bits.
"""

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
from needs import Absent, need
from soft_dirty import KINDS, PAGES, cleared, contents, dirty, everything
from victim import Victim

MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2


@pytest.fixture(autouse=True)
def _bits():
    need(fpm.capabilities().soft_dirty, "soft-dirty (CONFIG_MEM_SOFT_DIRTY)", Absent)


# What they tell.


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_what_was_written(kind):
    with cleared(KINDS[kind]) as made:
        made.read()
        assert dirty(made) == []
        before = contents(made).copy()
        for page in random.Random(kind).sample(range(PAGES), 40):
            made.write(page, page + 1, value=7)
        changed = (contents(made) != before).any(axis=1)
        assert dirty(made) == np.flatnonzero(changed).tolist() != []
        fpm.PageMap().clear_soft_dirty()
        assert dirty(made) == []
        made.write(5, 6, value=8)
        assert dirty(made) == [5]


@pytest.mark.parametrize("kind", ["touched", "untouched", "shared_anonymous", "file_private"])
def test_random_writes_of_threads(kind):
    with cleared(KINDS[kind]) as made:
        data = contents(made)
        for turn in range(3):
            before = data.copy()

            def write(seed, data=data, turn=turn):
                chance = random.Random(seed)
                for _ in range(100):  # what is written in a turn was never there before
                    page, at = chance.randrange(PAGES // 2), chance.randrange(PAGE)
                    data[page, at] = 100 + turn

            threads = [threading.Thread(target=write, args=(seed + turn,)) for seed in (1, 20, 30)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            changed = (data != before).any(axis=1)
            assert dirty(made) == np.flatnonzero(changed).tolist() != []
            fpm.PageMap().clear_soft_dirty()


def test_system_calls_write():
    with cleared(memory.touched) as made, open("/dev/zero", "rb", buffering=0) as zero:
        view = memoryview(contents(made).reshape(-1))
        assert zero.readinto(view[5 * PAGE + 1 : 7 * PAGE + 1]) == 2 * PAGE
        with open("/proc/self/mem", "r+b", buffering=0) as mine:
            mine.seek(made.at(300))
            mine.write(b"x")
        assert dirty(made) == [5, 6, 7, 300]


def test_of_another_process():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm, cleared(memory.touched) as mine:
        made = victim.make("touched", PAGES)
        made.pages, made.at = PAGES, lambda page: made.start + page * PAGE
        assert dirty(made, pm) == everything(made)
        pm.clear_soft_dirty()
        made.do("write", 7, 9)
        made.do("write", 500, 501)
        assert dirty(made, pm) == [7, 8, 500]
        assert dirty(mine) == []


def test_after_fork():
    """A child has the bits of private pages, and from then on its own; of shared ones, none."""

    def child():
        pm = fpm.PageMap()
        found = [dirty(own), dirty(shared)]
        own.write(9, 10)
        shared.write(9, 10)
        found += [dirty(own), dirty(shared)]
        pm.clear_soft_dirty()
        found += [dirty(own), dirty(shared)]
        own.write(11, 12)
        return [*found, dirty(own)]

    with memory.touched(PAGES) as own, cleared(backed.shared_anonymous) as shared:
        own.write(5, 6)
        shared.write(5, 6)
        assert runas.in_child(child) == [[5], [], [5, 9], [9], [], [], [11]]
        own.write(7, 8)
        shared.write(7, 8)
        assert dirty(own) == dirty(shared) == [5, 7]


@pytest.mark.root
@pytest.mark.usefixtures("swap_area")
@pytest.mark.parametrize("kind", ["touched", "memfd_private"])
def test_a_private_page_keeps_its_bit_in_swap(kind):
    with cleared(KINDS[kind]) as made:
        made.write(value=9)
        fpm.PageMap().clear_soft_dirty()
        made.write(10, 20, value=9)
        swap.pageout(made.start, made.end)
        assert dirty(made) == list(range(10, 20))
        made.read(0, 15)
        assert dirty(made) == list(range(10, 20))
        fpm.PageMap().clear_soft_dirty()
        assert dirty(made) == []
        made.read()
        made.write(17, 18)
        assert dirty(made) == [17]


def test_what_mprotect_allows_again_is_told():
    with cleared(memory.touched) as made:
        made.protect(memory.READ)
        made.protect(memory.READ_WRITE)
        assert dirty(made) == []
        made.write(4, 6)
        assert dirty(made) == [4, 5]


# What they cannot: clean, though it was written.


@pytest.mark.root
@pytest.mark.usefixtures("swap_area")
@pytest.mark.parametrize("kind", ["shared_anonymous", "memfd", "posix", "sysv", "file_shared"])
def test_what_is_evicted_of_a_file_is_lost(kind):
    with cleared(KINDS[kind]) as made:
        made.write(10, 20, value=9)
        linux.call("msync", made.start, PAGES * PAGE, linux.MS_SYNC)
        swap.pageout(made.start, made.end)
        assert dirty(made) == []
        made.read()
        assert dirty(made) == []
        made.write(3, 4)
        assert dirty(made) == [3]


def test_what_is_dropped_is_clean():
    with cleared(memory.touched) as made:
        made.write(3, 9, value=9).drop(3, 9)
        assert dirty(made) == []
        made.read()
        assert dirty(made) == []
        made.write(4, 5)
        assert dirty(made) == [4]


@pytest.mark.parametrize("kind", ["memfd", "file_shared"])
def test_what_others_write_is_not_told(kind):
    with cleared(KINDS[kind]) as made, backed.mapped(os.dup(made.fd), PAGES) as other:
        fpm.PageMap().clear_soft_dirty()
        os.pwrite(made.fd, b"x", 9 * PAGE)
        other.write(3, 4, value=8)
        assert (contents(made)[[3, 9], 0] == [8, ord("x")]).all()
        assert dirty(made) == []
        assert dirty(other) == [3]


# What they cannot: dirty, though it was not written.


@pytest.mark.parametrize("kind", ["untouched", "zero", "memfd", "file_private"])
def test_all_of_a_new_mapping_is_dirty(kind):
    with KINDS[kind](PAGES) as made:
        assert dirty(made) == everything(made)


@pytest.mark.parametrize("by", ["mmap", "mprotect"])
def test_all_of_merged_mappings_is_dirty(by):
    with memory.Memory(PAGES) as made:
        made.unmap()
        made.map(memory.PRIVATE, last=PAGES // 2)
        made.write(0, PAGES // 2)
        fpm.PageMap().clear_soft_dirty()
        assert dirty(made) == []
        if by == "mmap":
            made.map(memory.PRIVATE, first=PAGES // 2)
        else:
            made.map(memory.PRIVATE, memory.READ, first=PAGES // 2)
            assert dirty(made) == list(range(PAGES // 2, PAGES))
            made.protect(memory.READ_WRITE, PAGES // 2)
        (_,) = [m for m in fpm.PageMap().mappings() if made.start <= m.start < made.end]
        assert dirty(made) == everything(made)


def test_what_mremap_moves_is_dirty():
    with memory.touched(PAGES) as made, memory.Memory(PAGES) as room:
        made.drop(8, 16)
        fpm.PageMap().clear_soft_dirty()
        size, how = PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED
        linux.call("mremap", made.start, size, size, how, room.start)
        assert dirty(room) == [page for page in range(PAGES) if not 8 <= page < 16]


def test_all_of_a_huge_page_is_dirty():
    each = memory.huge_page_pages()
    with cleared(memory.huge, 3 * each) as made:
        made.read()
        assert dirty(made) == []
        made.write(each + 7, each + 8, value=5)
        assert dirty(made) == list(range(each, 2 * each))


def test_small_pages_avoid_that():
    each = memory.huge_page_pages()
    with cleared(memory.untouched, 3 * each) as made:  # all are MADV_NOHUGEPAGE
        made.write(each + 7, each + 8, value=5)
        assert dirty(made) == [each + 7]


def test_what_is_collapsed_is_dirty():
    each = memory.huge_page_pages()
    with memory._aligned(each) as made:  # of more, each would have to be written
        made.advise(linux.MADV_NOHUGEPAGE).write()
        fpm.PageMap().clear_soft_dirty()
        made.write(3, 4, value=9)
        assert dirty(made) == [3]
        try:  # from the first advice on, khugepaged may collapse it as well
            made.advise(linux.MADV_HUGEPAGE).advise(linux.MADV_COLLAPSE)
        except OSError as error:
            raise Absent("MADV_COLLAPSE (Linux 6.1)") from error
        need(True, "MADV_COLLAPSE (Linux 6.1)")
        assert dirty(made) == everything(made)


@pytest.mark.root
@pytest.mark.parametrize("make", [hugetlb.hugetlb, hugetlb.hugetlb_shared, hugetlb.hugetlb_memfd])
def test_all_of_hugetlb_that_is_there_is_dirty(make):
    """The kernel neither clears the bit there nor sets it: a write must not go unseen."""
    with make(4 * 512) as made, fpm.PageMap() as pm:
        assert dirty(made) == everything(made)
        pm.clear_soft_dirty()
        present = np.flatnonzero(pm.present(made.start, made.end)).tolist()
        assert dirty(made) == present != []
        made.write(7, 8, value=9)
        assert dirty(made) == present


@pytest.mark.root
@pytest.mark.parametrize("flags", [backed.FILE_SHARED, backed.FILE_PRIVATE])
def test_untouched_pages_of_shared_memory_once_anything_is_swapped(flags, any_swap):
    """They are in a new mapping, so they are dirty, before the first page that is there, too."""
    with memory.touched(100) as other, backed.mapped(backed.sized_memfd(1000), 1000, flags) as made:
        swap.pageout(other.start, other.end)
        made.write(900, 901)
        assert dirty(made) == list(range(1000))
        with fpm.PageMap() as pm:
            mappings = [m for m in pm.mappings() if m.start == made.start]
            for runs in (pm.states(mappings), pm.snapshot().states):
                runs = runs[(runs["state"] & fpm.State.SOFT_DIRTY) != 0]
                runs = runs[(made.start <= runs["start"]) & (runs["end"] <= made.end)]
                assert (runs["end"] - runs["start"]).sum() == 1000 * PAGE
