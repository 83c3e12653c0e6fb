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
from fastpagemap.cli.watch.picture import ViewRequest
from fastpagemap.cli.watch.sampler_thread import Frame, SamplerThread
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from fastpagemap.cli.watch.saving import save
from fastpagemap.cli.watch.style import CSS

__all__ = ["Watch"]

#: The smallest screen, in columns and lines, on which there is anything to see.
MIN_SIZE = 60, 16
#: On a screen this wide, in columns, the mappings stand beside the cells.
WIDE_COLUMNS = 140


class Watch(App[int]):
    """A process, or a snapshot of one, on the whole screen.

    Parameters
    ----------
    source : Live or SnapshotSource
        What is watched.
    interval : float
        Seconds between refreshes.
    characters : bool, optional
        Draw cells as characters, not as colours alone. By default, on a terminal with fewer than
        256 colours.
    """

    TITLE = "fastpagemap watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    class FrameReady(Message):
        """The sampler has a new frame, or has failed."""

        def __init__(self, frame: Frame | Exception) -> None:
            super().__init__()
            self.frame = frame

    def __init__(
        self, source: Live | SnapshotSource, interval: float = 1.0, characters: bool | None = None
    ) -> None:
        plain = "NO_COLOR" in os.environ
        # Without this, NO_COLOR would mean shades of grey.
        super().__init__(ansi_color=plain or None)
        self.source, self.interval = source, interval
        few = self.console.color_system in (None, "standard")
        self.characters = plain or few if characters is None else characters
        self.paused = False
        self.frame: Frame | None = None
        self.failure: Exception | None = None
        self._zoom: View | None = None
        self._only_touched: bool | None = None
        self._soft_dirty = source.dirty
        self._pointed = -1
        self._what, self._rates, self._title = Line("what"), Line("rates"), Line("title")
        self._cells, self._legend = Cells("cells"), Legend("legend")
        self._mappings = Mappings("mappings")
        self._sampler = SamplerThread(source, lambda it: self.post_message(self.FrameReady(it)))

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

    # ---- events ----

    def on_mount(self) -> None:
        """Start sampling."""
        self._mappings.focus()
        self._show_characters()
        self._sampler.start()
        if self.source.live:
            self.set_interval(self.interval, self._tick)
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)

    def on_unmount(self) -> None:
        """Stop sampling."""
        self._sampler.stop()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout, or say that the terminal is too small."""
        width, height = event.size
        small = width < MIN_SIZE[0] or height < MIN_SIZE[1]
        self.screen_stack[0].set_class(small, "small")
        self.screen_stack[0].set_class(width >= WIDE_COLUMNS, "wide")
        if small:
            least = f"{MIN_SIZE[0]}x{MIN_SIZE[1]}"
            text = f"The terminal is too small:\n{width}x{height}, and {least} is needed"
            self.query_one("#small", Static).update(text)

    def on_cells_resized(self) -> None:
        """Request as many cells as now fit."""
        self._ask(sample=self.frame is None)

    def on_mappings_moved(self) -> None:
        """Show the pages of another mapping: the last sample at once, then a new one."""
        self._zoom = None
        self._ask()

    def on_cells_pointed(self, message: Cells.Pointed) -> None:
        """Describe the cell under the mouse; select its mapping when it was clicked."""
        self._pointed = message.cell
        self._show_title()
        if message.chosen and message.cell >= 0 and self.frame:
            size = self.frame.picture.pages * self.frame.sample.page_size
            address = self.frame.picture.area.address(message.cell * size)
            mappings = self.frame.sample.mappings
            at = bisect_right(mappings, address, key=lambda mapping: mapping.start) - 1
            self._mappings.select(mappings[at])

    def on_watch_frame_ready(self, message: FrameReady) -> None:
        """Show the new frame."""
        if isinstance(message.frame, Exception):
            self.failure = message.frame
            self.exit(1)
            return
        self.frame = message.frame
        self._mappings.show(self.frame.sample)
        self._cells.show(self.frame.picture)
        self._legend.show(self.frame.picture.sums)
        self._show_lines()
        if self.frame.request != self._request():
            self._ask()

    def _tick(self) -> None:
        if not self.paused:
            self._ask()
        self._show_lines()

    # ---- requests ----

    def _base(self) -> View:
        """Return the view of the selected mapping, or of the whole process."""
        mapping = self._mappings.selected
        return View(mapping.start, mapping.end) if mapping else View()

    def _request(self) -> ViewRequest:
        view, cells = self._zoom or self._base(), self._cells.size.area
        return ViewRequest(view, max(cells, 1), self._only_touched, self._soft_dirty)

    def _ask(self, sample: bool = True) -> None:
        self._sampler.request(self._request(), sample=sample and not self.paused)

    def _all(self) -> Area:
        """Return the area that can be zoomed into: the selection without what is left out."""
        assert self.frame
        area = Area.of(self.frame.sample.mappings, self._base())
        if self.frame.picture.left_out:
            return area.touched(self.frame.sample.runs)
        return area

    # ---- lines of text ----

    def _show_lines(self) -> None:
        if self.frame is None:
            self._what.show(Text("looking ..."))
            return
        self._what.show(lines.what(self.source, self.frame.sample, self.paused))
        self._rates.show(lines.rates(self.source, self.frame.sample))
        self._show_title()

    def _show_title(self) -> None:
        if self.frame is None:
            return
        if 0 <= self._pointed < len(self.frame.picture.cells):
            text = lines.cell(self.frame, self._pointed)
        else:
            text = lines.title(self.frame, self._mappings.selected, self._zoom)
        self._title.show(text)

    def _show_characters(self) -> None:
        self._cells.show_characters(self.characters)
        self._legend.show_characters(self.characters)

    # ---- keys ----

    def action_pause(self) -> None:
        """Pause, or go on."""
        if self.source.live:
            self.paused = not self.paused
            self._ask()
            self._show_lines()

    def action_zoom(self, size: float) -> None:
        """Show fewer pages, or more."""
        self._move(size, 0)

    def action_shift(self, shift: float) -> None:
        """Show the pages before or after these."""
        self._move(1, shift)

    def _move(self, size: float, shift: float) -> None:
        if self.frame:
            view, grain = self._zoom or self._base(), self.frame.sample.page_size
            self._zoom = self._all().moved(view, size, shift, grain)
            self._ask()

    def action_reset(self) -> None:
        """Show all of what is selected."""
        self._zoom = None
        self._ask()

    def action_range(self) -> None:
        """Ask for a range, and show it."""
        if self.frame:
            area, size = self._all(), self.frame.sample.page_size
            self.push_screen(dialogs.Range(lambda text: parse_range(text, area, size)), self._show)

    def _show(self, view: View | None) -> None:
        if view:
            self._zoom = view
            self._ask()

    def action_untouched(self) -> None:
        """Leave out what was never touched, or not."""
        if self.frame:
            self._only_touched = not self.frame.picture.left_out
            self._ask(sample=False)

    def action_soft_dirty(self) -> None:
        """Show soft-dirty pages as such, or not."""
        self._soft_dirty = not self._soft_dirty
        self._ask(sample=False)

    def action_order(self) -> None:
        """Order the mappings in another way."""
        self._mappings.next_order()
        if self.frame:
            self._mappings.show(self.frame.sample)

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
        """Exit with the code of a program that Ctrl-C ended."""
        self.exit(INTERRUPTED)
