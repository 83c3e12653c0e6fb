"""The list of mappings of ``fastpagemap watch``: searching, going to an address, columns."""

import time

import pytest

import fastpagemap as fpm

pytest.importorskip("textual")

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.dialogs import Columns, Question
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from handmade import mapping, runs
from screens import shown, watching

PAGE = fpm.PAGE_SIZE


def test_searching(victim):
    """To the next one, round the end, and back; the text is kept."""

    async def scenario(screen):
        with_libc = [m for m in screen.view.frame.sample.mappings if "libc" in m.path]
        await screen.press("slash", *"libc", "enter")
        assert len(screen.app.screen_stack) == 1
        assert screen.mappings.selected == with_libc[0]
        await screen.until(lambda: screen.view.frame.request.view.start == with_libc[0].start)
        for expected in [*with_libc[1:], with_libc[0]]:
            await screen.press("n")
            assert screen.mappings.selected == expected
        await screen.press("N")
        assert screen.mappings.selected == with_libc[-1]

    watching(Live(victim.pid, 0.1), scenario)


def test_searching_by_a_pattern_and_for_what_has_no_path(victim):
    async def scenario(screen):
        await screen.press("slash", *"[[]anon*", "enter")
        assert screen.mappings.selected.path == ""
        await screen.press("slash", *"*/libc*", "enter")
        assert "/libc" in screen.mappings.selected.path

    watching(Live(victim.pid, 0.1), scenario)


def test_what_is_not_found_is_said(victim):
    async def scenario(screen):
        await screen.press("down", "slash", *"no such thing", "enter")
        await screen.pilot.pause()
        assert isinstance(screen.app.screen, Question)
        assert "nothing here" in shown(screen)
        await screen.press("escape")
        assert screen.mappings.selected == screen.view.frame.sample.mappings[0]
        await screen.press("n")  # what was searched may have been mapped since
        await screen.until(lambda: "nothing has 'no such thing'" in shown(screen))

    watching(Live(victim.pid, 0.1), scenario)


def test_a_search_of_paths_without_end_takes_no_time():
    """Whoever is watched chooses the paths."""
    paths = ["/" + "a" * 100_000 + "b" * (number % 2) for number in range(200)]
    spans = [
        mapping(number * 0x2000, number * 0x2000 + 0x1000, path)
        for number, path in enumerate(paths, 1)
    ]
    made = fpm.Snapshot(
        *(1, "program", "", 0.0, "6.18", "x86_64", 4096, fpm.capabilities(), False),
        *(spans, runs()),
    )

    async def scenario(screen):
        began = time.process_time()
        await screen.press("slash", *"*a*a*ac", "enter")
        assert time.process_time() - began < 10
        assert screen.mappings.selected is None

    watching(SnapshotSource(made), scenario)


def test_going_to_an_address(victim):
    span = victim.make("touched", 64)
    large = victim.make("untouched", 100_000)

    async def scenario(screen):
        await screen.until(lambda: screen.row(large.start))
        await screen.press("g", *f"{span.start + 3 * PAGE + 5:x}", "enter")
        assert screen.mappings.selected.start == span.start
        await screen.until(lambda: screen.view.frame.request.view.start == span.start)
        await screen.press("g", *f"0x{large.start + 1000 * PAGE + 5:x}", "enter")
        assert screen.mappings.selected.start == large.start
        wanted = View(large.start + 1000 * PAGE, large.end)
        await screen.until(lambda: screen.view.frame.request.view == wanted)
        await screen.press("0")
        await screen.until(lambda: screen.view.frame.request.view.start == large.start)
        await screen.press("g", *"10", "enter")
        await screen.pilot.pause()
        assert "nothing is mapped at 10" in shown(screen)
        await screen.press("escape", "g", *"1000-2000", "enter")
        await screen.until(lambda: "nothing is mapped at 1000-2000" in shown(screen))

    watching(Live(victim.pid, 0.1), scenario)


def test_columns_are_chosen(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        assert "exclusive" not in shown(screen)
        names = screen.view.source.columns
        await screen.press("f", *["down"] * names.index("exclusive"), "space")
        assert isinstance(screen.app.screen, Columns)
        assert "[x] exclusive" in shown(screen)
        assert "[ ] shared" in shown(screen)
        await screen.press("escape")
        await screen.until(lambda: "exclusive" in screen.mappings._rows.numbers)
        assert screen.number(span.start, "exclusive") == 64 * PAGE
        assert "exclusive" in screen.mappings.render_line(0).text
        await screen.press(*["o"] * 4)
        assert "▾exclusive" in shown(screen)
        await screen.press("f", *["down"] * names.index("exclusive"), "enter", "escape")
        assert "exclusive" not in shown(screen)
        assert screen.mappings.order == ""

    watching(Live(victim.pid, 0.1), scenario)


def test_columns_of_what_is_shared(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        names = screen.view.source.columns
        await screen.press("f", *["down"] * names.index("pss"), "space", "escape")
        await screen.until(lambda: "pss" in screen.mappings._rows.numbers)
        await screen.until(lambda: screen.row(span.start))
        assert screen.number(span.start, "pss") == 64 * PAGE

    watching(Live(victim.pid, 0.1), scenario)


def test_columns_of_a_snapshot(victim):
    victim.make("touched", 64)
    with fpm.PageMap(victim.pid) as pagemap:
        source = SnapshotSource(pagemap.snapshot())

    async def scenario(screen):
        await screen.press("f", *["down"] * source.columns.index("shared"), "space", "escape")
        await screen.until(lambda: "shared" in screen.mappings._rows.numbers)

    watching(source, scenario)


def test_the_head_orders_and_shows_how(victim):
    async def scenario(screen):
        head = screen.mappings.render_line(0).text
        await screen.pilot.click(screen.mappings, offset=(head.index("present") + 2, 0))
        assert screen.mappings.order == "present"
        assert "▾present" in screen.mappings.render_line(0).text
        await screen.press("O")
        assert screen.mappings.order == "size"
        await screen.pilot.click(screen.mappings, offset=(2, 0))
        assert screen.mappings.order == ""

    watching(Live(victim.pid, 0.1), scenario)


def test_many_mappings(victim):
    """20,000 of them are shown, ordered and searched in well under a second."""
    spans = [
        mapping(number << 20, (number << 20) + 0x1000, f"/file/{number}")
        for number in range(1, 20_001)
    ]
    made = fpm.Snapshot(
        *(1, "program", "", 0.0, "6.18", "x86_64", 4096, fpm.capabilities(), False),
        *(spans, runs()),
    )

    async def scenario(screen):
        began = time.process_time()
        await screen.press("o", "o", "slash", *"/20000", "enter")
        assert screen.mappings.selected == spans[-1]
        assert time.process_time() - began < 3

    watching(SnapshotSource(made), scenario)
