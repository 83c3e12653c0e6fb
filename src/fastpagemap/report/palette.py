"""How the states of pages look: their order, names, colours and characters; runs made into cells.

The one place that says which state a page is shown in, and which one a cell of many pages.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.runs import State

__all__ = ["KEYS", "STATES", "UNTOUCHED", "DisplayState", "amounts", "cells", "chosen", "display"]

Cells = npt.NDArray[np.uint8]
Runs = npt.NDArray[np.void]


class DisplayState(NamedTuple):
    """How a state is shown: ``colour`` as #rrggbb, ``char`` where there is no colour."""

    key: str
    label: str
    colour: str
    char: str


#: In the order of a legend; the index of a state is what `display` and `cells` return. The hues
#: are those of Okabe and Ito, for the colour-blind; the lightness of each is its own, for print.
STATES = (
    DisplayState("present", "present", "#0072b2", "#"),
    DisplayState("huge", "huge page", "#0b2f5b", "H"),
    DisplayState("shared", "shared", "#56b4e9", "="),
    DisplayState("swapped", "swapped", "#d55e00", "s"),
    DisplayState("swapped_shared", "swapped, shared", "#f6bd4a", "S"),
    DisplayState("zero", "zero page", "#c3dff0", "0"),
    DisplayState("guard", "guard", "#585858", "|"),
    DisplayState("soft_dirty", "soft-dirty", "#004d36", "*"),
    DisplayState("unknown", "unknown", "#cc79a7", "?"),
    DisplayState("untouched", "untouched", "#f4f4f4", "."),
)
KEYS = tuple(state.key for state in STATES)
UNTOUCHED = KEYS.index("untouched")

#: What is needed for a state, weakest first: a page is shown in the last one that it fulfils.
#: A page that is swapped out is not present, a huge page may be shared, a zero page is present.
_PRECEDENCE = (
    ("present", State.PRESENT),
    ("shared", State.SHARED),
    ("huge", State.HUGE),
    ("zero", State.ZERO),
    ("soft_dirty", State.SOFT_DIRTY),
    ("swapped", State.SWAPPED),
    ("swapped_shared", State.SWAPPED_SHARED),
    ("unknown", State.UNKNOWN),
    ("guard", State.GUARD),
)
#: Those that a cell shows even if they are the lesser part of it: from one page in eight on.
_TELLING = ("soft_dirty", "swapped", "swapped_shared", "unknown")
_ENOUGH = 8


def display(states: npt.ArrayLike, *, soft_dirty: bool = False) -> Cells:
    """Return in which display state words of `fastpagemap.State` are shown.

    Parameters
    ----------
    states : array_like of int
        Words of `State`, of any shape.
    soft_dirty : bool, optional
        Show soft-dirty pages that are present as such. Not by default: where nobody has cleared
        the bits, all pages have them, and would hide everything else.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`. Strongest first: guard, unknown, shared memory in swap, swapped,
        soft-dirty (where asked for), zero page, huge, shared, present, untouched.
    """
    words = np.asarray(states, np.uint64)
    shown = np.full(words.shape, UNTOUCHED, np.uint8)
    for key, flag in _PRECEDENCE:
        has = (words & np.uint64(flag)) != 0
        if key == "soft_dirty":
            if not soft_dirty:
                continue
            has &= (words & np.uint64(State.PRESENT)) != 0
        shown[has] = KEYS.index(key)
    return shown


def amounts(
    runs: Runs, start: int, end: int, count: int, *, soft_dirty: bool = False
) -> npt.NDArray[np.float64]:
    """Return how much of each display state is in each of `count` equal cells of a span.

    Parameters
    ----------
    runs : ndarray of RUN_DTYPE
        Sorted, not overlapping; what is outside the span does not count.
    start, end : int
        The span, in bytes.
    count : int
        How many cells it is cut into, at least one. They are equal in bytes, page borders or not.
    soft_dirty : bool, optional
        As for `display`.

    Returns
    -------
    ndarray of float64, shape (count, len(STATES))
        Bytes; each row sums up to the size of a cell. The cost follows the runs and the cells,
        not the pages.
    """
    low, high = np.uint64(start), np.uint64(end)
    borders = np.linspace(0.0, end - start, count + 1)
    near = runs[(runs["end"] > low) & (runs["start"] < high)]
    shown = display(near["state"], soft_dirty=soft_dirty)
    table = np.zeros((count, len(STATES)))
    for index in np.unique(shown):
        mine = near[shown == index]
        # bytes of this state up to an address: flat between runs, rising by one a byte within
        edges = np.stack((mine["start"], mine["end"]), axis=1).clip(low, high) - low
        edges = edges.astype(np.float64)
        sizes = edges[:, 1] - edges[:, 0]
        upto = np.cumsum(sizes)
        levels = np.stack((upto - sizes, upto), axis=1)
        table[:, index] = np.diff(np.interp(borders, edges.ravel(), levels.ravel()))
    table[:, UNTOUCHED] = 0
    table[:, UNTOUCHED] = np.maximum((end - start) / count - table.sum(axis=1), 0)
    return table


def chosen(table: npt.NDArray[np.float64]) -> Cells:
    """Return which display state each cell shows, given the `amounts` in it.

    The state that has most of what was touched in the cell; untouched, only if nothing was. But
    what is swapped, unknown or (where asked for) soft-dirty shows as soon as it is one part in
    eight of what was touched; and a state that no cell at all would show takes the cell that has
    most of it. So nothing vanishes, as long as there are cells enough.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`.
    """
    touched = np.delete(table, UNTOUCHED, axis=1)  # UNTOUCHED is last: indices stay
    shown: Cells = touched.argmax(axis=1).astype(np.uint8)
    whole = touched.sum(axis=1)
    shown[whole == 0] = UNTOUCHED
    telling = [KEYS.index(key) for key in _TELLING]
    most = touched[:, telling].argmax(axis=1)
    strong = np.take_along_axis(touched[:, telling], most[:, None], axis=1)[:, 0]
    wins = (strong > 0) & (strong * _ENOUGH >= whole)
    shown[wins] = np.array(telling, np.uint8)[most[wins]]
    for key, _ in _PRECEDENCE:  # the most telling last, so that it has the last word
        index = KEYS.index(key)
        if len(table) and touched[:, index].any() and not (shown == index).any():
            shown[touched[:, index].argmax()] = index
    return shown


def cells(runs: Runs, start: int, end: int, count: int, *, soft_dirty: bool = False) -> Cells:
    """Return which display state each of `count` equal cells of a span shows.

    `amounts` says what the parameters are, `chosen` what is shown of several states in one cell.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`.
    """
    return chosen(amounts(runs, start, end, count, soft_dirty=soft_dirty))
