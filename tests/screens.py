"""The app of ``fastpagemap watch`` under textual's pilot, and what is on its screen."""

import asyncio
import re
import time

import pytest

pytest.importorskip("textual")

from fastpagemap.cli.watch.app import Watch
from fastpagemap.cli.watch.cells import Cells, Line
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.report import palette


class Screen:
    """The app, and what is on its screen."""

    def __init__(self, app, pilot):
        self.app, self.pilot, self.press = app, pilot, pilot.press
        self.rates = set()  # all that was said of them

    def line(self, name):
        return self.app.screen_stack[0].query_one(f"#{name}", Line)._text.plain

    @property
    def mappings(self):
        return self.app.screen_stack[0].query_one(Mappings)

    @property
    def picture(self):
        return self.app.screen_stack[0].query_one(Cells).picture

    def count(self, key):
        """How many cells show a state."""
        return self.picture.cells.tolist().count(palette.KEYS.index(key))

    async def until(self, condition):
        """Wait for something to be seen."""
        end = time.monotonic() + 20
        while not condition():
            self.rates.add(self.line("rates"))
            assert time.monotonic() < end, "it never came"
            await self.pilot.pause(0.02)
        self.rates.add(self.line("rates"))

    def told(self, pattern):
        """Whether the rates said so at any time."""
        return any(re.search(pattern, line) for line in self.rates)

    async def select(self, start):
        """Select a mapping, and wait until it is looked at."""
        await self.until(lambda: any(m and m.start == start for m, _ in self.mappings._rows))
        self.mappings.select(next(m for m, _ in self.mappings._rows if m and m.start == start))
        await self.until(lambda: self.app.frame.sample.view.start == start)


def watching(source, scenario, size=(100, 40), interval=0.1):
    """Run a scenario on a screen."""

    async def run():
        app = Watch(source, interval, characters=True)
        async with app.run_test(size=size, notifications=True) as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: app.frame and app.frame.request == app._request())
            await scenario(screen)
        return app

    return asyncio.run(run())


def shown(screen):
    """All text on the screen."""
    lines = screen.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)
