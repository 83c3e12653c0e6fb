"""The cells that ``fastpagemap watch`` shows of what was sampled: no screen here."""

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

__all__ = ["Picture", "Wish", "picture"]

#: Where less than this part of a view was ever touched, and there is no cell for each page, the
#: rest is left out, unless asked for.
_SPARSE = 1 / 4


class Wish(NamedTuple):
    """What is to be shown, and in how many cells at most."""

    view: View = View()
    room: int = 1
    # leave out long stretches that were never touched; None: where they are most of it
    touched: bool | None = None
    soft_dirty: bool = False


@dataclass(frozen=True)
class Picture:
    """Cells, in the order of addresses, and what is in them.

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
        Bytes never touched that are mapped, but not shown.
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


def picture(sample: Sample, wish: Wish) -> Picture:
    """Return the cells of what was sampled."""
    whole = area = Area.of(sample.mappings, wish.view)
    runs = clipped(sample.runs, wish.view)
    if wish.touched is not False:
        touched = area.touched(_something(runs))
        crowded = area.size > wish.room * sample.page_size
        if wish.touched or (crowded and 0 < touched.size < _SPARSE * area.size):
            area = touched
    pages = cell_pages(-(-area.size // sample.page_size), wish.room)
    size = pages * sample.page_size
    count = -(-area.size // size)
    if not count:
        none = np.zeros((0, len(palette.STATES)))
        return Picture(np.zeros(0, np.uint8), pages, area, none, whole.size - area.size)
    amounts = palette.amounts(area.placed(runs), 0, count * size, count, soft_dirty=wish.soft_dirty)
    cells = palette.chosen(amounts)
    return Picture(cells, pages, area, amounts, whole.size - area.size)


def _something(runs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the runs of pages that are more than dirty for being newly mapped."""
    something: npt.NDArray[np.void] = runs[(runs["state"] & ~np.uint64(State.SOFT_DIRTY)) != 0]
    return something
