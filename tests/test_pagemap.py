"""PageMap on every kind of memory there is, of this process and of another."""

import contextlib
import os

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import linux
import memory
import oracle
import runas
import swap
from compare import check, while_still
from features import keeps_soft_dirty
from linux import PAGE
from needs import Absent, need
from victim import Victim

PAGES = 37
AROUND = memory.GAP_PAGES * PAGE  # beyond that, others' memory may change at any time

EVERY = pytest.mark.parametrize("kind", sorted(kinds.ALL))
LEAVING = pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.STAYING))
WITHOUT_ROOT = pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.ROOTS))


@contextlib.contextmanager
def made_here(kind):
    """Memory of a kind in this process, and its PageMap."""
    with kinds.ALL[kind](PAGES) as made, fpm.PageMap() as pm:
        yield pm, made, lambda: swap.pageout(made.start, made.end)


@contextlib.contextmanager
def made_there(kind):
    """Memory of a kind in another process, and that one's PageMap."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        made = victim.make(kind, PAGES)
        yield pm, made, lambda: victim.pageout(made)


WHERE = pytest.mark.parametrize("where", [made_here, made_there])


@WHERE
@EVERY
def test_every_kind(where, kind):
    with where(kind) as (pm, made, _):
        check(pm, made.start, made.end)
        check(pm, made.start - AROUND, made.end + AROUND)


@WHERE
@LEAVING
def test_every_kind_in_swap(where, kind, swap_area):
    with where(kind) as (pm, made, pageout):
        pageout()
        check(pm, made.start, made.end)
        check(pm, made.start - AROUND, made.end + AROUND)


@WITHOUT_ROOT
def test_every_kind_as_nobody(kind):
    def ask():
        with made_here(kind) as (pm, made, _):
            check(pm, made.start - AROUND, made.end + AROUND)

    runas.as_nobody(ask)


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.STAYING - kinds.ROOTS))
def test_every_kind_in_swap_as_nobody(kind, any_swap):
    def ask():
        with made_here(kind) as (pm, made, pageout):
            pageout()
            check(pm, made.start - AROUND, made.end + AROUND)

    runas.as_nobody(ask)


def test_a_layout_of_many_kinds_at_once(any_swap):
    """Spans that begin and end anywhere, in a mapping or between two."""
    with memory.Memory(60) as made, fpm.PageMap() as pm:
        made.write(0, 10)
        made.read(10, 14)
        made.map(memory.SHARED, first=14, last=24)
        made.write(14, 20)
        made.unmap(24, 30)
        made.write(30, 60, 2)
        made.protect(memory.READ, 40, 45)
        swap.pageout(made.at(0), made.at(8))
        swap.pageout(made.at(14), made.at(18))
        for first in range(0, 60, 7):
            for last in range(first, 61, 9):
                check(pm, made.at(first), made.at(last))


@pytest.mark.parametrize("flags", [memory.PRIVATE, memory.SHARED], ids=["private", "shared"])
def test_a_span_of_many_gigabytes(flags, any_swap):
    """More than any window or slab the code may work in: pages at their borders are not lost."""
    # others are told how much of shared memory is swapped, but not which of its pages
    knows = flags == memory.PRIVATE or os.geteuid() == 0
    size = 9 << 30
    edges = [at // PAGE + step for at in range(1 << 28, size, 1 << 28) for step in (-1, 0)]
    with memory.Memory(size // PAGE, flags | linux.MAP_NORESERVE) as made, fpm.PageMap() as pm:
        for page in edges:
            made.write(page, page + 1)
        for page in edges[::3]:
            swap.pageout(made.at(page), made.at(page + 1))
        for method in (pm.present, lambda *span: pm.read(*span).present):
            present = sorted(set(edges) - set(edges[::3]))
            assert np.flatnonzero(method(made.start, made.end)).tolist() == present
        masks = pm.masks(made.start, made.end)
        for swapped in (pm.swapped(made.start, made.end), masks.swapped):
            assert np.flatnonzero(swapped).tolist() == (edges[::3] if knows else [])
        absent = ~pm.present(made.start, made.end)
        for unknown in (pm.unknown(made.start, made.end), masks.unknown):
            assert not unknown.any() if knows else (unknown == absent).all()
        (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        (row,) = pm.usage([mapping])
        assert row["present"] == len(present) * PAGE
        assert row["swapped"] == len(edges[::3]) * PAGE
        assert row["unknown"] == 0


def test_swapped_pages_that_come_back_are_no_longer_swapped(swap_area):
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        swap.pageout(made.start, made.end)
        assert pm.swapped(made.start, made.end).all()
        made.read(step=2)
        present = pm.present(made.start, made.end)
        assert present[::2].all()
        assert (pm.swapped(made.start, made.end) == ~present).all()  # swapped or back, never both
        check(pm, made.start, made.end)


@pytest.mark.root
def test_swap_types_above_the_number_of_areas_are_still_swap():
    """When the first of two areas goes, the second keeps its number."""
    with contextlib.ExitStack() as first:
        first.enter_context(swap.file_swap(8 << 20, priority=32001))
        with swap.file_swap(8 << 20, priority=32767), memory.touched(PAGES) as made:
            swap.leave_other_areas()
            swap.pageout(made.start, made.end)
            first.close()
            with fpm.PageMap() as pm:
                pages = pm.read(made.start, made.end)
                assert pages.swap_type.min() >= 1  # of one area, if nobody else has any
                check(pm, made.start, made.end)
                assert pages.swapped.all()


def test_no_call_faults_in_a_page_or_changes_its_state(any_swap):
    kept = ("untouched", "sparse", "zero", "file_copied", "memfd", "guarded", "freed")
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        spans = [victim.make(kind, PAGES) for kind in kept]
        swapped = victim.make("touched", PAGES)
        victim.pageout(swapped)
        before = state_of(victim.pid, [*spans, swapped])
        for span in [*spans, swapped]:
            check(pm, span.start, span.end)
        pm.usage()
        pm.mappings()
        assert state_of(victim.pid, [*spans, swapped]) == before


def state_of(pid, spans):
    """Faults of a process up to now, and the entries of spans.

    Without frames: the kernel moves pages when it makes room for huge ones.
    """
    faults = linux.stat(pid)[7:11]
    entries = [map(oracle.decode, oracle.words(span.start, span.end, pid)) for span in spans]
    return faults, [[entry._replace(pfn=0) for entry in each] for each in entries]


def test_a_page_mapped_twice_is_not_exclusive():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("touched", PAGES)
        assert pm.exclusive(span.start, span.end).all()
        victim.fork()
        assert not pm.exclusive(span.start, span.end).any()
        span.do("write", 0, 5, 1, 2)
        assert pm.exclusive(span.start, span.end).tolist() == [True] * 5 + [False] * (PAGES - 5)


@pytest.mark.root
def test_frames_and_swap_locations(swap_area):
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        swap.pageout(made.at(10), made.at(20))
        # the kernel moves pages when it makes room for huge ones
        words, pages = while_still(
            lambda: pm.read(made.start, made.end), lambda: oracle.words(made.start, made.end)
        )
        twins = list(map(oracle.decode, words))
        for name in ("pfn", "swap_type", "swap_offset"):
            answer = getattr(pages, name)
            assert answer.dtype == np.uint64
            assert answer.tolist() == [getattr(twin, name) for twin in twins], name
        assert pages.pfn[:10].all()
        places = zip(pages.swap_type[10:20], pages.swap_offset[10:20], strict=True)
        assert len(set(places)) == 10


def test_nobody_sees_no_frames_and_no_swap_locations(any_swap):
    def ask():
        with memory.touched(PAGES) as made, fpm.PageMap() as pm:
            swap.pageout(made.start, made.at(10))
            pages = pm.read(made.start, made.end)
            hidden = pages.pfn.any() or pages.swap_offset.any() or pages.swap_type.any()
            return hidden, pages.swapped.tolist()

    assert runas.as_nobody(ask) == (False, [True] * 10 + [False] * (PAGES - 10))


@pytest.mark.root
def test_markers_are_no_swap_to_root():
    for kind in ("guarded", "write_protected", "poisoned"):
        with kinds.ALL[kind](PAGES) as made, fpm.PageMap() as pm:
            entries = pm.read(made.start, made.end).entries
            assert (entries["value"] & fpm.Flag.SWAP).any()  # or this test is about nothing
            assert not pm.swapped(made.start, made.end).any()


def test_guard_and_write_protection():
    with memory.guarded(PAGES) as made, fpm.PageMap() as pm:
        guards = [oracle.decode(word).guard for word in oracle.words(made.start, made.end)]
        need(any(guards), "guard regions in pagemap (Linux 6.15)", Absent)
        assert pm.read(made.start, made.end).guard.tolist() == guards
    with kinds.ALL["write_protected"](PAGES) as made, fpm.PageMap() as pm:
        assert pm.read(made.start, made.end).uffd_wp.all()


def test_pages_are_what_they_say():
    with memory.touched(PAGES, step=2) as made, fpm.PageMap() as pm:
        pages = pm.read(made.start, made.end)
        assert (pages.start, pages.end, len(pages)) == (made.start, made.end, PAGES)
        assert pages.entries.dtype == fpm.ENTRY_DTYPE
        assert pages.addresses.dtype == np.uint64
        assert pages.addresses.tolist() == list(range(made.start, made.end, PAGE))
        for name in ("present", "swapped", "shared", "exclusive", "uffd_wp", "guard", "unknown"):
            mask = getattr(pages, name)
            assert (mask.dtype, mask.shape) == (bool, (PAGES,))
            assert getattr(pages, name) is mask  # computed once
        made.drop()
        assert pages.present.sum() == PAGES // 2 + 1  # of the instant of the read


def test_the_vsyscall_page_and_the_end_of_all_addresses():
    vsyscall = [line for line in oracle.maps() if line.path == b"[vsyscall]"]
    with fpm.PageMap() as pm:
        for start in [line.start for line in vsyscall] + [2**64 - PAGE, 2**63, 2**56]:
            check(pm, start, start + PAGE)
        # across the border between what a process can have and what it cannot
        top = max(line.end for line in oracle.maps() if line.start < 2**62)
        check(pm, top - 3 * PAGE, top + 100 * PAGE)
    need(vsyscall, "the vsyscall page (x86)", Absent)


def test_unsupported_is_an_oserror_that_says_why():
    need(not keeps_soft_dirty(), "a kernel without soft-dirty bits", Absent)
    with fpm.PageMap() as pm, pytest.raises(OSError, match="CONFIG_MEM_SOFT_DIRTY") as caught:
        pm.soft_dirty(0, PAGE)
    assert type(caught.value) is fpm.UnsupportedError
    assert caught.value.errno
