"""Where each mapping goes in a picture of the address space: rows of cells, the gaps cut out.

No drawing and no library but numpy. The cost follows mappings, runs and cells, not pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import Mapping
from fastpagemap.report import palette
from fastpagemap.report.spans import KERNEL, Holes, Runs, Span, holes_of, spans_of

#: cells that the mark for a long stretch of untouched pages takes
BREAK = 8
#: rows that a stretch has to be longer than, to be cut out
LONG = 2
#: cells after which another mapping of the same row begins
APART = 1

#: spans above which the small ones share cells
MANY = 4096

#: a span, and the addresses that are kept of it
Piece = tuple[Span, list[tuple[int, int]]]


class Part(NamedTuple):
    """Part of a row: `width` cells from `first` on, or if `cut`, a mark for that many bytes."""

    row: int
    column: int
    first: int
    width: int
    cut: int = 0


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
    touched = runs[(shown != palette.UNTOUCHED) & (runs["start"] < np.uint64(KERNEL))]
    bounds = np.array([(span.start, span.end) for span in spans], np.uint64).reshape(-1, 2)
    holes = holes_of(bounds, touched)
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


def _estimate(bounds: npt.NDArray[np.uint64], holes: Holes, row: int) -> float:
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
        holes: Holes,
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
        self, spans: list[Span], bounds: npt.NDArray[np.uint64], holes: Holes
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
