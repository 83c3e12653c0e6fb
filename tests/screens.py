"""The app of ``fastpagemap watch`` under textual's pilot, and what is on its screen."""

import asyncio
import re
import time

import pytest

pytest.importorskip("textual")

from fastpagemap.cli.watch.app import Viewer
from fastpagemap.cli.watch.cells import Cells, Line
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.view import Watch
from fastpagemap.report import palette


class Screen:
    """The app, and what is on its screen."""

    def __init__(self, app, pilot):
        self.app, self.pilot, self.press = app, pilot, pilot.press
        self.view = app.screen_stack[0]
        self.rates = set()  # all that was said of them
        if isinstance(self.view, Watch):
            self._note_rates(self.view._rates)

    def line(self, name):
        return self.view.query_one(f"#{name}", Line)._text.plain

    @property
    def mappings(self):
        return self.view.query_one(Mappings)

    @property
    def picture(self):
        return self.view.query_one(Cells).picture

    def count(self, key):
        """How many cells show a state."""
        return self.picture.cells.tolist().count(palette.KEYS.index(key))

    async def until(self, condition):
        """Wait for something to be seen."""
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "it never came"
            await self.pilot.pause(0.02)

    def _note_rates(self, line):
        """Note each text of the line: on a busy machine, several come between two looks at it."""
        show = line.show
        self.rates.add(line._text.plain)

        def noted(text):
            self.rates.add(text.plain)
            show(text)

        line.show = noted

    def told(self, pattern):
        """Whether the rates said so at any time."""
        return any(re.search(pattern, line) for line in self.rates)

    async def select(self, start):
        """Select a mapping, and wait until it is looked at."""
        await self.until(lambda: self.row(start))
        self.mappings.select(self.row(start))
        await self.until(lambda: self.view.frame.sample.view.start == start)

    def row(self, start):
        """The mapping in the list that begins at an address."""
        return next((m for m in self.mappings.items if m and m.start == start), None)

    def number(self, start, name):
        """What the list says of a mapping in a column."""
        rows = self.mappings._rows
        return rows.numbers[name][rows.items.index(self.row(start))]


def on_screen(view, scenario, size=(100, 40)):
    """Run a scenario on a screen, once its first sample is shown."""

    async def run():
        app = Viewer(view)
        async with app.run_test(size=size, notifications=True) as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: is_ready(view) or app.failure)
            await scenario(screen)
        return app

    return asyncio.run(run())


def is_ready(view):
    """Whether what was asked for is on the screen."""
    if isinstance(view, Watch):
        return view.frame and view.frame.request == view._request()
    return view.rows and not view.census.unfinished


def watching(source, scenario, size=(100, 40), interval=0.1):
    """Run a scenario on a view of one process."""
    return on_screen(Watch(source, interval, characters=True), scenario, size)


def shown(screen):
    """All text on the screen."""
    lines = screen.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)
