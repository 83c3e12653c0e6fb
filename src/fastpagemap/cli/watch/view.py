"""The view of one process on the whole screen: its pages as cells, and its mappings."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Static

from fastpagemap.cli.watch import lines
from fastpagemap.cli.watch.area import Area, View, parse_place
from fastpagemap.cli.watch.cells import Cells, Legend, Line, few_colours
from fastpagemap.cli.watch.dialogs import Question
from fastpagemap.cli.watch.footer import Keys
from fastpagemap.cli.watch.keys import WATCH_HELP, WATCH_KEYS
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.painting import Frame, Painter
from fastpagemap.cli.watch.picture import ViewRequest
from fastpagemap.cli.watch.sampler_thread import SamplerThread
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from fastpagemap.cli.watch.screen import ListScreen
from fastpagemap.model.mapping import Mapping

__all__ = ["Watch"]


class Watch(ListScreen):
    """A process, or a snapshot of one, on the whole screen.

    Parameters
    ----------
    source : Live or SnapshotSource
        What is watched. It is closed when the view is left.
    interval : float
        Seconds between refreshes.
    characters : bool, optional
        Draw cells as characters, not as colours alone. By default, on a terminal with fewer than
        256 colours.
    """

    BINDINGS: ClassVar[list[BindingType]] = WATCH_KEYS
    HELP_TEXT = WATCH_HELP

    class FrameReady(Message):
        """The sampler has a new frame, or has failed."""

        def __init__(self, frame: Frame | Exception) -> None:
            super().__init__()
            self.frame = frame

    class ChildrenWanted(Message):
        """The process and its children are to be shown."""

        def __init__(self, source: Live, interval: float) -> None:
            super().__init__()
            self.source, self.interval = source, interval

    def __init__(
        self, source: Live | SnapshotSource, interval: float = 1.0, characters: bool | None = None
    ) -> None:
        self._mappings = Mappings("mappings")
        super().__init__(self._mappings)
        self.source, self.interval, self.characters = source, interval, characters
        self.paused = False
        self.frame: Frame | None = None
        # The view that is shown, if it is not all of what is selected; one to show when that is.
        self._zoom: View | None = None
        self._next_zoom: View | None = None
        self._only_touched: bool | None = None
        self._soft_dirty = source.dirty
        self._pointed = -1
        self._what, self._rates, self._title = Line("what"), Line("rates"), Line("title")
        self._cells, self._legend = Cells("cells"), Legend("legend")
        self._sampler = SamplerThread(
            Painter(source).frame, lambda it: self.post_message(self.FrameReady(it))
        )

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
            yield Keys()
        yield Static(id="small")

    # ---- events ----

    def on_mount(self) -> None:
        """Start sampling."""
        if self.characters is None:
            self.characters = few_colours(self.app.console)
        self._show_characters()
        self._sampler.start()
        if self.source.live:
            self.set_interval(self.interval, self._tick)

    def on_unmount(self) -> None:
        """Stop sampling."""
        self._sampler.stop()
        self.source.close()

    def on_cells_resized(self) -> None:
        """Request as many cells as now fit."""
        self._ask(sample=self.frame is None)

    def on_listing_moved(self) -> None:
        """Show the pages of another mapping: the last sample at once, then a new one."""
        self._zoom, self._next_zoom = self._next_zoom, None
        self._ask()

    def on_cells_pointed(self, message: Cells.Pointed) -> None:
        """Describe the cell under the mouse; select its mapping when it was clicked."""
        self._pointed = message.cell
        self._show_title()
        if message.chosen and message.cell >= 0 and self.frame:
            size = self.frame.picture.pages * self.frame.sample.page_size
            address = self.frame.picture.area.address(message.cell * size)
            self._mappings.select(self._mapping_at(address))

    def on_watch_frame_ready(self, message: FrameReady) -> None:
        """Show the new frame."""
        if isinstance(message.frame, Exception):
            self.fail(message.frame)
            return
        self.frame = message.frame
        self._mappings.show(self.frame.sample)
        self._cells.show(self.frame.picture)
        self._legend.show(self.frame.picture.sums)
        self._show_lines()
        if self.frame.request != self._request():
            self._ask()

    def _tick(self) -> None:
        if self.is_current:  # nobody looks at what is covered
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
        self._sampler.request(self._request(), sample and not self.paused)

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
        self._cells.show_characters(bool(self.characters))
        self._legend.show_characters(bool(self.characters))

    # ---- keys ----

    def action_pause(self) -> None:
        """Pause, or go on."""
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

    def action_place(self) -> None:
        """Ask for an address or a range, and show it."""
        if self.frame:
            example = "7f0000, 7f0000-7f8000, 7f0000+64Ki or p0-15"
            self.app.push_screen(Question("Go to", example, self._place), self._show)

    def _place(self, text: str) -> View | Mapping:
        """Return the range that a text means; of an address, the rest of its mapping."""
        assert self.frame
        size = self.frame.sample.page_size
        place = parse_place(text, self._all(), size)
        if isinstance(place, View):
            if not Area.of(self.frame.sample.mappings, place).size:
                raise ValueError(f"nothing is mapped at {place.start:x}-{place.end:x}")
            return place
        mapping = self._mapping_at(place)
        if mapping is None or place >= mapping.end:
            raise ValueError(f"nothing is mapped at {place:x}")
        self._next_zoom = None
        if mapping.pages > self._cells.size.area:
            self._next_zoom = View(place // size * size, mapping.end)
        return mapping

    def _mapping_at(self, address: int) -> Mapping | None:
        """Return the last mapping that begins at an address or before."""
        assert self.frame
        mappings = self.frame.sample.mappings
        at = bisect_right(mappings, address, key=lambda mapping: mapping.start) - 1
        return mappings[at] if at >= 0 else None

    def _show(self, place: View | Mapping | None) -> None:
        if isinstance(place, Mapping):
            self._mappings.select(place)
        elif place:
            self._zoom = place
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

    def action_characters(self) -> None:
        """Draw cells as characters, or as colours alone."""
        self.characters = not self.characters
        self._show_characters()

    def action_processes(self) -> None:
        """Show the process and its children."""
        if isinstance(self.source, Live):
            self.post_message(self.ChildrenWanted(self.source, self.interval))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Return whether a key does anything here: a snapshot has no children, and stands still."""
        return self.source.live or action not in ("processes", "pause")

    def known_columns(self) -> Sequence[str]:
        """Return the sizes that this kernel can tell."""
        return self.source.columns

    def show_columns(self) -> None:
        """Read the columns that are shown now."""
        self.source.fields = self._mappings.shown
        self._ask()

    def saved_as(self) -> tuple[str, int | None]:
        """Return the name of a saved screen, and the user whose memory is on it."""
        return f"fastpagemap-{self.source.pid or 'saved'}", self.source.uid
