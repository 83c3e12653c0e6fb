"""What ``fastpagemap watch`` samples and makes cells of, without a screen."""

import time

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import PAGE_SIZE, State
from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.changes import clipped, moved, replaced
from fastpagemap.cli.watch.pace import Pace
from fastpagemap.cli.watch.picture import ViewRequest, picture
from fastpagemap.cli.watch.sampling import Live, Sample
from fastpagemap.report import palette
from handmade import mapping, runs, tuples

PRESENT, SWAPPED, DIRTY = State.PRESENT, State.SWAPPED, State.SOFT_DIRTY


# ---- changes -----------------------------------------------------------------------------------


def test_what_changed_is_counted():
    before = runs((0, 100, PRESENT), (100, 200, SWAPPED), (300, 400, PRESENT | DIRTY))
    after = runs(
        (0, 50, SWAPPED), (50, 100, PRESENT), (100, 150, PRESENT | DIRTY), (500, 600, DIRTY)
    )
    # the pages from 500 on are dirty for being new, and nothing was written to them
    assert moved(before, after) == {"faulted_in": 50, "swapped_out": 50, "written": 50}
    assert set(moved(after, after).values()) == set(moved(runs(), runs()).values()) == {0}
    assert moved(runs(), runs((0, 10, PRESENT)))["faulted_in"] == 10


def test_runs_of_a_view_are_replaced():
    old = runs((0, 100, 1), (200, 300, 2))
    assert tuples(replaced(old, View(50, 250), runs((60, 70, 3)))) == [
        *((0, 50, 1), (60, 70, 3), (250, 300, 2))
    ]
    assert tuples(replaced(old, View(), runs())) == []
    assert tuples(replaced(runs(), View(5, 6), runs((5, 6, 1)))) == [(5, 6, 1)]
    assert tuples(old) == [(0, 100, 1), (200, 300, 2)]


# ---- pace --------------------------------------------------------------------------------------


def test_what_is_cheap_is_looked_at_each_time():
    pace = Pace(1.0, 0.01)
    assert pace.due(0)
    pace.spent(0, 0.001)
    assert not pace.due(0.4)
    assert pace.due(0.99)


def test_what_is_dear_waits_for_its_share():
    pace = Pace(1.0, 0.01)
    pace.spent(0, 0.1)  # 10 s at 1 %
    assert not pace.due(9)
    assert pace.due(10)
    pace.spent(0, 0.1)
    pace.hurry()
    assert pace.due(0)


# ---- pictures ----------------------------------------------------------------------------------


def sample(mappings, states, page_size=4096):
    none = np.zeros(len(mappings), [("present", np.uint64)])
    return Sample(mappings, none, states, View(), 0.0, 0.0, page_size=page_size)


def keys(cells):
    return [palette.KEYS[cell] for cell in cells]


def test_one_cell_a_page():
    spans = [mapping(0x10000, 0x13000), mapping(0x20000, 0x22000)]
    seen = sample(spans, runs((0x11000, 0x12000, PRESENT), (0x20000, 0x21000, SWAPPED)))
    drawn = picture(seen, ViewRequest(max_cells=100))
    assert keys(drawn.cells) == [
        "untouched",
        "anonymous",
        "untouched",
        "swapped_anonymous",
        "untouched",
    ]
    assert (drawn.pages, drawn.left_out) == (1, 0)
    assert drawn.sums == [
        0x1000 if s in ("anonymous", "swapped_anonymous") else 0 for s in palette.KEYS[:-1]
    ] + [0x3000]
    assert keys(picture(seen, ViewRequest(View(0x11000, 0x20000), 100)).cells) == [
        "anonymous",
        "untouched",
    ]


def test_pages_of_another_size_than_this_kernels():
    seen = sample([mapping(0x10000, 0x50000)], runs((0x10000, 0x20000, PRESENT)), 0x10000)
    assert (
        keys(picture(seen, ViewRequest(max_cells=100)).cells) == ["anonymous"] + ["untouched"] * 3
    )


def test_what_is_mostly_untouched_is_left_out():
    tera = 1 << 40
    seen = sample([mapping(0, tera)], runs((0, 1 << 20, PRESENT)))
    drawn = picture(seen, ViewRequest(max_cells=256))
    assert keys(drawn.cells) == ["anonymous"] * 256
    assert drawn.left_out == tera - (1 << 20)
    assert drawn.sums[palette.UNTOUCHED] == tera - (1 << 20)
    assert picture(seen, ViewRequest(max_cells=256, only_touched=False)).left_out == 0


def test_an_empty_view_has_no_cells():
    drawn = picture(sample([mapping(0, 4096)], runs()), ViewRequest(View(8192, 12288), 10))
    assert (len(drawn.cells), sum(drawn.sums)) == (0, 0)
    drawn = picture(sample([mapping(0, 40960)], runs()), ViewRequest(max_cells=10))
    assert sum(drawn.sums) == 40960


# ---- a process ---------------------------------------------------------------------------------


def look_until(live, view, condition):
    """Look again and again until what is seen is as expected."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        seen = live.sample(view)
        if condition(seen):
            return seen
        time.sleep(0.05)
    raise AssertionError(f"it never came: {seen}")


def test_a_live_process(victim):
    span = victim.make("untouched", 64)
    live = Live(victim.pid, 0.05)
    view = View(span.start, span.end)
    seen = live.sample(View())
    assert seen.mappings == [m for m in fpm.PageMap(victim.pid).mappings() if m.start < View().end]
    assert not len(clipped(seen.runs, view))
    elsewhere = len(seen.runs)
    live.sample(view)
    span.do("write", 0, 16)
    seen = look_until(live, view, lambda seen: len(clipped(seen.runs, view)))
    assert tuples(clipped(seen.runs, view))[0][:2] == (span.start, span.start + 16 * PAGE_SIZE)
    assert seen.rates.faulted_in > 0
    assert seen.rates.swapped_out == 0
    assert (seen.rates.written is None) == (not fpm.capabilities().soft_dirty)
    assert len(seen.runs) >= elsewhere  # what is not in view is kept as it was seen
    row = next(i for i, m in enumerate(seen.mappings) if m.start == span.start)
    seen = look_until(live, view, lambda seen: seen.usage["present"][row])
    assert seen.usage["present"][row] == 16 * PAGE_SIZE


def test_faults_are_counted(victim):
    span = victim.make("untouched", 4096)
    live = Live(victim.pid, 0.05)
    assert live.sample(View()).rates.minor is None
    span.do("write")
    assert live.sample(View()).rates.minor > 0


def test_pages_swapped_out_are_seen(victim, any_swap):
    spans = [victim.make("touched", 64), victim.make("shared_anonymous", 64)]
    live = Live(victim.pid, 0.05)
    live.sample(View())
    for span in spans:
        victim.pageout(span)
        view = View(span.start, span.end)
        seen = look_until(
            live,
            View(),
            lambda seen, view=view: (clipped(seen.runs, view)["state"] & SWAPPED).any(),
        )
        assert seen.rates.swapped_out > 0


def test_a_process_that_ends_stays_as_it_was(victim):
    live = Live(victim.pid, 0.05)
    before = live.sample(View())
    victim.kill()
    seen = live.sample(View())
    assert "ended" in seen.ended
    assert (seen.runs, seen.mappings) == (before.runs, before.mappings)
    assert live.sample(View(0, 4096)) is seen


def test_what_cannot_be_watched():
    with pytest.raises(ProcessLookupError):
        Live(999_999_999)


def test_looking_changes_nothing(victim):
    """Not even soft-dirty bits, where there are any."""
    span = victim.make("touched", 64)
    pagemap = fpm.PageMap(victim.pid)
    before = flags(pagemap, span)
    live = Live(victim.pid, 0.01)
    for _ in range(5):
        live.sample(View())
        time.sleep(0.02)
    assert flags(pagemap, span) == before


def flags(pagemap, span):
    """What entries say of pages beside their frames, which the kernel changes when it likes."""
    return (pagemap.read(span.start, span.end).entries["value"] >> np.uint64(55)).tolist()


def test_what_is_written_needs_dirty_bits(victim):
    span = victim.make("touched", 64)
    view = View(span.start, span.end)
    if not fpm.capabilities().soft_dirty:
        with pytest.raises(fpm.UnsupportedError, match="soft-dirty"):
            Live(victim.pid, dirty=True)
        return
    live = Live(victim.pid, 0.05, dirty=True)
    look_until(live, view, lambda seen: seen.rates.written == 0)
    for _ in range(2):  # and again: the bits are cleared after each look
        span.do("write", 0, 16)
        seen = look_until(live, view, lambda seen: seen.rates.written)
        assert seen.rates.written > 0
