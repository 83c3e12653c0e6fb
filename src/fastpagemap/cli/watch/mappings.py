"""The list of mappings of ``fastpagemap watch``, to move through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fastpagemap.cli.watch.sampling import Sample
from fastpagemap.model.mapping import Mapping
from fastpagemap.report.text import ANON, ending, human

__all__ = ["Mappings"]


class Mappings(ScrollView, can_focus=True):
    """The mappings to move through; the first row is the whole process."""

    HEAD = "start        perm   size present swapped  path"
    BINDINGS: ClassVar[list[BindingType]] = [
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
        self._shown: tuple[float, str] | None = None

    def show(self, sample: Sample) -> None:
        """Show new mappings or sizes; the selection stays, or moves to a neighbour."""
        shown = sample.summed, self.order
        if shown == self._shown:
            return
        self._shown, spans = shown, sample.mappings
        sizes = np.array([m.end - m.start for m in spans], np.uint64)
        columns = {"size": sizes, "present": sample.present, "swapped": sample.swapped}
        order: Sequence[int] = range(len(spans))
        if self.order != "address":
            # ~ puts the largest first; equal ones stay in address order
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
        """Scroll until the cursor is visible."""
        height = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if not top <= self._cursor < top + height:
            top = self._cursor if self._cursor < top else self._cursor - height + 1
            self.scroll_to(y=top, animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the head, or one row."""
        width = self.scrollable_content_region.width
        row = self.scroll_offset.y + y - 1
        if y == 0:
            mark = "" if self.order == "address" else f" (by {self.order})"
            return self._strip(f" {self.HEAD}{mark}", Style(bold=True), width)
        if row >= len(self._rows):
            return self._strip("", Style(), width)
        mapping, sizes = self._rows[row]
        numbers = "{:>6} {:>7} {:>7}".format(*map(human, sizes))
        if mapping is None:
            count = len(self._rows) - 1
            text = f"{'whole process':<18}{numbers}  {count} mapping{'' if count == 1 else 's'}"
        else:
            text = f"{mapping.start:012x} {mapping.permissions} {numbers}  "
            text += ending(mapping.path or ANON, width - len(text) - 1)
        chosen = row == self._cursor
        return self._strip(f"{'>' if chosen else ' '}{text}", Style(reverse=chosen), width)

    def _strip(self, text: str, style: Style, width: int) -> Strip:
        style = self.rich_style + style
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)
