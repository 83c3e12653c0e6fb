"""The keys and the mouse of ``fastpagemap watch``: moving, zooming, ordering, help."""

import pytest

import fastpagemap as fpm

pytest.importorskip("textual")

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.cells import Cells
from fastpagemap.cli.watch.dialogs import Help, Question
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.sampling import Live
from screens import shown, watching


def test_moving_through_the_mappings(victim):
    async def scenario(screen):
        spans = screen.view.frame.sample.mappings
        assert screen.line("title").startswith(" whole process")
        await screen.press("up")
        assert screen.mappings.selected is None
        await screen.press("down")
        assert screen.mappings.selected == spans[0]
        await screen.until(
            lambda: screen.view.frame.request.view == View(spans[0].start, spans[0].end)
        )
        assert screen.line("title").startswith(f" {spans[0].start:x} ")
        await screen.press("end")
        assert screen.mappings.selected == spans[-1]
        assert spans[-1].path in shown(screen)
        await screen.press("pageup", "pageup", "home")
        assert screen.mappings.selected is None
        await screen.pilot.click(Mappings, offset=(5, 3))
        assert screen.mappings.selected == spans[1]

    watching(Live(victim.pid, 0.1), scenario)


def test_the_order_of_mappings(victim):
    big = victim.make("touched", 9000)

    async def scenario(screen):
        await screen.select(big.start)
        for order in ("size", "present", "swapped"):
            await screen.press("o")
            sizes = [screen.number(mapping.start, order) for mapping in screen.mappings.items[1:]]
            assert sizes == sorted(sizes, reverse=True)
            assert f"▾{order}" in shown(screen)
            assert screen.mappings.selected.start == big.start
        await screen.press("o")
        starts = [mapping.start for mapping in screen.mappings.items[1:]]
        assert starts == sorted(starts)

    watching(Live(victim.pid, 0.1), scenario)


def test_zooming_and_moving(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("plus", "plus")
        await screen.until(lambda: len(screen.picture.cells) == 16)
        page = fpm.PAGE_SIZE
        assert screen.picture.area.starts[0] == span.start + 24 * page
        await screen.press("left")
        await screen.until(lambda: screen.picture.area.starts[0] == span.start + 20 * page)
        await screen.press("right", "right")
        await screen.until(lambda: screen.picture.area.starts[0] == span.start + 28 * page)
        await screen.press("minus")
        await screen.until(lambda: len(screen.picture.cells) == 32)
        await screen.press("0")
        await screen.until(lambda: len(screen.picture.cells) == 64)
        await screen.press(*["plus"] * 9)
        await screen.until(lambda: len(screen.picture.cells) == 1)
        await screen.press(*["minus"] * 9)
        await screen.until(lambda: len(screen.picture.cells) == 64)

    watching(Live(victim.pid, 0.1), scenario)


def test_a_range(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("g", *"p8-15", "enter")
        await screen.until(lambda: len(screen.picture.cells) == 8)
        assert screen.picture.area.starts[0] == span.start + 8 * fpm.PAGE_SIZE
        await screen.press("g", *f"{span.start:x}+12Ki", "enter")
        await screen.until(lambda: len(screen.picture.cells) == 3)
        await screen.press("g", *"nonsense", "enter")
        await screen.pilot.pause()
        assert isinstance(screen.app.screen, Question)
        assert "pages by number" in shown(screen)
        await screen.press("escape")
        assert len(screen.app.screen_stack) == 1
        assert len(screen.picture.cells) == 3

    watching(Live(victim.pid, 0.1), scenario)


def test_characters_and_colours(victim):
    victim.make("touched", 4000)

    async def scenario(screen):
        assert "#####" in shown(screen)
        await screen.press("c")
        await screen.pilot.pause()
        assert "#####" not in shown(screen)

    watching(Live(victim.pid, 0.1), scenario)


def test_help(victim):
    async def scenario(screen):
        await screen.press("question_mark")
        await screen.pilot.pause()
        assert isinstance(screen.app.screen, Help)
        assert "soft-dirty" in shown(screen)
        await screen.pilot.pause(0.3)  # it goes on looking below
        await screen.press("escape")
        assert len(screen.app.screen_stack) == 1

    watching(Live(victim.pid, 0.1), scenario)


def test_the_mouse_tells_what_is_in_a_cell(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.pilot.hover(Cells, offset=(3, 0))
        assert f"{span.start + 3 * fpm.PAGE_SIZE:x}" in screen.line("title")
        assert "anonymous 4Ki" in screen.line("title")
        await screen.pilot.hover(Mappings)
        assert "anonymous 4Ki" not in screen.line("title")
        await screen.press("home")
        await screen.until(lambda: len(screen.picture.cells) > 64)
        await screen.pilot.click(Cells, offset=(0, 0))
        assert screen.mappings.selected == screen.view.frame.sample.mappings[0]

    watching(Live(victim.pid, 0.1), scenario)
