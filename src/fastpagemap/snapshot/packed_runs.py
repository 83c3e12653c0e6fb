"""Runs as a snapshot's file has them: gaps, lengths and states; turned into addresses, checked."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.runs import Addresses, State, has_any
from .checks import need

__all__ = ["Placer", "are_possible"]

Column = npt.NDArray[Any]


class Placer:
    """Turns gaps and lengths into addresses, a piece at a time.

    Parameters
    ----------
    page_size : int
        Bytes per page.
    """

    def __init__(self, page_size: int) -> None:
        self._page_size, self._page = page_size, np.uint64(page_size)
        self._end, self._pages = np.uint64(0), 0.0
        self._count, self._flags = 0, 0
        self._last_state = np.uint16(0)
        # The numbers of runs that have the state of the run before, and begin where that ends.
        self._continued: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]

    def place(self, gaps: Column, lengths: Column, states: Column) -> tuple[Addresses, Addresses]:
        """Return the starts and the ends of the next runs."""
        need(bool(lengths.all()), "runs of no page")
        # Exact for all that is allowed: it is a whole number of at most 53 bits.
        self._pages += float(gaps.sum(dtype=np.float64) + lengths.sum(dtype=np.float64))
        need(self._pages * self._page_size < 2.0**64 - 2.0**13, "runs: their addresses")
        need(bool(are_possible(states).all()), "runs: their states")
        self._flags |= int(np.bitwise_or.reduce(states))
        same = gaps == 0
        same[1:] &= states[1:] == states[:-1]
        same[0] &= states[0] == self._last_state
        if same.any():
            self._continued.append(np.flatnonzero(same) + self._count)
        self._count, self._last_state = self._count + len(states), states[-1]
        ends = np.add(gaps, lengths, dtype=np.uint64)
        ends[0] += self._end
        np.cumsum(ends, out=ends)
        self._end = ends[-1]
        starts = ends - lengths
        starts *= self._page
        ends *= self._page
        return starts, ends

    def check(
        self, runs: npt.NDArray[np.void], spans: npt.NDArray[np.void], soft_dirty: bool
    ) -> None:
        """Check that each of all runs lies in one mapping, and is joined with its neighbours."""
        # Runs are sorted by construction, so those of one mapping follow one another.
        firsts = np.searchsorted(runs["start"], spans["start"])
        counts = np.diff(firsts, append=len(runs))
        some = counts > 0
        firsts, counts = firsts[some], counts[some]
        lasts = firsts + counts - 1
        inside = counts.sum() == len(runs) and (runs["end"][lasts] <= spans["end"][some]).all()
        need(bool(inside), "runs outside of the mappings")
        continued = np.concatenate(self._continued)
        need(_all_in(continued, firsts), "runs that are not joined")
        dirty = self._flags & State.SOFT_DIRTY
        need(soft_dirty or not dirty, "soft-dirty runs of a kernel that has no such")


def _all_in(numbers: npt.NDArray[np.intp], others: npt.NDArray[np.intp]) -> bool:
    """Return whether all of some numbers are among others; both are sorted."""
    if len(numbers) > len(others):
        return False
    return not len(numbers) or bool(np.isin(numbers, others, assume_unique=True).all())


def _possible_states() -> npt.NDArray[np.bool_]:
    """Return which numbers are possible states of a page; 0 and the last one are none."""
    states = np.arange(2 * int(State.SWAPPED_SHARED) + 1, dtype=np.uint64)

    absent, swapped = ~has_any(states, State.PRESENT), has_any(states, State.SWAPPED)
    possible: npt.NDArray[np.bool_] = states != 0
    of_present = State.SHARED | State.EXCLUSIVE | State.HUGE | State.ZERO
    possible &= ~(absent & has_any(states, of_present))
    possible &= absent | ~has_any(states, State.SWAPPED | State.UNKNOWN | State.GUARD)
    possible &= swapped | ~has_any(states, State.SWAPPED_SHARED)
    possible &= ~(swapped & has_any(states, State.UNKNOWN))
    possible[-1] = False
    return possible


_POSSIBLE = _possible_states()


def are_possible(states: Column) -> npt.NDArray[np.bool_]:
    """Return which states are such as a page can be in, and not 0."""
    found: npt.NDArray[np.bool_] = _POSSIBLE.take(states.astype(np.intp), mode="clip")
    return found
