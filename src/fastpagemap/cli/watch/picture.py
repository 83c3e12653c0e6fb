"""The cells that ``fastpagemap watch`` shows of a sample; no screen here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.cli.watch.area import Area, View, cell_pages
from fastpagemap.cli.watch.changes import clipped
from fastpagemap.cli.watch.sampling import Sample
from fastpagemap.model.runs import State
from fastpagemap.report import palette

__all__ = ["Picture", "ViewRequest", "picture"]

#: If less than this part of a view was ever touched, and there are more pages than cells, only the
#: touched part is shown, unless all of it was asked for.
_SPARSE_PART = 1 / 4


class ViewRequest(NamedTuple):
    """Which addresses to show, in at most how many cells."""

    view: View = View()
    max_cells: int = 1
    # leave out long stretches that were never touched; None: only if they are most of the view
    only_touched: bool | None = None
    soft_dirty: bool = False


@dataclass(frozen=True)
class Picture:
    """Cells in address order, and what they show.

    Attributes
    ----------
    cells : ndarray of uint8
        Indices into ``palette.STATES``.
    pages : int
        How many pages one cell has.
    area : Area
        The addresses shown; a cell is ``pages`` of it.
    amounts : ndarray of float64, shape (cells, states)
        Bytes of each state in each cell.
    left_out : int
        Bytes that are mapped, but not shown, as they were never touched.
    """

    cells: npt.NDArray[np.uint8]
    pages: int
    area: Area
    amounts: npt.NDArray[np.float64]
    left_out: int

    @property
    def sums(self) -> list[int]:
        """Bytes of each state that is shown, and of what is left out as untouched."""
        sums = self.amounts.sum(axis=0).round().astype(np.int64).tolist()
        sums[palette.UNTOUCHED] = self.area.size + self.left_out - sum(sums[: palette.UNTOUCHED])
        return list(sums)


def picture(sample: Sample, request: ViewRequest) -> Picture:
    """Return the cells of a sample."""
    whole = area = Area.of(sample.mappings, request.view)
    runs = clipped(sample.runs, request.view)
    if request.only_touched is not False:
        touched = area.touched(_touched(runs))
        crowded = area.size > request.max_cells * sample.page_size
        if request.only_touched or (crowded and 0 < touched.size < _SPARSE_PART * area.size):
            area = touched
    pages = cell_pages(-(-area.size // sample.page_size), request.max_cells)
    size = pages * sample.page_size
    count = -(-area.size // size)
    if not count:
        none = np.zeros((0, len(palette.STATES)))
        return Picture(np.zeros(0, np.uint8), pages, area, none, whole.size - area.size)
    placed, soft_dirty = area.placed(runs), request.soft_dirty
    amounts = palette.amounts(placed, 0, count * size, count, soft_dirty=soft_dirty)
    cells = palette.chosen(amounts)
    return Picture(cells, pages, area, amounts, whole.size - area.size)


def _touched(runs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the runs that are more than soft-dirty: all pages of a new mapping are that."""
    found: npt.NDArray[np.void] = runs[(runs["state"] & ~np.uint64(int(State.SOFT_DIRTY))) != 0]
    return found
