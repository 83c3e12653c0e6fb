"""How the states of pages are shown: their order, names, colours and characters.

Only this module decides which state a page, or a cell of many pages, is shown in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.runs import Runs, State, has_any

__all__ = ["KEYS", "STATES", "UNTOUCHED", "DisplayState", "Scheme", "amounts", "by_state", "cells"]
__all__ += ["chosen", "display"]

Cells = npt.NDArray[np.uint8]


class DisplayState(NamedTuple):
    """How a state is shown: in ``colour``, #rrggbb, or as ``char`` where there are no colours."""

    key: str
    label: str
    colour: str
    char: str


#: In the order of a legend; each page is in one of these classes. `display` and `cells` return
#: indices into it. The hues are those that Okabe and Ito chose for the colour-blind; each differs
#: in lightness too, for print.
STATES = (
    DisplayState("anonymous", "anonymous", "#0072b2", "#"),
    DisplayState("shared", "shared", "#56b4e9", "="),
    DisplayState("huge", "huge", "#0b2f5b", "H"),
    DisplayState("zero", "zero", "#c3dff0", "0"),
    DisplayState("swapped_anonymous", "swapped anonymous", "#d55e00", "s"),
    DisplayState("swapped_shared", "swapped shared", "#f6bd4a", "S"),
    DisplayState("guard", "guard", "#585858", "|"),
    DisplayState("soft_dirty", "soft-dirty", "#004d36", "*"),
    DisplayState("unknown", "unknown", "#cc79a7", "?"),
    DisplayState("untouched", "untouched", "#f4f4f4", "."),
)
KEYS = tuple(state.key for state in STATES)
UNTOUCHED = KEYS.index("untouched")

#: The flag of each state, weakest first: a page is shown in the last one whose flag it has.
_PRECEDENCE = (
    ("anonymous", State.PRESENT),
    ("shared", State.SHARED),
    ("huge", State.HUGE),
    ("zero", State.ZERO),
    ("soft_dirty", State.SOFT_DIRTY),
    ("swapped_anonymous", State.SWAPPED),
    ("swapped_shared", State.SWAPPED_SHARED),
    ("unknown", State.UNKNOWN),
    ("guard", State.GUARD),
)
#: States that a cell shows even if they are the smaller part of it, from this part on.
_PROMINENT = ("soft_dirty", "swapped_anonymous", "swapped_shared", "unknown")
_PROMINENT_DIVISOR = 8


class Scheme(NamedTuple):
    """What colours mean: the states, and which of them a word of a run is shown in.

    The last state is that of what has no colour. `strongest_last` and `prominent` are for `chosen`.
    """

    states: tuple[DisplayState, ...]
    display: Callable[[npt.ArrayLike], Cells]
    strongest_last: tuple[int, ...]
    prominent: tuple[int, ...] = ()

    @property
    def untouched(self) -> int:
        """The index of the last state."""
        return len(self.states) - 1


def by_state(*, soft_dirty: bool = False) -> Scheme:
    """Return the scheme of words of `State`; `soft_dirty` as for `display`."""

    def shown(states: npt.ArrayLike) -> Cells:
        return display(states, soft_dirty=soft_dirty)

    strongest_last = tuple(KEYS.index(key) for key, _ in _PRECEDENCE)
    return Scheme(STATES, shown, strongest_last, tuple(map(KEYS.index, _PROMINENT)))


def display(states: npt.ArrayLike, *, soft_dirty: bool = False) -> Cells:
    """Return the display state of words of `fastpagemap.State`.

    Parameters
    ----------
    states : array_like of int
        Words of `State`, of any shape.
    soft_dirty : bool, optional
        Show present pages that are soft-dirty as such. Not by default: until somebody clears the
        bits, all pages have them, and they would hide everything else.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`. Strongest first: guard, unknown, swapped shared, swapped anonymous,
        soft-dirty (where asked for), zero, huge, shared, anonymous, untouched.
    """
    words = np.asarray(states, np.uint64)
    shown = np.full(words.shape, UNTOUCHED, np.uint8)
    for key, flag in _PRECEDENCE:
        has = has_any(words, flag)
        if key == "soft_dirty":
            if not soft_dirty:
                continue
            has &= has_any(words, State.PRESENT)
        shown[has] = KEYS.index(key)
    return shown


def amounts(
    runs: Runs,
    start: int,
    end: int,
    count: int,
    *,
    soft_dirty: bool = False,
    scheme: Scheme | None = None,
) -> npt.NDArray[np.float64]:
    """Return how much of each display state is in each of `count` equal cells of a span.

    Parameters
    ----------
    runs : ndarray of RUN_DTYPE
        Sorted, not overlapping. Parts outside the span are ignored.
    start, end : int
        The span, in bytes.
    count : int
        Number of cells, at least one. They have equal bytes, whether or not they end at pages.
    soft_dirty : bool, optional
        As for `display`.
    scheme : Scheme, optional
        Another one than that of states.

    Returns
    -------
    ndarray of float64, shape (count, len(STATES))
        Bytes; each row sums up to the size of a cell. The cost grows with the runs and the cells,
        not with the pages.
    """
    scheme = scheme or by_state(soft_dirty=soft_dirty)
    untouched = scheme.untouched
    low, high = np.uint64(start), np.uint64(end)
    borders = np.linspace(0.0, end - start, count + 1)
    near = runs[(runs["end"] > low) & (runs["start"] < high)]
    shown = scheme.display(near["state"])
    table = np.zeros((count, len(scheme.states)))
    for index in np.unique(shown):
        mine = near[shown == index]
        # bytes of this state below an address: constant between runs, rising within them
        edges = np.stack((mine["start"], mine["end"]), axis=1).clip(low, high) - low
        edges = edges.astype(np.float64)
        sizes = edges[:, 1] - edges[:, 0]
        upto = np.cumsum(sizes)
        levels = np.stack((upto - sizes, upto), axis=1)
        table[:, index] = np.diff(np.interp(borders, edges.ravel(), levels.ravel()))
    table[:, untouched] = 0
    table[:, untouched] = np.maximum((end - start) / count - table.sum(axis=1), 0)
    return table


def chosen(table: npt.NDArray[np.float64], scheme: Scheme | None = None) -> Cells:
    """Return which display state each cell shows, given the `amounts` in it.

    A cell shows the state with the most touched bytes, or untouched if it has none. There are two
    exceptions. Swapped, unknown and (if asked for) soft-dirty are shown from one eighth of the
    touched bytes on. And a state that no cell would show takes the cell that has most of it, so
    that no state vanishes as long as there are enough cells.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`.
    """
    scheme = scheme or by_state()
    touched = table[:, : scheme.untouched]
    if not touched.shape[1]:
        return np.full(len(table), scheme.untouched, np.uint8)
    shown: Cells = touched.argmax(axis=1).astype(np.uint8)
    whole = touched.sum(axis=1)
    shown[whole == 0] = scheme.untouched
    if scheme.prominent:
        _show_prominent(shown, touched, whole, list(scheme.prominent))
    for index in scheme.strongest_last:  # as it may take a cell from a weaker one
        if len(table) and touched[:, index].any() and not (shown == index).any():
            shown[touched[:, index].argmax()] = index
    return shown


def _show_prominent(
    shown: Cells,
    touched: npt.NDArray[np.float64],
    whole: npt.NDArray[np.float64],
    prominent: list[int],
) -> None:
    """Have cells show what is seen even as the smaller part of them."""
    most = touched[:, prominent].argmax(axis=1)
    strong = np.take_along_axis(touched[:, prominent], most[:, None], axis=1)[:, 0]
    wins = (strong > 0) & (strong * _PROMINENT_DIVISOR >= whole)
    shown[wins] = np.array(prominent, np.uint8)[most[wins]]


def cells(runs: Runs, start: int, end: int, count: int, *, soft_dirty: bool = False) -> Cells:
    """Return which display state each of `count` equal cells of a span shows.

    The parameters are those of `amounts`; `chosen` decides between several states in one cell.

    Returns
    -------
    ndarray of uint8
        Indices into `STATES`.
    """
    return chosen(amounts(runs, start, end, count, soft_dirty=soft_dirty))
