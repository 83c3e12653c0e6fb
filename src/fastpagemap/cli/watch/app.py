"""The full-screen view of ``fastpagemap watch``: keys, and where things are on the screen."""

from __future__ import annotations

import asyncio
import os
import signal
from bisect import bisect_right
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Footer, Static

from fastpagemap.cli.exit_codes import INTERRUPTED
from fastpagemap.cli.watch import dialogs, lines
from fastpagemap.cli.watch.area import Area, View, parse_range
from fastpagemap.cli.watch.cells import Cells, Legend, Line
from fastpagemap.cli.watch.keys import KEYS
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.picture import Wish
from fastpagemap.cli.watch.sampler_thread import Looker, Seen
from fastpagemap.cli.watch.sampling import Live, Still
from fastpagemap.cli.watch.saving import save

__all__ = ["Watch"]

#: Columns and lines below which there would be nothing to see.
LEAST = 60, 16
#: Columns from which on mappings are beside the cells.
WIDE = 140


class Watch(App[int]):
    """A process, or a snapshot of one, on the whole screen.

    Parameters
    ----------
    source : Live or Still
        What is watched.
    interval : float
        Seconds between refreshes.
    characters : bool, optional
        Draw cells as characters, not as colours alone; where there are less than 256 colours by
        default.
    """

    TITLE = "fastpagemap watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #small { display: none; width: 100%; height: 100%; content-align: center middle; }
    .small #small { display: block; }
    .small #all { display: none; }
    #all { layout: vertical; }
    #what { text-style: bold; }
    #title { background: $panel; }
    #body { height: 1fr; layout: vertical; }
    #picture { height: 1fr; }
    #cells { height: 1fr; }
    #mappings { height: 1fr; background: $background; scrollbar-size: 1 1; overflow-x: hidden; }
    .wide #body { layout: horizontal; }
    .wide #picture { height: 100%; width: 1fr; margin-right: 1; }
    .wide #mappings { height: 100%; width: 72; }
    """
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    class News(Message):
        """The looker has something."""

        def __init__(self, news: Seen | Exception) -> None:
            super().__init__()
            self.news = news

    def __init__(
        self, source: Live | Still, interval: float = 1.0, characters: bool | None = None
    ) -> None:
        plain = "NO_COLOR" in os.environ
        # NO_COLOR without this would be shades of grey
        super().__init__(ansi_color=plain or None)
        self.source, self.interval = source, interval
        few = self.console.color_system in (None, "standard")
        self.characters = plain or few if characters is None else characters
        self.paused = False
        self.seen: Seen | None = None
        self.failure: Exception | None = None
        self._zoom: View | None = None
        self._touched: bool | None = None
        self._soft_dirty = source.dirty
        self._pointed = -1
        self._what, self._rates, self._title = Line("what"), Line("rates"), Line("title")
        self._cells, self._legend = Cells("cells"), Legend("legend")
        self._mappings = Mappings("mappings")
        self._looker = Looker(source, lambda news: self.post_message(self.News(news)))

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with Container(id="all"):
            yield self._what
            yield self._rates
            with Container(id="body"):
                with Container(id="picture"):
                    yield self._title
                    yield self._cells
                yield self._mappings
            yield self._legend
            yield Footer(show_command_palette=False)
        yield Static(id="small")

    # ---- what comes in ----

    def on_mount(self) -> None:
        """Begin to look."""
        self._mappings.focus()
        self._show_characters()
        self._looker.start()
        if self.source.live:
            self.set_interval(self.interval, self._tick)
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)

    def on_unmount(self) -> None:
        """Look no more."""
        self._looker.stop()

    def on_resize(self, event: events.Resize) -> None:
        """Find another layout, or say that there is no room for any."""
        width, height = event.size
        small = width < LEAST[0] or height < LEAST[1]
        self.screen_stack[0].set_class(small, "small")
        self.screen_stack[0].set_class(width >= WIDE, "wide")
        if small:
            least = f"{LEAST[0]}x{LEAST[1]}"
            text = f"The terminal is too small:\n{width}x{height}, and {least} is needed"
            self.query_one("#small", Static).update(text)

    def on_cells_resized(self) -> None:
        """Fill the room there is now."""
        self._ask(look=self.seen is None)

    def on_mappings_moved(self) -> None:
        """Show the pages of another mapping: as last seen at once, then as they are."""
        self._zoom = None
        self._ask()

    def on_cells_pointed(self, message: Cells.Pointed) -> None:
        """Tell what is in the cell below the mouse; go to its mapping when clicked."""
        self._pointed = message.cell
        self._show_title()
        if message.chosen and message.cell >= 0 and self.seen:
            size = self.seen.picture.pages * self.seen.sample.page_size
            address = self.seen.picture.area.address(message.cell * size)
            mappings = self.seen.sample.mappings
            at = bisect_right(mappings, address, key=lambda mapping: mapping.start) - 1
            self._mappings.select(mappings[at])

    def on_watch_news(self, message: News) -> None:
        """Show what was seen."""
        if isinstance(message.news, Exception):
            self.failure = message.news
            self.exit(1)
            return
        self.seen = message.news
        self._mappings.show(self.seen.sample)
        self._cells.show(self.seen.picture)
        self._legend.show(self.seen.picture.sums)
        self._show_lines()
        if self.seen.wish != self._wish():
            self._ask()

    def _tick(self) -> None:
        if not self.paused:
            self._ask()
        self._show_lines()

    # ---- what is wanted ----

    def _base(self) -> View:
        """Return the view of what is selected."""
        mapping = self._mappings.selected
        return View(mapping.start, mapping.end) if mapping else View()

    def _wish(self) -> Wish:
        view, room = self._zoom or self._base(), self._cells.size.area
        return Wish(view, max(room, 1), self._touched, self._soft_dirty)

    def _ask(self, look: bool = True) -> None:
        self._looker.ask(self._wish(), look=look and not self.paused)

    def _all(self) -> Area:
        """Return what can be zoomed into: of what is selected, what is not left out."""
        assert self.seen
        area = Area.of(self.seen.sample.mappings, self._base())
        if self.seen.picture.left_out:
            return area.touched(self.seen.sample.runs)
        return area

    # ---- what is said ----

    def _show_lines(self) -> None:
        if self.seen is None:
            self._what.show(Text("looking ..."))
            return
        self._what.show(lines.what(self.source, self.seen.sample, self.paused))
        self._rates.show(lines.rates(self.source, self.seen.sample))
        self._show_title()

    def _show_title(self) -> None:
        if self.seen is None:
            return
        if 0 <= self._pointed < len(self.seen.picture.cells):
            text = lines.cell(self.seen, self._pointed)
        else:
            text = lines.title(self.seen, self._mappings.selected, self._zoom)
        self._title.show(text)

    def _show_characters(self) -> None:
        self._cells.show_characters(self.characters)
        self._legend.show_characters(self.characters)

    # ---- keys ----

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        if self.source.live:
            self.paused = not self.paused
            self._ask()
            self._show_lines()

    def action_zoom(self, size: float) -> None:
        """Show fewer pages, or more."""
        self._move(size, 0)

    def action_shift(self, shift: float) -> None:
        """Show the pages before or after those shown."""
        self._move(1, shift)

    def _move(self, size: float, shift: float) -> None:
        if self.seen:
            view, grain = self._zoom or self._base(), self.seen.sample.page_size
            self._zoom = self._all().moved(view, size, shift, grain)
            self._ask()

    def action_reset(self) -> None:
        """Show all of what is selected."""
        self._zoom = None
        self._ask()

    def action_range(self) -> None:
        """Ask for a range, and show it."""
        if self.seen:
            area, size = self._all(), self.seen.sample.page_size
            self.push_screen(dialogs.Range(lambda text: parse_range(text, area, size)), self._show)

    def _show(self, view: View | None) -> None:
        if view:
            self._zoom = view
            self._ask()

    def action_untouched(self) -> None:
        """Leave out what was never touched, or not."""
        if self.seen:
            self._touched = not self.seen.picture.left_out
            self._ask(look=False)

    def action_soft_dirty(self) -> None:
        """Show soft-dirty pages as such, or not."""
        self._soft_dirty = not self._soft_dirty
        self._ask(look=False)

    def action_order(self) -> None:
        """Order the mappings in another way."""
        self._mappings.next_order()
        if self.seen:
            self._mappings.show(self.seen.sample)

    def action_characters(self) -> None:
        """Draw cells as characters, or as colours alone."""
        self.characters = not self.characters
        self._show_characters()

    def action_save(self) -> None:
        """Save the screen as a picture."""
        try:
            stem = f"fastpagemap-{self.source.pid or 'saved'}"
            path = save(self.export_screenshot(), stem, self.source.uid)
        except OSError as error:
            self.notify(error.strerror or str(error), severity="error", markup=False)
        else:
            self.notify(f"saved as {path}", markup=False)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(dialogs.Help())

    def action_interrupt(self) -> None:
        """Leave as Ctrl-C leaves a program."""
        self.exit(INTERRUPTED)
