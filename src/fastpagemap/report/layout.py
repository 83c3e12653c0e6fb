"""Where each mapping stands in a picture of the address space: rows of cells, without the gaps.

Nothing is drawn here. The cost grows with mappings, runs and cells, not with pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import KERNEL_HALF, Mapping
from fastpagemap.model.runs import Runs
from fastpagemap.report import palette
from fastpagemap.report.spans import Holes, Span, holes_of, spans_of

#: Cells that the mark for a cut-out stretch takes.
MARK_CELLS = 8
#: A stretch of untouched pages is cut out if it is longer than this many rows.
MAX_UNTOUCHED_ROWS = 2
#: Empty cells between two spans of the same row.
GAP_CELLS = 1
#: If there are more spans than this, the small ones share cells.
MAX_SEPARATE_SPANS = 4096

#: A span, and the parts of it that are not cut out: their starts and ends.
Piece = tuple[Span, list[tuple[int, int]]]


class Part(NamedTuple):
    """Part of a row: `width` cells from number `first` on; if `cut`, a mark for so many bytes."""

    row: int
    column: int
    first: int
    width: int
    cut: int = 0


@dataclass(frozen=True)
class Block:
    """Spans that have rows to themselves: one large span, or several small ones."""

    spans: list[Span]
    row: int
    rows: int
    # row and column where each span after the first begins
    borders: list[tuple[int, int]]


@dataclass(frozen=True)
class Layout:
    """Everything about a picture that is known before it is drawn.

    Attributes
    ----------
    cell : int
        Bytes of a cell.
    columns, rows : int
        Cells of a row, and rows.
    blocks : list of Block
    parts : list of Part
        The contents of the rows.
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
    max_rows: int,
    scheme: palette.Scheme | None = None,
) -> Layout:
    """Choose the size of a cell so that all mappings fit, and place them.

    A cell is a page, or 2, 4, 8 ... pages: as few as `max_rows` rows allow. What lies between
    mappings is cut out, and so are stretches of untouched pages longer than MAX_UNTOUCHED_ROWS,
    in place of which a mark stands.
    """
    spans = spans_of(mappings)
    scheme = scheme or palette.by_state()
    shown = scheme.display(runs["state"])
    touched = runs[(shown != scheme.untouched) & (runs["start"] < np.uint64(KERNEL_HALF))]
    bounds = np.array([(span.start, span.end) for span in spans], np.uint64).reshape(-1, 2)
    holes = holes_of(bounds, touched)
    if len(spans) <= MAX_SEPARATE_SPANS:  # each span begins a new cell
        max_rows = max(max_rows, 2 * len(spans) * (1 + GAP_CELLS) // columns)
    cell = page_size
    while _estimate(bounds, holes, cell * columns) > max_rows:
        cell *= 2
    while True:
        flow = _Flow(spans, bounds, holes, cell, columns)
        if flow.rows <= max_rows * 1.1 or cell > 1 << 50:
            break
        cell *= 2
    placed = flow.placed(touched)
    count = max(flow.cells, 1)
    table = palette.amounts(placed, 0, count * cell, count, scheme=scheme)
    shown = palette.chosen(table, scheme)
    return Layout(cell, columns, flow.rows, flow.blocks, flow.parts, table, shown)


def _estimate(bounds: npt.NDArray[np.uint64], holes: Holes, row: int) -> float:
    """Estimate how many rows the picture takes."""
    sizes = (bounds[:, 1] - bounds[:, 0]).astype(np.float64)
    lengths = (holes.end - holes.start).astype(np.float64)
    cut = lengths > MAX_UNTOUCHED_ROWS * row
    np.subtract.at(sizes, holes.span[cut], lengths[cut])
    large = sizes > row / 2
    marks = np.count_nonzero(cut) * MARK_CELLS / 64
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
        # start and end of each part that is shown, and its position in the picture, in bytes
        self._kept: list[tuple[int, int, int]] = []
        for small, some in _grouped(self._pieces(spans, bounds, holes), cell, columns):
            if small and len(spans) > MAX_SEPARATE_SPANS:
                self._heap(some)
            else:
                self._block(some)
        self.rows = self._row + 1

    def _pieces(
        self, spans: list[Span], bounds: npt.NDArray[np.uint64], holes: Holes
    ) -> Iterator[Piece]:
        """Yield each span, and the parts of it that are not cut out."""
        cut = holes.end - holes.start > np.uint64(MAX_UNTOUCHED_ROWS * self.columns * self.cell)
        firsts = np.searchsorted(holes.span[cut], np.arange(len(spans) + 1))
        cell = self.cell
        # Only whole cells are cut out, so that the borders of the others do not move.
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
                self._column += GAP_CELLS
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
        """Put spans into rows as if they were one: too many to give each a cell."""
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

    def _cells_left(self, least: int) -> int:
        """Return how many cells are left in the row; begin a row if fewer than `least` are."""
        if self._column + least > self.columns:
            self._row, self._column = self._row + 1, 0
        return self.columns - self._column

    def _mark(self, cut: int) -> None:
        self._cells_left(MARK_CELLS)
        self.parts.append(Part(self._row, self._column, 0, MARK_CELLS, cut))
        self._column += MARK_CELLS

    def _fill(self, low: int, high: int) -> None:
        self._kept.append((low, high, self.cells * self.cell))
        self._cells(-(-(high - low) // self.cell))

    def _cells(self, left: int) -> None:
        while left:
            width = min(self._cells_left(1), left)
            self.parts.append(Part(self._row, self._column, self.cells, width))
            self.cells += width
            self._column += width
            left -= width

    def placed(self, runs: Runs) -> Runs:
        """Return the runs with positions in the picture, in bytes, in place of addresses."""
        kept = np.array(self._kept, np.uint64).reshape(-1, 3)
        if not len(kept):
            return runs[:0]
        at = np.searchsorted(kept[:, 0], runs["start"], "right") - 1
        inside = (at >= 0) & (runs["end"] <= kept[np.maximum(at, 0), 1])
        placed: Runs = runs[inside].copy()
        at = at[inside]
        for name in ("start", "end"):
            placed[name] += kept[at, 2] - kept[at, 0]
        return placed


def _grouped(
    pieces: Iterator[Piece], cell: int, columns: int
) -> Iterator[tuple[bool, list[Piece]]]:
    """Yield large spans one by one, and the small ones between them together."""
    few: list[Piece] = []
    for span, kept in pieces:
        cells = sum(-(-(high - low) // cell) for low, high in kept) + MARK_CELLS * (len(kept) - 1)
        if cells * 2 < columns:
            few.append((span, kept))
            continue
        if few:
            yield True, few
            few = []
        yield False, [(span, kept)]
    if few:
        yield True, few
