"""A list of many rows to move through, order and search, drawn a screen at a time.

textual's DataTable keeps text for every cell: with 20,000 rows it takes 1.9 s of processor time to
fill, and 13 ms for each row that is removed (benchmarks/bench_lists.py). Here rows are arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fastpagemap.cli.watch.columns import Column, fitting
from fastpagemap.report.conditions import matches

__all__ = ["Listing", "Rows"]

#: Characters of a name that are searched, from its end: names may have a million.
MAX_SEARCHED = 4096
#: Columns of the screen for the last text: where there is a choice, and at least.
GOOD_LAST, MIN_LAST = 30, 12


class Rows(NamedTuple):
    """What a list shows.

    Attributes
    ----------
    items : sequence
        A row is about one of them each, in the order that rows have if no column orders them.
    numbers : dict of str to ndarray
        Columns of numbers, by their names; NaN is not known.
    """

    items: Sequence[Any]
    numbers: dict[str, npt.NDArray[Any]]


class Listing(ScrollView, can_focus=True):
    """Rows to move through; a subclass says what they are about.

    Before the columns of numbers stands a text of a fixed width, after them one that takes the rest
    of the line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False, key_display="↑ ↓", tooltip="a row"),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False, key_display="PgUp PgDn", tooltip="a screen"),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "page(-1e9)", show=False, key_display="Home End", tooltip="first, last"),
        Binding("end", "page(1e9)", show=False),
        Binding("n", "again(1)", show=False, key_display="n N", tooltip="what was searched, again"),
        Binding("N", "again(-1)", show=False),
    ]
    #: The head of the text before the numbers.
    FIRST = ""
    FIRST_WIDTH = 0
    #: Rows that always come first.
    PINNED = 0
    COLUMNS: ClassVar[tuple[Column, ...]] = ()

    class Moved(Message):
        """Another row is selected."""

    class Chosen(Message):
        """Enter was pressed on a row, or it was clicked when it was selected."""

    def __init__(self, id: str, shown: Sequence[str], order: str = "") -> None:
        super().__init__(id=id)
        self.selected: Any = None
        #: The names of the columns that are shown, and of the one that rows are ordered by.
        self.shown, self.order = tuple(shown), order
        self.pattern = ""
        self._rows = Rows((), {})
        self._order: list[int] = []
        self._cursor = 0

    # ---- for subclasses ----

    def identity(self, item: Any) -> Any:
        """Return what stays the same of an item from one sample to the next; None of none."""
        raise NotImplementedError

    def words(self, item: Any) -> str:
        """Return the text of an item that is searched."""
        raise NotImplementedError

    def first(self, item: Any) -> str:
        """Return the text before the numbers."""
        raise NotImplementedError

    def last_head(self, width: int) -> str:
        """Return the head of the text after the numbers."""
        raise NotImplementedError

    def last(self, item: Any, width: int) -> str:
        """Return the text after the numbers, in so many columns."""
        raise NotImplementedError

    # ---- rows ----

    @property
    def items(self) -> list[Any]:
        """What the rows are about, in the order shown."""
        return [self._rows.items[index] for index in self._order]

    def put(self, rows: Rows) -> None:
        """Show new rows; the selection stays, or moves to a neighbour."""
        self._rows = rows
        self._sort()

    def _sort(self) -> None:
        rows, order = self._rows, list(range(len(self._rows.items)))
        column = self._column(self.order)
        if column and column.name in rows.numbers:
            # Not known is last; equal ones stay in their order.
            numbers = rows.numbers[column.name][self.PINNED :].astype(np.float64)
            order[self.PINNED :] = (np.argsort(-numbers, kind="stable") + self.PINNED).tolist()
        self._order = order
        self.virtual_size = Size(self.size.width, len(order) + 1)
        self._find()
        self.refresh()

    def _column(self, name: str) -> Column | None:
        return next((column for column in self.COLUMNS if column.name == name), None)

    def _find(self) -> None:
        """Put the cursor where the selected item is now."""
        items, same = self._rows.items, self.identity(self.selected)
        found = (row for row, at in enumerate(self._order) if self.identity(items[at]) == same)
        row = next(found, max(min(self._cursor, len(self._order) - 1), 0))
        moved = row != self._cursor
        self._cursor = row
        self.selected = items[self._order[row]] if self._order else None
        if moved:
            self._reveal()

    # ---- moving ----

    def select(self, item: Any) -> None:
        """Select an item."""
        self.selected = item
        self._find()
        self._reveal()
        self.post_message(self.Moved())

    def _go(self, row: int) -> None:
        row = min(max(row, 0), len(self._order) - 1)
        if row >= 0 and row != self._cursor:
            self._cursor, self.selected = row, self._rows.items[self._order[row]]
            self._reveal()
            self.post_message(self.Moved())

    def action_move(self, rows: int) -> None:
        """Move the cursor by some rows."""
        self._go(self._cursor + rows)

    def action_page(self, pages: float) -> None:
        """Move the cursor by some screens."""
        self.action_move(int(pages) * max(self.size.height - 1, 1))

    def search(self, pattern: str, step: int = 1) -> bool:
        """Move to the next row that matches a pattern, or the one before; return if there is one.

        A pattern is a text, or a shell pattern, as for ``report --path``.
        """
        self.pattern, count = pattern, len(self._order)
        for away in range(1, count + 1):
            row = (self._cursor + step * away) % count
            words = self.words(self._rows.items[self._order[row]])
            if matches(pattern, words[-MAX_SEARCHED:]):
                self._go(row)
                return True
        return False

    def action_again(self, step: int) -> None:
        """Search on, or back."""
        if self.pattern and not self.search(self.pattern, step):
            self.notify(f"nothing has '{self.pattern}' in it", markup=False)

    # ---- order ----

    def order_by(self, name: str) -> None:
        """Order the rows by a column; by none, in the order in which they are given."""
        if name != self.order:
            self.order = name
            self._sort()

    def next_order(self, step: int = 1) -> None:
        """Order the rows by the next column that is shown."""
        orders = ["", *self.shown]
        at = orders.index(self.order) if self.order in orders else 0
        self.order_by(orders[(at + step) % len(orders)])

    def show_columns(self, names: Sequence[str]) -> None:
        """Show other columns of numbers."""
        self.shown = tuple(names)
        if self.order not in self.shown:
            self.order_by("")
        self.refresh(layout=True)

    # ---- the mouse ----

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to where it was clicked; on the head, order by that column."""
        row = self.scroll_offset.y + event.y - 1
        if not event.y:
            self.order_by(self._head_at(event.x))
        elif row < len(self._order):
            self._go(row)
            if event.chain > 1:
                self.post_message(self.Chosen())

    def _head_at(self, x: int) -> str:
        """Return the column whose head is there; empty for the texts at both ends."""
        at = 1 + self.FIRST_WIDTH
        for column in self._fitting():
            if at <= x < (at := at + 1 + column.width):
                return column.name
        return ""

    # ---- drawing ----

    def on_resize(self) -> None:
        """Keep the cursor on the screen."""
        self.virtual_size = Size(self.size.width, len(self._order) + 1)
        self._reveal()

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Return a width in which there is room for the last text, too."""
        columns = filter(None, map(self._column, self.shown))
        return self.FIRST_WIDTH + sum(1 + column.width for column in columns) + GOOD_LAST

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
            return self._strip(self._head(), Style(bold=True), width)
        if row >= len(self._order):
            return self._strip("", Style(), width)
        index = self._order[row]
        item, chosen = self._rows.items[index], row == self._cursor
        text = f"{'>' if chosen else ' '}{self.first(item):<{self.FIRST_WIDTH}}"
        for column in self._fitting():
            text += f" {self._number(column, index):>{column.width}}"
        text += "  " + self.last(item, self._last_width(text))
        return self._strip(text, Style(reverse=chosen), width)

    def _head(self) -> str:
        """Return the heads; the column that orders the rows is marked."""
        text = f" {self.FIRST:<{self.FIRST_WIDTH}}"
        for column in self._fitting():
            mark = "▾" if column.name == self.order else ""
            text += f" {mark + column.head:>{column.width}}"
        left_out = len(self.shown) - len(self._fitting())
        last = self.last_head(self._last_width(text))
        return f"{text}  {last}{f' (+{left_out})' if left_out else ''}"

    def _fitting(self) -> list[Column]:
        """Return the columns that fit beside the last text."""
        columns = list(filter(None, map(self._column, self.shown)))
        width = self.scrollable_content_region.width - self.FIRST_WIDTH - MIN_LAST - 3
        return fitting(columns, width, self.order)

    def _last_width(self, before: str) -> int:
        """Return how many columns of the screen there are for the text after the numbers."""
        return max(self.scrollable_content_region.width - len(before) - 3, 1)

    def _number(self, column: Column, index: int) -> str:
        numbers = self._rows.numbers.get(column.name)
        if numbers is None or numbers[index] != numbers[index]:
            return "-"
        return column.text(numbers[index].item())

    def _strip(self, text: str, style: Style, width: int) -> Strip:
        style = self.rich_style + style
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)
