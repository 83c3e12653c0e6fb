"""What changed between two snapshots."""

import errno
import functools
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .._kernel.compare import compare_runs
from ..model import hooks
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.questions import Mask
from ..model.runs import Addresses, State, bounds, edges_of, has_any
from .data import SnapshotData

__all__ = ["CHANGE_DTYPE", "Diff"]

CHANGE_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("before", "=u8"), ("after", "=u8")])
"""A run of pages that changed from one ``State`` to another."""

CHANGES = ("swapped_out", "faulted_in", "swapped_in", "dropped", "written", "unshared")

# `Snapshot`, whose module imports this one.
S = TypeVar("S", bound=SnapshotData)

# The end of the last segment: no run of whole pages ends beyond it.
_LAST = (1 << 64) - 1


class Diff(Generic[S]):
    """What changed from one snapshot to a later one, from ``Snapshot.diff``.

    Attributes
    ----------
    before, after : Snapshot
        The two snapshots.
    runs : ndarray of CHANGE_DTYPE
        ``start``, ``end`` and the ``State`` ``before`` and ``after`` of all pages whose state
        changed, or whose mapping shows other memory now. Sorted, without duplicates; a run never
        crosses the edge of a mapping. An unmapped page has the state 0.
    same_process : bool
        Whether both snapshots have the same pid and name.
    """

    def __init__(self, before: S, after: S) -> None:
        if before.page_size != after.page_size:
            raise ValueError(
                f"snapshots of different page sizes, {before.page_size} and {after.page_size}: "
                "no page of one is a page of the other"
            )
        self.before, self.after = before, after
        self.same_process: bool = (before.pid, before.name) == (after.pid, after.name)
        self._cells = _Cells(before, after)
        # `_replaced`: other memory is mapped there than before.
        self.runs: npt.NDArray[np.void]
        self.runs, self._replaced = self._cells.changes()

    def __repr__(self) -> str:
        return f"<Diff of {self.before!r} and {self.after!r}: {len(self.runs)} runs>"

    def _repr_html_(self) -> str:
        """Return a table of what changed by mapping, for notebooks."""
        html: str = hooks.load("notebook").of_diff(self)
        return html

    def _had(self, state: State) -> Mask:
        return has_any(self.runs["before"], state)

    def _has(self, state: State) -> Mask:
        return has_any(self.runs["after"], state)

    @property
    def swapped_out(self) -> Mask:
        """Which runs were present and are swapped now."""
        return self._had(State.PRESENT) & self._has(State.SWAPPED) & ~self._replaced

    @property
    def faulted_in(self) -> Mask:
        """Which runs are present and were not, including those swapped in and of new mappings."""
        return self._has(State.PRESENT) & (~self._had(State.PRESENT) | self._replaced)

    @property
    def swapped_in(self) -> Mask:
        """Which runs were swapped and are present now."""
        return self._had(State.SWAPPED) & self._has(State.PRESENT) & ~self._replaced

    @property
    def dropped(self) -> Mask:
        """Which runs were present or swapped and are neither now: given back, or unmapped."""
        there = State.PRESENT | State.SWAPPED
        return self._had(there) & (~self._has(there | State.UNKNOWN) | self._replaced)

    @property
    def written(self) -> Mask:
        """Which runs are soft-dirty and were not.

        Raises ``UnsupportedError`` if a snapshot is of a kernel without soft-dirty bits.
        """
        if not self.knows_written:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                "what was written is not known: a snapshot is of a kernel without soft-dirty bits",
            )
        return self._has(State.SOFT_DIRTY) & ~self._had(State.SOFT_DIRTY)

    @property
    def knows_written(self) -> bool:
        """Whether both snapshots know soft-dirty bits."""
        return self.before.soft_dirty and self.after.soft_dirty

    @property
    def unshared(self) -> Mask:
        """Which runs stayed present, and became exclusive or stopped being file pages.

        Such a page was copied on write, or all other processes that mapped it have unmapped it.
        """
        stayed = self._had(State.PRESENT) & self._has(State.PRESENT) & ~self._replaced
        alone = self._has(State.EXCLUSIVE) & ~self._had(State.EXCLUSIVE)
        copied = self._had(State.SHARED) & ~self._has(State.SHARED)
        return stayed & (alone | copied)

    @functools.cached_property
    def mapped(self) -> list[Mapping]:
        """Mappings, or parts of them, that are new, or that show another file than before."""
        return self._cells.parts(1, ~self._cells.same)

    @functools.cached_property
    def unmapped(self) -> list[Mapping]:
        """Mappings, or parts of them, that are gone, or that showed another file before."""
        return self._cells.parts(0, ~self._cells.same)

    def sums(self) -> dict[str, int]:
        """Return the bytes of each change, by its name; `written` only if it is known."""
        lengths = self.runs["end"] - self.runs["start"]
        return {name: int(lengths[getattr(self, name)].sum()) for name in self._known()}

    def _known(self) -> list[str]:
        return [name for name in CHANGES if name != "written" or self.knows_written]

    def usage(self) -> npt.NDArray[np.void]:
        """Return the bytes of each change by mapping.

        Returns
        -------
        ndarray
            Structured, all uint64, in bytes, one row for each mapping in `rows`: ``start``,
            ``end``, ``size``, ``swapped_out``, ``faulted_in``, ``swapped_in``, ``dropped``,
            ``written`` (absent if it is not known), ``unshared``.
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
        """The mappings of `usage`: all those after, and the parts that were only before."""
        return sorted([*self.after.mappings, *self._cells.parts(0, self._cells.owners[1] < 0)])


class _Cells:
    """The address space, cut at the edges of all mappings, and the mappings of each cell.

    `owners` has two arrays: for each cell the number of its mapping before and after, or -1.
    """

    def __init__(self, before: SnapshotData, after: SnapshotData) -> None:
        self.states = before.states, after.states
        self.mappings = before.mappings, after.mappings
        spans = [bounds(mappings) for mappings in self.mappings]
        cuts = edges_of(*spans[0], *spans[1])
        self.lows, self.highs = cuts[:-1], cuts[1:]
        self.owners = _mapping_index(*spans[0], self.lows), _mapping_index(*spans[1], self.lows)
        self.same = self._same()

    def _same(self) -> Mask:
        """Return which cells show the same part of the same file, or no file, before and after."""
        pairs = zip(*(owner.tolist() for owner in self.owners), strict=True)
        one, two = ([*mappings, None] for mappings in self.mappings)  # -1 is the last one
        return np.array([_same_memory(one[i], two[j]) for i, j in pairs], bool)

    def changes(self) -> tuple[npt.NDArray[np.void], Mask]:
        """Return the runs of changed pages, and for each whether other memory is mapped there."""
        one, two = map(np.ascontiguousarray, self.states)
        segments = self._segments()
        # Each change ends at the end of a run, of a gap between runs, or of a segment.
        most = 2 * len(one) + 2 * len(two) + len(segments)
        runs, replaced = np.empty(most, CHANGE_DTYPE), np.empty(most, bool)
        count = compare_runs(one, two, segments, runs, replaced)
        if count < most // 2:  # a view would keep the whole array alive
            return runs[:count].copy(), replaced[:count].copy()
        return runs[:count], replaced[:count]

    def _segments(self) -> Addresses:
        """Return rows of start, end and whether the same memory is mapped, for all addresses."""
        cells, ends = self.join(np.arange(len(self.lows)), *self.owners)
        edges = np.concatenate((self.lows[cells], ends[-1:]))
        segments = np.ones((len(edges) + 1, 3), np.uint64)
        segments[0, 0], segments[1:, 0] = 0, edges
        segments[:-1, 1], segments[-1, 1] = edges, _LAST
        segments[1:-1, 2] = self.same[cells]
        return segments

    def join(
        self, chosen: npt.NDArray[np.intp], *columns: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.intp], Addresses]:
        """Join chosen neighbours with equal columns; return their first cells and their ends."""
        if not len(chosen):
            return chosen, self.highs[chosen]
        apart = self.lows[chosen[1:]] != self.highs[chosen[:-1]]
        for column in columns:
            apart |= column[chosen[1:]] != column[chosen[:-1]]
        first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
        return chosen[first], self.highs[chosen[last]]

    def parts(self, which: int, where: Mask) -> list[Mapping]:
        """Return the parts of the mappings before (0) or after (1) in the cells of a mask."""
        own, spans = self.owners[which], self.mappings[which]
        chosen, ends = self.join(np.flatnonzero((own >= 0) & where), own)
        rows = zip(own[chosen].tolist(), self.lows[chosen].tolist(), ends.tolist(), strict=True)
        return [_clip(spans[row], start, end) for row, start, end in rows]


def _mapping_index(
    starts: Addresses, ends: Addresses, addresses: Addresses
) -> npt.NDArray[np.intp]:
    """Return the index of the mapping that each address is in, -1 for none."""
    at = np.searchsorted(starts, addresses, "right") - 1
    if len(starts):
        at[addresses >= ends[np.maximum(at, 0)]] = -1
    return at


def _same_memory(one: Mapping | None, two: Mapping | None) -> bool:
    """Return whether two mappings, or none, show the same memory at the same addresses."""
    if one == two:  # the common case, and the fastest to tell
        return True
    return one is not None and two is not None and _memory_key(one) == _memory_key(two)


def _memory_key(span: Mapping) -> tuple[object, ...]:
    """Return a key that is equal for mappings of the same memory."""
    if span.anonymous:
        return (span.shared,)
    return span.shared, span.device, span.inode, span.start - span.offset


def _clip(span: Mapping, start: int, end: int) -> Mapping:
    """Return the part of a mapping between two addresses."""
    offset = span.offset + start - span.start if not span.anonymous else span.offset
    return span._replace(start=start, end=end, offset=offset)
