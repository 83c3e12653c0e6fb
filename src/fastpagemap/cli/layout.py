"""Where each mapping goes in a picture of the address space: rows of cells, the gaps cut out.

No drawing and no library but numpy. The cost follows mappings, runs and cells, not pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap import Mapping
from fastpagemap.cli import palette

#: cells that the mark for a long stretch of untouched pages takes
BREAK = 8
#: rows that a stretch has to be longer than, to be cut out
LONG = 2
#: cells after which another mapping of the same row begins
APART = 1
_KERNEL = 1 << 63

#: spans above which the small ones share cells
MANY = 4096

Runs = npt.NDArray[np.void]
#: a span, and the addresses that are kept of it
Piece = tuple["Span", list[tuple[int, int]]]


class Part(NamedTuple):
    """Part of a row: `width` cells from `first` on, or if `cut`, a mark for that many bytes."""

    row: int
    column: int
    first: int
    width: int
    cut: int = 0


class Span(NamedTuple):
    """Mappings side by side of one path."""

    start: int
    end: int
    path: str
    mappings: int

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Block:
    """What has rows to itself: one large span, or several small ones."""

    spans: list[Span]
    row: int
    rows: int
    # the columns at which a span begins that is not the first of the block: row, column
    borders: list[tuple[int, int]]


@dataclass(frozen=True)
class Layout:
    """A picture, but for the drawing.

    Attributes
    ----------
    cell : int
        Bytes of a cell.
    columns, rows : int
        Cells of a row, and rows.
    blocks : list of Block
    parts : list of Part
        What is in the rows.
    table : ndarray, shape (cells, display states)
        Bytes of each state in each cell.
    shown : ndarray of uint8
        The state that each cell shows.
    """

    cell: int
    columns: int
    rows: int
    blocks: list[Block]
    parts: list[Part]
    table: npt.NDArray[np.float64]
    shown: npt.NDArray[np.uint8]


def spans_of(mappings: Sequence[Mapping]) -> list[Span]:
    """Join mappings of the same path that lie side by side: the parts of a library, of a heap."""
    spans: list[Span] = []
    for mapping in mappings:
        if mapping.start >= _KERNEL:  # [vsyscall], of which nothing can be known
            continue
        last = spans[-1] if spans else None
        if last and (last.end, last.path) == (mapping.start, mapping.path):
            spans[-1] = Span(last.start, mapping.end, last.path, last.mappings + 1)
        else:
            spans.append(Span(mapping.start, mapping.end, mapping.path, 1))
    return spans


def lay_out(
    mappings: Sequence[Mapping],
    runs: Runs,
    *,
    page_size: int,
    columns: int,
    most_rows: int,
    soft_dirty: bool = False,
) -> Layout:
    """Choose the size of a cell, so that all fits, and put everything into its place.

    A cell is a page, or 2, 4, 8 ... pages: as few as `most_rows` rows allow. What lies between
    mappings is cut out, and so are stretches of untouched pages longer than LONG rows, of which a
    mark is left.
    """
    spans = spans_of(mappings)
    shown = palette.display(runs["state"], soft_dirty=soft_dirty)
    touched = runs[(shown != palette.UNTOUCHED) & (runs["start"] < np.uint64(_KERNEL))]
    bounds = np.array([(span.start, span.end) for span in spans], np.uint64).reshape(-1, 2)
    holes = _holes(bounds, touched)
    if len(spans) <= MANY:  # each begins in a cell of its own
        most_rows = max(most_rows, 2 * len(spans) * (1 + APART) // columns)
    cell = page_size
    while _estimate(bounds, holes, cell * columns) > most_rows:
        cell *= 2
    while True:
        flow = _Flow(spans, bounds, holes, cell, columns)
        if flow.rows <= most_rows * 1.1 or cell > 1 << 50:
            break
        cell *= 2
    moved = flow.moved(touched)
    count = max(flow.cells, 1)
    table = palette.amounts(moved, 0, count * cell, count, soft_dirty=soft_dirty)
    return Layout(cell, columns, flow.rows, flow.blocks, flow.parts, table, palette.chosen(table))


class _Holes(NamedTuple):
    """Stretches without a touched page: the index of their span, and their ends."""

    span: npt.NDArray[np.intp]
    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]


def _holes(bounds: npt.NDArray[np.uint64], touched: Runs) -> _Holes:
    """Return all stretches of spans that no run covers."""
    if not len(bounds):
        empty = np.empty(0, np.uint64)
        return _Holes(np.empty(0, np.intp), empty, empty)
    owner = np.searchsorted(bounds[:, 0], touched["start"], "right") - 1
    mine = (owner >= 0) & (touched["end"] <= bounds[np.maximum(owner, 0), 1])
    owner, touched = owner[mine], touched[mine]
    # the spans' own borders are runs of no length; where spans touch, the end of one comes first
    number = np.arange(len(bounds))
    which = np.concatenate((number, number, owner))
    lows = np.concatenate((bounds[:, 1], bounds[:, 0], touched["start"]))
    highs = np.concatenate((bounds[:, 1], bounds[:, 0], touched["end"]))
    order = np.lexsort((highs, lows))
    which, lows, highs = which[order], lows[order], highs[order]
    holes = (lows[1:] > highs[:-1]) & (which[1:] == which[:-1])
    return _Holes(which[1:][holes], highs[:-1][holes], lows[1:][holes])


def _estimate(bounds: npt.NDArray[np.uint64], holes: _Holes, row: int) -> float:
    """Return how many rows it will take, about."""
    sizes = (bounds[:, 1] - bounds[:, 0]).astype(np.float64)
    lengths = (holes.end - holes.start).astype(np.float64)
    cut = lengths > LONG * row
    np.subtract.at(sizes, holes.span[cut], lengths[cut])
    large = sizes > row / 2
    marks = np.count_nonzero(cut) * BREAK / 64
    rows = np.ceil(sizes[large] / row).sum() + sizes[~large].sum() / row + marks
    return float(rows + np.count_nonzero(np.diff(large)) / 2)


class _Flow:
    """Puts spans into rows, one after the other."""

    def __init__(
        self,
        spans: list[Span],
        bounds: npt.NDArray[np.uint64],
        holes: _Holes,
        cell: int,
        columns: int,
    ) -> None:
        self.cell, self.columns = cell, columns
        self.blocks: list[Block] = []
        self.parts: list[Part] = []
        self.cells = 0
        self._row, self._column = -1, columns
        # what is kept: addresses, and the bytes at which they are in the picture
        self._kept: list[tuple[int, int, int]] = []
        for small, some in _grouped(self._pieces(spans, bounds, holes), cell, columns):
            if small and len(spans) > MANY:
                self._heap(some)
            else:
                self._block(some)
        self.rows = self._row + 1

    def _pieces(
        self, spans: list[Span], bounds: npt.NDArray[np.uint64], holes: _Holes
    ) -> Iterator[Piece]:
        """Yield each span, and what of it is kept."""
        cut = holes.end - holes.start > np.uint64(LONG * self.columns * self.cell)
        firsts = np.searchsorted(holes.span[cut], np.arange(len(spans) + 1))
        cell = self.cell
        # whole cells are cut out, so that the others stay where they are
        starts, ends = holes.start[cut].tolist(), holes.end[cut].tolist()
        for index, span in enumerate(spans):
            at, kept = span.start, []
            for hole in range(firsts[index], firsts[index + 1]):
                low = span.start + -(-(starts[hole] - span.start) // cell) * cell
                high = span.start + (ends[hole] - span.start) // cell * cell
                high = span.end if ends[hole] == span.end else high
                kept.append((at, low))
                at = high
            kept.append((at, span.end))
            yield span, kept

    def _block(self, some: list[Piece]) -> None:
        """Put one large span, or several small ones, into rows of their own."""
        self._row, self._column = self._row + 1, 0
        row, borders = self._row, []
        for index, (_, kept) in enumerate(some):
            if index:
                self._column += APART
                borders.append((self._row, self._column))
            last = kept[0][0]
            for low, high in kept:
                if low > last:
                    self._mark(low - last)
                if high > low:
                    self._fill(low, high)
                last = high
        self._close(some, row, borders)

    def _heap(self, some: list[Piece]) -> None:
        """Put spans, too many to tell apart, into rows as if they were one."""
        self._row, self._column = self._row + 1, 0
        row, size, base = self._row, 0, self.cells * self.cell
        for _, kept in some:
            for low, high in kept:
                self._kept.append((low, high, base + size))
                size += high - low
        self._cells(-(-size // self.cell))
        self._close(some, row, [])

    def _close(self, some: list[Piece], row: int, borders: list[tuple[int, int]]) -> None:
        spans = [span for span, _ in some]
        self.blocks.append(Block(spans, row, self._row - row + 1, borders))

    def _room(self, least: int) -> int:
        if self._column + least > self.columns:
            self._row, self._column = self._row + 1, 0
        return self.columns - self._column

    def _mark(self, cut: int) -> None:
        self._room(BREAK)
        self.parts.append(Part(self._row, self._column, 0, BREAK, cut))
        self._column += BREAK

    def _fill(self, low: int, high: int) -> None:
        self._kept.append((low, high, self.cells * self.cell))
        self._cells(-(-(high - low) // self.cell))

    def _cells(self, left: int) -> None:
        while left:
            width = min(self._room(1), left)
            self.parts.append(Part(self._row, self._column, self.cells, width))
            self.cells += width
            self._column += width
            left -= width

    def moved(self, runs: Runs) -> Runs:
        """Return runs with the bytes at which they are in the picture as their addresses."""
        kept = np.array(self._kept, np.uint64).reshape(-1, 3)
        if not len(kept):
            return runs[:0]
        at = np.searchsorted(kept[:, 0], runs["start"], "right") - 1
        inside = (at >= 0) & (runs["end"] <= kept[np.maximum(at, 0), 1])
        moved: Runs = runs[inside].copy()
        at = at[inside]
        for name in ("start", "end"):
            moved[name] += kept[at, 2] - kept[at, 0]
        return moved


def _grouped(
    pieces: Iterator[Piece], cell: int, columns: int
) -> Iterator[tuple[bool, list[Piece]]]:
    """Yield large spans one by one, and the small ones between them together."""
    few: list[Piece] = []
    for span, kept in pieces:
        cells = sum(-(-(high - low) // cell) for low, high in kept) + BREAK * (len(kept) - 1)
        if cells * 2 < columns:
            few.append((span, kept))
            continue
        if few:
            yield True, few
            few = []
        yield False, [(span, kept)]
    if few:
        yield True, few
