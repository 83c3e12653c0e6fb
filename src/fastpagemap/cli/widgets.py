"""What ``fastpagemap watch`` puts on the screen: cells, mappings, a legend, lines of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from fastpagemap import Mapping
from fastpagemap.cli.palette import STATES
from fastpagemap.cli.picture import Picture
from fastpagemap.cli.sampling import Sample
from fastpagemap.cli.tables import human, printable

__all__ = ["Cells", "Legend", "Line", "Mappings"]

#: What is pale on paper is dark on a dark screen, and the other way round.
ON_DARK = {
    "untouched": "#262626",
    "zero": "#24506b",
    "huge": "#d6e9fa",
    "soft_dirty": "#00b382",
    "guard": "#6c6c6c",
}
COLOURS = [ON_DARK.get(state.key, state.colour) for state in STATES]
BLANK = Segment(" ")


def swatches(characters: bool) -> list[Segment]:
    """Return one cell of each state: a character, or only its colour."""
    if characters:
        styles = [Style(color=colour) for colour in COLOURS[:-1]] + [Style()]
        return [Segment(s.char, style) for s, style in zip(STATES, styles, strict=True)]
    return [Segment(" ", Style(bgcolor=colour)) for colour in COLOURS]


class Line(Widget):
    """Text that changes every second, and never the layout."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._text = Text()

    def show(self, text: Text) -> None:
        """Show another text."""
        if text != self._text:
            self._text = text
            self.refresh()

    def render(self) -> Text:
        """Return what is shown."""
        self._text.no_wrap, self._text.overflow = True, "ellipsis"
        return self._text


class Cells(Widget):
    """One cell a page, or a group of pages, line after line."""

    class Resized(Message):
        """There is room for another number of cells."""

    class Pointed(Message):
        """The mouse is over a cell, or over none: -1; `chosen` when it was clicked."""

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
        width = self.size.width
        if self.picture is None:
            return Strip.blank(width)
        row = self.picture.cells[y * width : (y + 1) * width]
        if not len(row):
            return Strip.blank(width)
        first = np.flatnonzero(np.diff(row, prepend=np.uint8(255)))
        lengths = np.diff(first, append=len(row))
        segments = []
        for state, length in zip(row[first].tolist(), lengths.tolist(), strict=True):
            swatch = self._swatches[state]
            segments.append(Segment(swatch.text * length, swatch.style))
        return Strip(segments, len(row)).adjust_cell_length(width)

    def on_resize(self) -> None:
        """Tell that there is another number of cells."""
        self.post_message(self.Resized())

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Tell what the mouse is over."""
        self.post_message(self.Pointed(self._cell(event)))

    def on_click(self, event: events.Click) -> None:
        """Tell what was clicked."""
        self.post_message(self.Pointed(self._cell(event), chosen=True))

    def on_leave(self) -> None:
        """Tell that the mouse is elsewhere."""
        self.post_message(self.Pointed(-1))

    def _cell(self, event: events.MouseEvent) -> int:
        cell = event.y * self.size.width + event.x
        return cell if self.picture and cell < len(self.picture.cells) else -1


class Legend(Widget):
    """The states, how they look, and how many bytes of each are shown."""

    DEFAULT_CSS = "Legend { height: auto; }"
    #: The room a state takes: swatch, label, size.
    WIDTH = 26

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._sums: list[int] = [0] * len(STATES)
        self._characters = False

    def show(self, sums: list[int]) -> None:
        """Show other sizes."""
        if sums != self._sums:
            self._sums = sums
            self.refresh()

    def show_characters(self, characters: bool) -> None:
        """Show characters, or colours alone."""
        self._characters = characters
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines it takes."""
        return -(-len(STATES) // max(width // self.WIDTH, 1))

    def render(self) -> Text:
        """Return states side by side."""
        text = Text(no_wrap=True)
        across = max(self.size.width // self.WIDTH, 1)
        looks = swatches(self._characters)
        for number, (state, look, size) in enumerate(zip(STATES, looks, self._sums, strict=True)):
            if number and number % across == 0:
                text.append("\n")
            text.append(look.text * 2, look.style)
            text.append(f" {state.label:<15}", "" if size else "dim")
            text.append(f"{human(size):>6}  ", "bold" if size else "dim")
        return text


class Mappings(ScrollView, can_focus=True):
    """The mappings to move through; the first row is the whole process."""

    HEAD = "start        perm   size present swapped  path"
    BINDINGS = [
        Binding("up,k", "move(-1)", "Mapping", key_display="↑↓"),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1_000_000_000)", show=False),
        Binding("end", "move(1_000_000_000)", show=False),
    ]
    ORDERS = ("address", "size", "present", "swapped")

    class Moved(Message):
        """Another row is selected."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.selected: Mapping | None = None  # None: the whole process
        self.order = "address"
        self._rows: list[tuple[Mapping | None, tuple[int, int, int]]] = [(None, (0, 0, 0))]
        self._cursor = 0

    def show(self, sample: Sample) -> None:
        """Show other mappings or sizes; the selected one stays selected, or what is next to it."""
        spans = sample.mappings
        sizes = np.array([m.end - m.start for m in spans], np.uint64)
        columns = {"size": sizes, "present": sample.present, "swapped": sample.swapped}
        order: Sequence[int] = range(len(spans))
        if self.order != "address":
            # ~ puts the largest first, and leaves equal ones in the order of addresses
            order = np.argsort(~columns[self.order], kind="stable").tolist()
        table = np.stack(list(columns.values()), axis=1)
        whole = None, tuple(table.sum(axis=0).tolist())
        lines = list(map(tuple, table.tolist()))
        rows = [whole, *((spans[row], lines[row]) for row in order)]
        if rows != self._rows:
            self._rows = rows
            self.virtual_size = Size(self.size.width, len(rows) + 1)
            self.refresh()
        self._find()

    def _find(self) -> None:
        """Put the cursor where the selected mapping is now."""
        if self.selected is None:
            row = 0
        else:
            start = self.selected.start
            found = (i for i, (m, _) in enumerate(self._rows) if m and m.start == start)
            row = next(found, min(self._cursor, len(self._rows) - 1))
        moved = row != self._cursor
        self._cursor, self.selected = row, self._rows[row][0]
        if moved:
            self._reveal()

    def select(self, mapping: Mapping | None) -> None:
        """Select a mapping, or the whole process."""
        self.selected = mapping
        self._find()
        self._reveal()
        self.post_message(self.Moved())

    def next_order(self) -> str:
        """Order the rows in the next way; return its name."""
        self.order = self.ORDERS[(self.ORDERS.index(self.order) + 1) % len(self.ORDERS)]
        return self.order

    def action_move(self, rows: int) -> None:
        """Move the cursor by some rows."""
        row = min(max(self._cursor + rows, 0), len(self._rows) - 1)
        if row != self._cursor:
            self._cursor, self.selected = row, self._rows[row][0]
            self._reveal()
            self.post_message(self.Moved())

    def action_page(self, pages: int) -> None:
        """Move the cursor by some screens."""
        self.action_move(pages * max(self.size.height - 1, 1))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to where it was clicked."""
        row = self.scroll_offset.y + event.y - 1
        if event.y and row < len(self._rows):
            self.action_move(row - self._cursor)

    def on_resize(self) -> None:
        """Keep the cursor on the screen."""
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._reveal()

    def _reveal(self) -> None:
        """Scroll as far as it takes to see the cursor."""
        room = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if not top <= self._cursor < top + room:
            top = self._cursor if self._cursor < top else self._cursor - room + 1
            self.scroll_to(y=top, animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the head, or one row."""
        width = self.size.width
        row = self.scroll_offset.y + y - 1
        if y == 0:
            mark = "" if self.order == "address" else f" (by {self.order})"
            return _strip(f" {self.HEAD}{mark}", Style(bold=True), width)
        if row >= len(self._rows):
            return Strip.blank(width)
        mapping, sizes = self._rows[row]
        numbers = "{:>6} {:>7} {:>7}".format(*map(human, sizes))
        if mapping is None:
            count = len(self._rows) - 1
            text = f"{'whole process':<18}{numbers}  {count} mapping{'' if count == 1 else 's'}"
        else:
            path = printable(mapping.path)
            text = f"{mapping.start:012x} {mapping.permissions} {numbers}  {path}"
        chosen = row == self._cursor
        return _strip(f"{'>' if chosen else ' '}{text}", Style(reverse=chosen), width)


def _strip(text: str, style: Style, width: int) -> Strip:
    strip = Strip([Segment(text, style)])
    return strip.adjust_cell_length(width, style) if strip.cell_length < width else strip.crop(0, width)
