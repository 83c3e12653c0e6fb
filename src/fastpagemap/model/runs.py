"""The states of pages, and runs of pages in one state. Pure: no I/O."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .entry import UInt64Flag

__all__ = [
    "RUN_DTYPE",
    "Addresses",
    "Runs",
    "Spans",
    "State",
    "bounds",
    "clipped",
    "close_gaps",
    "concat_rows",
    "edges_of",
    "has_any",
    "in_spans",
    "join_equal",
    "runs_of",
    "states_at",
    "union",
]

RUN_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("state", "=u8")])
"""A run of pages of the same ``State``; `end` is the first address after it."""

Addresses = npt.NDArray[np.uint64]
Spans = tuple[Addresses, Addresses]
"""Spans as two arrays: their starts, and their ends."""
Runs = npt.NDArray[np.void]


class State(UInt64Flag):
    """What is known of a page, as flags.

    - PRESENT, SWAPPED, UNKNOWN, SHARED, EXCLUSIVE, SOFT_DIRTY: the same as the masks of ``PageMap``
      with these names.
    - SWAPPED_SHARED: beside SWAPPED; the page is swapped shared memory.
    - HUGE: present, and mapped as part of a huge page (since Linux 6.7).
    - ZERO: present, and the zero page; with HUGE, the huge zero page (since Linux 6.7).
    - GUARD: a guard region (since Linux 6.15).

    Examples
    --------
    >>> state = fpm.State(65)
    >>> state, bool(state & fpm.State.HUGE)
    (State(PRESENT|HUGE), True)
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


def has_any(states: Addresses | npt.NDArray[np.uint16], state: State) -> npt.NDArray[np.bool_]:
    """Return which states have any of the flags."""
    # An int: while numpy looks at an enum's member it drops what a signal handler raises.
    found: npt.NDArray[np.bool_] = (states & states.dtype.type(int(state))) != 0
    return found


def runs_of(starts: Any, ends: Any, states: Any) -> Runs:
    """Return an array of runs with these columns."""
    runs = np.empty(len(starts), RUN_DTYPE)
    runs["start"], runs["end"], runs["state"] = starts, ends, states
    return runs


def concat_rows(parts: Sequence[npt.NDArray[np.void]], dtype: np.dtype[Any]) -> Runs:
    """Return arrays of rows, whose fields come to whole words, one after the other."""
    # By words: numpy 2 crashes where it has no memory to join structured arrays.
    words = [np.empty(0, np.uint64), *(part.view(np.uint64) for part in parts)]
    return np.concatenate(words).view(dtype)


def in_spans(addresses: Addresses, starts: Addresses, ends: Addresses) -> npt.NDArray[np.bool_]:
    """Return which addresses lie in any of some spans, sorted and disjoint."""
    if not len(starts):
        return np.zeros(len(addresses), bool)
    at = np.searchsorted(starts, addresses, "right")
    inside: npt.NDArray[np.bool_] = (at > 0) & (addresses < ends[np.maximum(at, 1) - 1])
    return inside


def states_at(runs: Runs, addresses: Addresses) -> Addresses:
    """Return the state of the page at each address; 0 outside of all runs."""
    if not len(runs):
        return np.zeros(len(addresses), np.uint64)
    starts, ends, states = (np.ascontiguousarray(runs[name]) for name in RUN_DTYPE.names or ())
    at = np.searchsorted(starts, addresses, "right") - 1
    states = states[at]
    states[(at < 0) | (addresses >= ends[at])] = 0
    return states


def join_equal(runs: Runs, borders: Addresses) -> Runs:
    """Join adjacent runs of equal state, except across a border."""
    if len(runs) < 2:
        return runs
    same = runs["start"][1:] == runs["end"][:-1]
    same &= runs["state"][1:] == runs["state"][:-1]
    candidates = np.flatnonzero(same) + 1
    if not len(candidates):
        return runs
    edges, borders = runs["start"][candidates], np.sort(borders, kind="stable")
    inside = np.searchsorted(borders, edges) == np.searchsorted(borders, edges, "right")
    joining = candidates[inside]
    first = np.ones(len(runs), bool)
    first[joining] = False
    last = np.ones(len(runs), bool)
    last[joining - 1] = False
    return runs_of(runs["start"][first], runs["end"][last], runs["state"][first])


def clipped(runs: Runs, starts: Addresses, ends: Addresses) -> Runs:
    """Return the parts of runs that lie in some spans, sorted and disjoint.

    A run ends at the end of a span; within one, adjacent runs of equal state are joined.
    """
    edges = edges_of(starts, ends)
    at = np.searchsorted(runs["start"], edges) - 1
    # The edges that lie within a run, which are few.
    within = (at >= 0) & (edges < runs["end"][at]) if len(runs) else np.zeros(0, bool)
    if within.any():
        runs = _cut(runs, at[within], edges[within])
    firsts = np.searchsorted(runs["start"], starts)
    lasts = np.searchsorted(runs["start"], ends)
    if int((lasts - firsts).sum()) != len(runs):
        change = np.zeros(len(runs) + 1, np.intp)
        np.add.at(change, firsts, 1)
        np.subtract.at(change, lasts, 1)
        runs = runs[np.cumsum(change[:-1]) > 0]
    return join_equal(runs, edges)


def _cut(runs: Runs, numbers: npt.NDArray[np.intp], addresses: Addresses) -> Runs:
    """Cut each run of some numbers at an address within it; a run may be cut several times."""
    pieces = np.insert(runs, numbers + 1, runs[numbers])
    # each piece that was inserted, after those inserted before it
    places = numbers + 1 + np.arange(len(numbers))
    pieces["start"][places] = addresses
    pieces["end"][places - 1] = addresses
    return pieces


# ---- spans: arrays of starts and of ends ---------------------------------------------------------


def bounds(spans: Iterable[Any]) -> Spans:
    """Return the starts and the ends of mappings, or of other objects with both."""
    some = list(spans)
    starts = np.array([span.start for span in some], np.uint64)
    return starts, np.array([span.end for span in some], np.uint64)


def edges_of(*addresses: Addresses) -> Addresses:
    """Return all addresses of some arrays, sorted, without duplicates.

    A stable sort merges arrays that are sorted already; np.unique hashes them first, which took
    160 times as long for two million (numpy 2.4).
    """
    edges = np.sort(np.concatenate(addresses), kind="stable")
    return edges[np.flatnonzero(np.diff(edges, prepend=~edges[:1]))]


def bytes_within(
    where: Addresses, size: Addresses, starts: Addresses, ends: Addresses
) -> Addresses:
    """Return how many bytes of each of some places lie in some sorted, disjoint spans."""
    if not len(starts):
        return np.zeros(len(where), np.uint64)
    before = np.concatenate([np.zeros(1, np.uint64), np.cumsum(ends - starts)])

    def below(addresses: Addresses) -> Addresses:
        at = np.searchsorted(starts, addresses, "right")
        last = np.maximum(at, 1) - 1
        here = np.minimum(addresses, ends[last]) - np.minimum(addresses, starts[last])
        total: Addresses = before[last] + here
        return total

    return below(where + size) - below(where)


def union(starts: Addresses, ends: Addresses) -> Spans:
    """Return the union of spans, as sorted and disjoint spans."""
    some = ends > starts
    order = np.argsort(starts[some], kind="stable")
    starts, ends = starts[some][order], np.maximum.accumulate(ends[some][order])
    if not len(starts):
        return starts, ends
    apart = starts[1:] > ends[:-1]
    return starts[np.concatenate(([True], apart))], ends[np.concatenate((apart, [True]))]


def close_gaps(starts: Addresses, ends: Addresses, gap: int, barriers: Addresses) -> Spans:
    """Join spans with a gap of less than `gap` bytes, unless a barrier lies in the gap."""
    if len(starts) < 2:
        return starts, ends
    apart = starts[1:] - ends[:-1] >= np.uint64(gap)
    if len(barriers):
        before, after = (np.searchsorted(barriers, edge) for edge in (ends[:-1], starts[1:]))
        apart |= after > before
    first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
    return np.ascontiguousarray(starts[first]), np.ascontiguousarray(ends[last])
