"""The cells of ``fastpagemap watch``, their legend, and lines of text above them."""

from __future__ import annotations

import os

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from fastpagemap.cli.watch.picture import Picture
from fastpagemap.report.palette import STATES, DisplayState
from fastpagemap.report.text import human

__all__ = ["Cells", "Legend", "Line", "few_colours"]

#: Colours for a dark screen, of states that are drawn pale or very dark on paper.
ON_DARK = {
    "untouched": "#3a3a3a",
    "zero": "#24506b",
    "huge": "#d6e9fa",
    "soft_dirty": "#00b382",
    "guard": "#6c6c6c",
}
#: Colours of characters, for states whose own colour would be too dark to read.
IN_TEXT = {"zero": "#8fbcd6", "guard": "#a8a8a8", "untouched": "#909090"}
COLOURS = [ON_DARK.get(state.key, state.colour) for state in STATES]


def swatches(characters: bool) -> list[Segment]:
    """Return a cell of each state: a character, or its colour alone."""
    if characters:
        looks = zip(STATES, COLOURS, strict=True)
        return [Segment(s.char, Style(color=IN_TEXT.get(s.key, c))) for s, c in looks]
    return [Segment(" ", Style(bgcolor=colour)) for colour in COLOURS]


def few_colours(console: Console) -> bool:
    """Return whether a terminal has fewer than 256 colours, or is to show none."""
    return "NO_COLOR" in os.environ or console.color_system in (None, "standard")


class Line(Widget):
    """A line of text that changes every second and never changes the layout."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._text = Text()

    def show(self, text: Text) -> None:
        """Show another text."""
        if text != self._text:
            self._text = text
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the line, cut to the width of the screen."""
        width = self.size.width
        text = self._text.copy()
        text.truncate(width, overflow="ellipsis")
        strip = Strip(text.render(self.app.console)).apply_style(self.rich_style)
        return strip.adjust_cell_length(width, self.rich_style)


class Cells(Widget):
    """Cells, line after line: each a page, or a group of pages."""

    class Resized(Message):
        """Another number of cells fits now."""

    class Pointed(Message):
        """The mouse is over a cell, or over none (-1); `chosen` says that it was clicked."""

        def __init__(self, cell: int, chosen: bool = False) -> None:
            super().__init__()
            self.cell, self.chosen = cell, chosen

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.picture: Picture | None = None
        self._swatches = swatches(False)

    def show(self, picture: Picture) -> None:
        """Show other cells."""
        old, self.picture = self.picture, picture
        if old is None or not np.array_equal(old.cells, picture.cells):
            self.refresh()

    def show_characters(self, characters: bool) -> None:
        """Show characters, or colours alone."""
        self._swatches = swatches(characters)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one line of cells."""
        width, base = self.size.width, self.rich_style
        if self.picture is None:
            return Strip.blank(width, base)
        row = self.picture.cells[y * width : (y + 1) * width]
        if not len(row):
            return Strip.blank(width, base)
        first = np.flatnonzero(np.diff(row, prepend=np.uint8(255)))
        lengths = np.diff(first, append=len(row))
        segments = []
        for state, length in zip(row[first].tolist(), lengths.tolist(), strict=True):
            swatch = self._swatches[state]
            segments.append(Segment(swatch.text * length, swatch.style))
        return Strip(segments, len(row)).apply_style(base).adjust_cell_length(width, base)

    def on_resize(self) -> None:
        """Report that another number of cells fits."""
        self.post_message(self.Resized())

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Report which cell the mouse is over."""
        self.post_message(self.Pointed(self._cell(event)))

    def on_click(self, event: events.Click) -> None:
        """Report which cell was clicked."""
        self.post_message(self.Pointed(self._cell(event), chosen=True))

    def on_leave(self) -> None:
        """Report that the mouse is over no cell."""
        self.post_message(self.Pointed(-1))

    def _cell(self, event: events.MouseEvent) -> int:
        cell = event.y * self.size.width + event.x
        return cell if self.picture and cell < len(self.picture.cells) else -1


class Legend(Static):
    """The states, how they look, and how many bytes of each are shown."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._sums: list[int] = [0] * len(STATES)
        self._characters = False
        self._draw()

    def show(self, sums: list[int]) -> None:
        """Show other sizes."""
        if sums != self._sums:
            self._sums = sums
            self._draw()

    def show_characters(self, characters: bool) -> None:
        """Show characters, or colours alone."""
        self._characters = characters
        self._draw()

    def _draw(self) -> None:
        looks = swatches(self._characters)
        self.update(Columns(map(_entry, STATES, looks, self._sums), padding=(0, 2)), layout=False)


def _entry(state: DisplayState, look: Segment, size: int) -> Text:
    """Return one state of the legend: as wide for every size, so that nothing moves."""
    style = "bold" if size else "dim"
    return Text.assemble(
        (look.text * 2, look.style or ""),
        (f" {state.label}", "" if size else "dim"),
        (f" {human(size):>6}", style),
    )
