"""Runs of pages of the same state: what a state is, and how runs are put together. Pure: no I/O."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .entry import UInt64Flag

__all__ = ["RUN_DTYPE", "Addresses", "Runs", "State", "covered", "joined", "runs_of"]

RUN_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("state", "=u8")])
"""A run of pages of the same ``State``; `end` is the first address after it."""

Addresses = npt.NDArray[np.uint64]
Runs = npt.NDArray[np.void]


class State(UInt64Flag):
    """What is known of a page: the masks of ``PageMap``, and what only a scan tells, as flags.

    PRESENT, SWAPPED, UNKNOWN, SHARED, EXCLUSIVE and SOFT_DIRTY mean what the masks of those names
    do. SWAPPED_SHARED is the part of SWAPPED that is in the file of shared memory. HUGE (mapped as
    part of a huge page) and ZERO (the zero page, or with HUGE the huge zero page) are PAGEMAP_SCAN's
    categories HUGE and PFNZERO, set on present pages; they are never set where there is no such
    call (before Linux 6.7). GUARD is a guard region, told since Linux 6.15.
    """

    PRESENT = 1 << 0
    SWAPPED = 1 << 1
    UNKNOWN = 1 << 2
    SHARED = 1 << 3
    EXCLUSIVE = 1 << 4
    SOFT_DIRTY = 1 << 5
    HUGE = 1 << 6
    ZERO = 1 << 7
    GUARD = 1 << 8
    SWAPPED_SHARED = 1 << 9


def runs_of(starts: Any, ends: Any, states: Any) -> Runs:
    """Return runs of the columns given."""
    runs = np.empty(len(starts), RUN_DTYPE)
    runs["start"], runs["end"], runs["state"] = starts, ends, states
    return runs


def covered(addresses: Addresses, starts: Addresses, ends: Addresses) -> npt.NDArray[np.bool_]:
    """Return which addresses lie in one of some spans, which are sorted and apart."""
    if not len(starts):
        return np.zeros(len(addresses), bool)
    at = np.searchsorted(starts, addresses, "right")
    inside: npt.NDArray[np.bool_] = (at > 0) & (addresses < ends[np.maximum(at, 1) - 1])
    return inside


def joined(runs: Runs, borders: Addresses) -> Runs:
    """Join neighbours of equal state, but not over a border."""
    if len(runs) < 2:
        return runs
    same = runs["start"][1:] == runs["end"][:-1]
    same &= runs["state"][1:] == runs["state"][:-1]
    candidates = np.flatnonzero(same) + 1
    if not len(candidates):
        return runs
    joining = candidates[~np.isin(runs["start"][candidates], borders)]
    first = np.ones(len(runs), bool)
    first[joining] = False
    last = np.ones(len(runs), bool)
    last[joining - 1] = False
    return runs_of(runs["start"][first], runs["end"][last], runs["state"][first])
