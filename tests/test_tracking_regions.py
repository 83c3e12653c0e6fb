"""Written pages as regions, also many of them, and of spans that are mostly reserved."""

import resource

import numpy as np
import pytest

import fastpagemap as fpm
import memory
from fastpagemap.model.entry import REGION_DTYPE
from fastpagemap.tracking.emptied import add_regions
from linux import PAGE
from tracked import LARGE, array, pages_of, reservation, tracked

pytestmark = pytest.mark.usefixtures("_write_tracking")


def test_regions_are_the_written_ones_and_reset_on_request():
    with tracked(memory.touched) as (made, tracker):
        made.write(7, 9, value=2).write(20, 21, value=2)
        for _ in range(2):
            assert pages_of(tracker.regions(), made) == [7, 8, 20]
        everything = tracker.regions(mask=0, returns=None)
        assert everything["start"][0] == made.start
        assert everything["end"][-1] == made.end
        for wrong in ({"mask": 0}, {"returns": 0}, {"inverted": fpm.Category.WRITTEN}):
            with pytest.raises(ValueError, match="would lose writes"):
                tracker.regions(reset=True, **wrong)
        found = tracker.regions(reset=True, returns=None)
        assert pages_of(found, made) == [7, 8, 20]
        assert all(int(c) & fpm.Category.PRESENT for c in found["categories"])
        assert not len(tracker.regions())
        with pytest.raises(fpm.UnsupportedError):
            tracker.regions(mask=1 << 40)
    with memory.touched(4) as made, fpm.WriteTracker(made.start, made.start) as tracker:
        assert len(tracker.regions()) == 0


def test_many_regions_reset_are_all_told():
    pages = 40_000
    with tracked(memory.touched, pages) as (made, tracker):
        array(made)[:: 2 * PAGE] = 9
        assert pages_of(tracker.regions(reset=True), made) == list(range(0, pages, 2))
        assert not len(tracker.regions())


def test_a_reservation_costs_page_tables_only():
    """2 MiB of them for each GiB of 4 KiB pages never touched; and regions allocate nothing."""
    with reservation() as large, fpm.WriteTracker(*fpm.span(large)) as tracker:
        large[5 * PAGE] = 1
        large[LARGE // 2] = 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = tracker.regions(reset=True)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096
        assert ((found["start"] - tracker.start) // PAGE).tolist() == [5, LARGE // 2 // PAGE]


@pytest.mark.parametrize(
    ("written", "emptied", "told"),
    [
        ([], [(2, 4)], [(2, 4)]),
        ([(2, 4)], [(2, 4)], [(2, 4)]),
        ([(3, 4)], [(2, 6)], [(2, 6)]),
        ([(0, 3), (5, 9)], [(2, 6)], [(0, 9)]),
        ([], [(2, 4), (0, 3), (3, 6)], [(0, 6)]),
        ([(0, 1)], [(2, 6), (4, 5)], [(0, 1), (2, 6)]),
    ],
)
def test_what_was_emptied_and_then_written_is_one_region(written, emptied, told):
    category = int(fpm.Category.WRITTEN)
    rows = np.array([(*span, category) for span in written], REGION_DTYPE)
    found = add_regions(rows, set(emptied), category)
    assert found.dtype == REGION_DTYPE
    assert found.tolist() == [(*span, category) for span in told]


def test_what_was_written_since_it_was_emptied_keeps_its_categories():
    """Those that the kernel tells are of now."""
    now = int(fpm.Category.WRITTEN | fpm.Category.PRESENT | fpm.Category.WPALLOWED)
    empty = int(fpm.Category.WRITTEN | fpm.Category.WPALLOWED)
    found = add_regions(np.array([(3, 4, now)], REGION_DTYPE), {(2, 6)}, ~0 & (1 << 63) - 1)
    assert found.tolist() == [(2, 3, empty), (3, 4, now), (4, 6, empty)]
