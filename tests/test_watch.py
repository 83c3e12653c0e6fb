"""``fastpagemap watch`` on a screen, driven by textual's own pilot."""

import os
import re

import pytest

import fastpagemap as fpm

pytest.importorskip("textual")

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.cells import Cells
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from fastpagemap.report import palette
from screens import shown, watching


def test_cells_change_with_the_memory(victim):
    span = victim.make("untouched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        assert screen.count("untouched") == 64
        span.do("write", 0, 16)
        await screen.until(lambda: screen.count("anonymous") == 16)
        assert screen.told(r"in [1-9][\d.]*[KM]?i?/s")
        assert screen.mappings.selected.start == span.start
        await screen.until(lambda: screen.number(span.start, "present") == 16 * fpm.PAGE_SIZE)

    watching(Live(victim.pid, 0.1), scenario)


def test_swapping_is_seen(victim, any_swap):
    private, shared = victim.make("touched", 64), victim.make("shared_anonymous", 64)

    async def scenario(screen):
        for span, key in ((private, "swapped_anonymous"), (shared, "swapped_shared")):
            await screen.select(span.start)
            assert screen.count(key) == 0
            victim.pageout(span)
            await screen.until(lambda key=key: screen.count(key) == 64)
            assert screen.told(r"out [1-9][\d.]*[KM]?i?/s")
            label = palette.STATES[palette.KEYS.index(key)].label
            assert re.search(f"{label} +256Ki", shown(screen))

    watching(Live(victim.pid, 0.1), scenario)


def test_what_cannot_be_known_is_said(victim):
    async def scenario(screen):
        known = fpm.capabilities().soft_dirty
        await screen.until(lambda: ("not known here" in screen.line("rates")) != known)

    watching(Live(victim.pid, 0.1), scenario)


def test_a_pause(victim):
    span = victim.make("untouched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("space")
        assert "paused" in screen.line("what")
        await screen.pilot.pause(0.3)
        span.do("write")
        await screen.pilot.pause(0.5)
        assert screen.count("anonymous") == 0
        await screen.press("plus")  # nothing is looked at for that, either
        await screen.until(lambda: len(screen.picture.cells) == 32)
        assert screen.count("anonymous") == 0
        await screen.press("space")
        await screen.until(lambda: screen.count("anonymous") == 32)
        assert "paused" not in screen.line("what")

    watching(Live(victim.pid, 0.1), scenario)


def test_a_process_that_ends_stays_on_the_screen(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        victim.kill()
        await screen.until(lambda: "has ended" in screen.line("what"))
        assert screen.count("anonymous") == 64
        await screen.press("home")
        await screen.until(lambda: len(screen.picture.cells) > 64)
        await screen.press("down", "plus", "space", "question_mark", "escape")

    assert watching(Live(victim.pid, 0.1), scenario).failure is None


@pytest.mark.parametrize("size", [(10, 3), (1, 1), (59, 40), (100, 15)])
def test_a_small_terminal_says_so_and_can_grow(victim, size):
    async def scenario(screen):
        await screen.pilot.resize_terminal(*size)
        await screen.pilot.pause()
        assert "whole process" not in shown(screen)
        if size[0] > 40:
            assert "too small" in shown(screen)
            assert f"{size[0]}x{size[1]}" in shown(screen)
        for wide in ((60, 16), (200, 50), (100, 30)):
            await screen.pilot.resize_terminal(*wide)
            await screen.until(lambda: "whole process" in shown(screen))
            cells = screen.app.query_one(Cells).size
            await screen.until(
                lambda cells=cells: screen.view.frame.request.max_cells == cells.area
            )
            assert 0 < len(screen.picture.cells) <= cells.area

    watching(Live(victim.pid, 0.1), scenario)


def test_a_picture_is_saved(victim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scenario(screen):
        await screen.press("s", "s")
        await screen.pilot.pause()

    watching(Live(victim.pid, 0.1), scenario)
    files = sorted(os.listdir(tmp_path))
    assert files == [f"fastpagemap-{victim.pid}-{number}.svg" for number in (1, 2)]
    assert "whole&#160;process" in (tmp_path / files[0]).read_text()


def test_a_picture_that_cannot_be_saved(victim, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def scenario(screen):
        await screen.press("s")
        await screen.until(lambda: "cannot write" in shown(screen))

    watching(Live(victim.pid, 0.1), scenario)


def test_a_snapshot_is_still(victim, tmp_path):
    victim.make("touched", 64)
    with fpm.PageMap(victim.pid) as pagemap:
        pagemap.snapshot().save(tmp_path / "it.fpm")

    async def scenario(screen):
        assert "a snapshot" in screen.line("what")
        assert str(victim.pid) in screen.line("what")
        await screen.press("space", "down", "plus")
        await screen.until(lambda: screen.view.frame.request.view != View())
        assert "paused" not in screen.line("what")

    watching(SnapshotSource(fpm.Snapshot.load(tmp_path / "it.fpm")), scenario)


def test_a_failure_ends_it(victim):
    """Whatever goes wrong in the thread is not lost, and leaves no screen behind."""
    live = Live(victim.pid, 0.1)

    async def scenario(screen):
        live._reader.close()
        await screen.until(lambda: screen.app.failure is not None)

    assert isinstance(watching(live, scenario).failure, ValueError)
