"""What changed between two snapshots."""

import errno
import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import UnsupportedError
from .mapping import Mapping
from .runs import Addresses, Runs, State

if TYPE_CHECKING:
    from .snapshot import Snapshot

__all__ = ["CHANGE_DTYPE", "Diff"]

CHANGE_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("before", "=u8"), ("after", "=u8")])
"""A run of pages that changed from one ``State`` to another."""

CHANGES = ("swapped_out", "faulted_in", "swapped_in", "dropped", "written", "unshared")

Mask = npt.NDArray[np.bool_]


class Diff:
    """What changed from one snapshot to a later one, from ``Snapshot.diff``.

    Attributes
    ----------
    before, after : Snapshot
        The two.
    runs : ndarray of CHANGE_DTYPE
        ``start``, ``end`` and the ``State`` ``before`` and ``after``, of all pages whose state
        changed or that belong to another file, or to none, now: sorted, without duplicates,
        never crossing a mapping's border. Where nothing was or is mapped the state is 0.
    same_process : bool
        Whether both have the pid and the name of one process.
    """

    def __init__(self, before: "Snapshot", after: "Snapshot") -> None:
        if before.page_size != after.page_size:
            raise ValueError(
                f"snapshots of different page sizes, {before.page_size} and {after.page_size}: "
                "no page of one is a page of the other"
            )
        self.before, self.after = before, after
        self.same_process = (before.pid, before.name) == (after.pid, after.name)
        self._edges = _edges(before, after)
        lows, highs = self._edges[:-1], self._edges[1:]
        self._owners = owners = _owner(before.mappings, lows), _owner(after.mappings, lows)
        old, new = _state_at(before.states, lows), _state_at(after.states, lows)
        other = ~_same_objects(before.mappings, after.mappings, *owners)
        chosen = np.flatnonzero((old != new) | (other & ((old | new) != 0)))
        chosen, ends = _joined(lows, highs, chosen, (old, new, *owners))
        self.runs = np.empty(len(chosen), CHANGE_DTYPE)
        self.runs["start"], self.runs["end"] = lows[chosen], ends
        self.runs["before"], self.runs["after"] = old[chosen], new[chosen]
        # whether what is there now is something else than what was
        self._other = other[chosen]

    def __repr__(self) -> str:
        return f"<Diff of {self.before!r} and {self.after!r}: {len(self.runs)} runs>"

    def _had(self, state: State) -> Mask:
        return (self.runs["before"] & state) != 0

    def _has(self, state: State) -> Mask:
        return (self.runs["after"] & state) != 0

    @property
    def swapped_out(self) -> Mask:
        """Which of the runs were present, and are swapped now."""
        return self._had(State.PRESENT) & self._has(State.SWAPPED) & ~self._other

    @property
    def faulted_in(self) -> Mask:
        """Which are present, and were not: those swapped in, and those of new mappings, too."""
        return self._has(State.PRESENT) & (~self._had(State.PRESENT) | self._other)

    @property
    def swapped_in(self) -> Mask:
        """Which were swapped, and are present now."""
        return self._had(State.SWAPPED) & self._has(State.PRESENT) & ~self._other

    @property
    def dropped(self) -> Mask:
        """Which were present or swapped, and are nothing now: given back, or unmapped."""
        there = State.PRESENT | State.SWAPPED
        return self._had(there) & (~self._has(there | State.UNKNOWN) | self._other)

    @property
    def written(self) -> Mask:
        """Which are soft-dirty, and were not: ``UnsupportedError`` unless both snapshots know."""
        if not self.knows_written:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                "what was written is not known: a snapshot is of a kernel without soft-dirty bits",
            )
        return self._has(State.SOFT_DIRTY) & ~self._had(State.SOFT_DIRTY)

    @property
    def knows_written(self) -> bool:
        """Whether soft-dirty bits are known of both snapshots."""
        return self.before.soft_dirty and self.after.soft_dirty

    @property
    def unshared(self) -> Mask:
        """Which stayed present, and are exclusive now, or no file pages any more, and were not so.

        A page that was copied on write, the zero page too, or that the last of the others let go.
        """
        stayed = self._had(State.PRESENT) & self._has(State.PRESENT) & ~self._other
        alone = self._has(State.EXCLUSIVE) & ~self._had(State.EXCLUSIVE)
        copied = self._had(State.SHARED) & ~self._has(State.SHARED)
        return stayed & (alone | copied)

    @functools.cached_property
    def mapped(self) -> list[Mapping]:
        """Mappings, or the parts of them, that are new, or of another file than what was there."""
        return self._new(self.after, 1)

    @functools.cached_property
    def unmapped(self) -> list[Mapping]:
        """Mappings, or the parts of them, that are there no more, or were of another file."""
        return self._new(self.before, 0)

    def _new(self, snapshot: "Snapshot", which: int) -> list[Mapping]:
        own = self._owners[which]
        same = _same_objects(self.before.mappings, self.after.mappings, *self._owners)
        lows, highs = self._edges[:-1], self._edges[1:]
        chosen, ends = _joined(lows, highs, np.flatnonzero((own >= 0) & ~same), (own,))
        rows = zip(own[chosen].tolist(), lows[chosen].tolist(), ends.tolist(), strict=True)
        return [_part(snapshot.mappings[row], start, end) for row, start, end in rows]

    def sums(self) -> dict[str, int]:
        """Return the bytes of each change, by its name; `written` only where it is known."""
        lengths = self.runs["end"] - self.runs["start"]
        return {name: int(lengths[getattr(self, name)].sum()) for name in self._known()}

    def _known(self) -> list[str]:
        return [name for name in CHANGES if name != "written" or self.knows_written]

    def usage(self) -> npt.NDArray[np.void]:
        """Return the bytes of each change by mapping.

        Returns
        -------
        ndarray
            Structured, all uint64, one row for each mapping there is or was (as `rows` has them):
            ``start``, ``end``, ``size``, ``swapped_out``, ``faulted_in``, ``swapped_in``,
            ``dropped``, ``written`` (absent where it is not known), ``unshared``.
        """
        names = self._known()
        table = np.zeros(len(self.rows), [(n, np.uint64) for n in ("start", "end", "size", *names)])
        table["start"] = [row.start for row in self.rows]
        table["end"] = [row.end for row in self.rows]
        table["size"] = table["end"] - table["start"]
        at = np.searchsorted(table["start"], self.runs["start"], "right") - 1
        pages = (self.runs["end"] - self.runs["start"]) // np.uint64(self.after.page_size)
        for name in names:
            counts = np.bincount(at, pages * getattr(self, name), len(table))
            table[name] = counts.astype(np.uint64) * np.uint64(self.after.page_size)
        return table

    @functools.cached_property
    def rows(self) -> list[Mapping]:
        """The mappings that `usage` has rows for: those after, and what only was before."""
        gone = (self._owners[0] >= 0) & (self._owners[1] < 0)
        lows, highs = self._edges[:-1], self._edges[1:]
        own = self._owners[0]
        chosen, ends = _joined(lows, highs, np.flatnonzero(gone), (own,))
        rows = zip(own[chosen].tolist(), lows[chosen].tolist(), ends.tolist(), strict=True)
        were = [_part(self.before.mappings[row], start, end) for row, start, end in rows]
        return sorted([*self.after.mappings, *were])


def _edges(before: "Snapshot", after: "Snapshot") -> Addresses:
    """Return all addresses at which anything may change, of either snapshot."""
    edges = [runs[name] for runs in (before.states, after.states) for name in ("start", "end")]
    for snapshot in (before, after):
        bounds = [(span.start, span.end) for span in snapshot.mappings]
        edges.append(np.array(bounds, np.uint64).reshape(-1))
    return np.unique(np.concatenate(edges))


def _owner(spans: list[Mapping], addresses: Addresses) -> npt.NDArray[np.intp]:
    """Return the number of the mapping that each address is in, -1 for none."""
    bounds = np.array([(span.start, span.end) for span in spans], np.uint64).reshape(-1, 2)
    at = np.searchsorted(bounds[:, 0], addresses, "right") - 1
    if len(spans):
        at[addresses >= bounds[np.maximum(at, 0), 1]] = -1
    return at


def _state_at(runs: Runs, addresses: Addresses) -> Addresses:
    """Return the state of the page at each address."""
    if not len(runs):
        return np.zeros(len(addresses), np.uint64)
    at = np.searchsorted(runs["start"], addresses, "right") - 1
    inside = (at >= 0) & (addresses < runs["end"][np.maximum(at, 0)])
    states: Addresses = np.where(inside, runs["state"][np.maximum(at, 0)], np.uint64(0))
    return states


def _same_objects(
    before: list[Mapping],
    after: list[Mapping],
    old: npt.NDArray[np.intp],
    new: npt.NDArray[np.intp],
) -> Mask:
    """Return where the same part of the same file, or no file, is mapped before and after."""
    pairs, number = np.unique(np.stack((old, new)), axis=1, return_inverse=True)
    same = [
        i == j == -1 or (i >= 0 and j >= 0 and _object(before[i]) == _object(after[j]))
        for i, j in pairs.T.tolist()
    ]
    return np.array(same, bool)[number.reshape(-1)]


def _object(span: Mapping) -> tuple[object, ...]:
    """Return what tells whether two mappings show the same."""
    if span.anonymous:
        return (span.shared,)
    return span.shared, span.device, span.inode, span.start - span.offset


def _joined(
    lows: Addresses,
    highs: Addresses,
    chosen: npt.NDArray[np.intp],
    columns: tuple[npt.NDArray[np.generic], ...],
) -> tuple[npt.NDArray[np.intp], Addresses]:
    """Join neighbours that are equal in all columns: return the first of each, and the ends."""
    apart = lows[chosen[1:]] != highs[chosen[:-1]]
    for column in columns:
        apart |= column[chosen[1:]] != column[chosen[:-1]]
    if not len(chosen):
        return chosen, highs[chosen]
    first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
    return chosen[first], highs[chosen[last]]


def _part(span: Mapping, start: int, end: int) -> Mapping:
    """Return the part of a mapping."""
    offset = span.offset + start - span.start if not span.anonymous else span.offset
    return span._replace(start=start, end=end, offset=offset)
