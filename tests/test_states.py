"""states(): the state of every page, as runs, next to the slow twin, the masks and smaps."""

import contextlib
import os

import numpy as np
import pytest
from hypothesis import given, settings

import fastpagemap as fpm
import hugetlb
import kinds
import memory
import oracle
import runas
import seccomp
import steps
import swap
from compare import SCANNED, by_page, check_runs, check_states, while_still
from fastpagemap import State
from fastpagemap.process.probes import categories
from features import has_cachestat, keeps_soft_dirty
from histories import PAGES as HISTORY_PAGES
from histories import histories
from linux import PAGE
from needs import Absent, need
from victim import Victim, parted

PAGES = 37
MASKS = {
    "present": State.PRESENT,
    "swapped": State.SWAPPED,
    "unknown": State.UNKNOWN,
    "shared": State.SHARED,
    "exclusive": State.EXCLUSIVE,
}


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(kinds.ALL))
def test_every_kind(kind, any_swap):
    if kind in kinds.SHARED:  # else what is in the swap cache still counts as not swapped
        need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with kinds.ALL[kind](PAGES) as made, fpm.PageMap() as pm:
        span = made.start - 3 * PAGE, made.end + 3 * PAGE
        check_states(pm, *span)
        if kind not in kinds.STAYING | {"gap"}:
            swap.pageout(made.at(5), made.at(23))
            if kind not in ("guarded", "protected", "poisoned"):
                made.read(9, 12)
            check_states(pm, *span)


@settings(max_examples=80)
@given(histories)
def live_here(history):
    with memory.Memory(HISTORY_PAGES) as made, fpm.PageMap() as pm:
        for name, (first, last) in history:
            steps.carry_out(made, name, first, last)
        check_states(pm, made.start - 3 * PAGE, made.end + 3 * PAGE)


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_any_history():
    live_here()


@pytest.mark.usefixtures("any_swap")
@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.ROOTS))
def test_the_masks_say_the_same_to_nobody(kind):
    def ask():
        with kinds.ALL[kind](PAGES) as made, fpm.PageMap() as pm:
            if kind not in kinds.STAYING | {"gap"}:
                with contextlib.suppress(Exception):
                    swap.pageout(made.at(5), made.at(23))
            told = by_page(pm.states(), made.start, made.end)
            for name, state in MASKS.items():
                mask = getattr(pm, name)(made.start, made.end).tolist()
                assert [bool(one & state) for one in told] == mask, name

    runas.as_nobody(ask)


@pytest.mark.root
def test_sums_are_usage_and_smaps(any_swap):
    """Every kind in one process, all of it in swap that goes there; and every mapping it has."""
    with parted() as victim, fpm.PageMap(victim.pid) as pm:
        for kind in sorted(set(kinds.ALL) - {"merged"}):
            span = victim.make(kind, PAGES)
            if kind not in kinds.STAYING:
                victim.pageout(span)
        (before, usage), snapshot = while_still(
            pm.snapshot, lambda: (oracle.smaps(victim.pid), pm.usage().tolist())
        )
        sums = snapshot.usage()
        assert sums.dtype == pm.usage().dtype
        for row, other in zip(sums.tolist(), usage, strict=True):
            assert row == other
        check_runs(snapshot.states, snapshot.mappings)
        swapped = {(row["start"], row["end"]): int(row["swapped"]) for row in sums}
        assert any(swapped.values())
        for span, fields in before.items():
            assert swapped[span] == fields["Swap"], hex(span[0])


def _scans():
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)


@pytest.mark.root
def test_a_small_mapping_of_hugetlb():
    """On arm64 such a page may be of 16 pages: too few for any other kind of huge page."""
    with hugetlb.small_hugetlb() as made, fpm.PageMap() as pm:
        (mapping,) = (m for m in pm.mappings() if m.start == made.start)
        told = by_page(pm.states([mapping]), made.start, made.end)
        assert all(state & State.HUGE and state & State.PRESENT for state in told)
        assert pm.usage([mapping])["huge"][0] == made.end - made.start
        (row,) = (row for row in pm.snapshot().usage() if row["start"] == made.start)
        assert row["huge"] == made.end - made.start


@pytest.mark.parametrize("kind", ["huge", "huge_zero", "hugetlb"])
def test_huge(kind):
    _scans()
    maker = kinds.ALL[kind]
    with maker(PAGES if kind != "hugetlb" else 1) as made, fpm.PageMap() as pm:
        if kind == "huge":  # of which each may be split and reclaimed at any time
            made.lock()
        told = by_page(pm.states(), made.start, made.end)
        assert all(state & State.HUGE for state in told)
        assert all(bool(state & State.ZERO) == (kind == "huge_zero") for state in told)
        snapshot = pm.snapshot()
        (row,) = snapshot.usage()[[m.start == made.start for m in snapshot.mappings]]
        assert row["huge"] == (0 if kind == "huge_zero" else made.end - made.start)


def test_huge_in_part():
    """A huge page beside small ones, and one of two that was split."""
    _scans()
    each = memory.huge_page_pages()
    with memory.huge(3 * each) as made, fpm.PageMap() as pm:
        made.lock(0, each).lock(2 * each)
        made.drop(each + 7, each + 8)
        made.lock(each, each + 7).lock(each + 8, 2 * each)
        told = by_page(pm.states(), made.start, made.end)
        huge = [bool(state & State.HUGE) for state in told]
        assert huge == [True] * each + [False] * each + [True] * each
        present = [bool(state & State.PRESENT) for state in told]
        assert present.count(False) == 1
        assert not present[each + 7]


def test_zero():
    _scans()
    with memory.untouched(PAGES) as made, fpm.PageMap() as pm:
        made.write(step=3).read(step=2)
        told = by_page(pm.states(), made.start, made.end)
        for page, state in enumerate(told):
            assert bool(state & State.ZERO) == (page % 2 == 0 and page % 3 != 0), page
            assert bool(state & State.PRESENT) == (page % 2 == 0 or page % 3 == 0), page


def test_guard_regions():
    with memory.guarded(PAGES) as made, fpm.PageMap() as pm:
        words = oracle.words(made.start, made.end)
        need(any(oracle.decode(word).guard for word in words), "bit 58", Absent)
        told = by_page(pm.states(), made.start, made.end)
        assert [state == State.GUARD for state in told] == [page % 4 == 0 for page in range(PAGES)]


def test_many_runs_over_many_batches():
    """Runs that go on over what is read at a time, and that end there."""
    with memory.Memory(30_000) as made, fpm.PageMap() as pm:
        made.write(0, 600).write(600, 1400, 2).write(2500, 2511)
        made.write(4000, 4096).write(8000, 9000).write(9000, 20_000, 7).write(29_000, 30_000)
        check_states(pm, made.start, made.end)
        chosen = [m for m in pm.mappings() if m.start == made.start]
        assert len(pm.states(chosen)) == 1 + 399 + 1 + 1 + 1 + 1571 + 1


def with_and_without_scan(start, end, pid):
    with fpm.PageMap(pid) as pm:
        chosen = [m for m in pm.mappings() if start <= m.start < end]
        scanned = pm.states(chosen)
    seccomp.without_scan()
    with fpm.PageMap(pid) as pm:
        return scanned, pm.states(chosen), chosen


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.ROOTS))
def test_without_a_scan(kind):
    with kinds.ALL[kind](PAGES) as made:
        answers = runas.in_child(with_and_without_scan, made.start, made.end, os.getpid())
        scanned, runs, chosen = answers
        check_runs(runs, chosen)
        scanned, told = (by_page(each, made.start, made.end) for each in (scanned, runs))
        assert told == [state & ~int(SCANNED) for state in scanned]


def test_mappings_chosen():
    """In any order, twice, gone, overlapping: each page once, and none but those."""
    with memory.sparse(PAGES) as made, memory.touched(5) as other, fpm.PageMap() as pm:
        by_start = {m.start: m for m in pm.mappings()}
        one, two = by_start[made.start], by_start[other.start]
        runs = pm.states([two, one, two])
        assert sorted(runs["start"].tolist()) == runs["start"].tolist()
        assert len(runs) == -(-PAGES // 3) + 1
        first = [row for row in runs.tolist() if one.start <= row[0] < one.end]
        assert pm.states(iter([one])).tolist() == first
        part = one._replace(start=made.at(3), end=made.at(7))
        assert pm.states([part])["start"].tolist() == [made.at(3), made.at(6)]
        assert len(pm.states([])) == 0
        with pytest.raises(ValueError, match="aligned"):
            pm.states([one._replace(start=1)])
    with fpm.PageMap() as pm:
        assert pm.states([one]).tolist() == []


def test_borders_are_never_crossed():
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        made.protect(memory.READ, 10, 20)
        runs = pm.states()
        check_runs(runs, pm.mappings())
        starts = [row["start"] for row in runs if made.start <= row["start"] < made.end]
        assert starts == [made.start, made.at(10), made.at(20)]


def test_reserved_memory_costs_nothing():
    """16 TiB, of which three pages are there."""
    pages = 1 << 32
    try:
        made = memory.Memory(pages, memory.PRIVATE | memory.linux.MAP_NORESERVE)
    except OSError:
        need(False, "16 TiB of addresses to reserve", Absent)
    with made, fpm.PageMap() as pm:
        for page in (0, pages // 2 + 1, pages - 1):
            made.write(page, page + 1)
        chosen = [m for m in pm.mappings() if m.start == made.start]
        runs = pm.states(chosen)
        runs = runs[(runs["state"] & State.PRESENT) != 0]
        assert runs["start"].tolist() == [made.at(0), made.at(pages // 2 + 1), made.at(pages - 1)]


def test_soft_dirty():
    need(keeps_soft_dirty(), "soft-dirty bits", Absent)
    with memory.untouched(2000) as made, fpm.PageMap() as pm:
        made.write(700, 710)
        for clear in (False, True):
            if clear:
                pm.clear_soft_dirty()
                made.write(701, 703)
            told = by_page(pm.states(), made.start, made.end)
            mask = pm.soft_dirty(made.start, made.end).tolist()
            assert [bool(state & State.SOFT_DIRTY) for state in told] == mask


@pytest.mark.parametrize("end", ["kill", "exec", "exit"])
def test_a_process_that_ends(end):
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        victim.make("touched", PAGES)
        assert len(pm.states())
        getattr(victim, end)()
        with pytest.raises(ProcessLookupError):
            pm.states()
        with pytest.raises(ProcessLookupError):
            pm.snapshot()


def test_states_go_with_uint64():
    runs = np.array([(0, PAGE, 3)], fpm.RUN_DTYPE)
    assert ((runs["state"] & State.SWAPPED) != 0).tolist() == [True]
    assert os.fsencode(str(State.PRESENT))
