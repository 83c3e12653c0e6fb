"""What changed between two snapshots."""

import errno
import functools
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.runs import Addresses, State, at_addresses, bounds, having
from .data import SnapshotData

__all__ = ["CHANGE_DTYPE", "Diff"]

CHANGE_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("before", "=u8"), ("after", "=u8")])
"""A run of pages that changed from one ``State`` to another."""

CHANGES = ("swapped_out", "faulted_in", "swapped_in", "dropped", "written", "unshared")

Mask = npt.NDArray[np.bool_]
# `Snapshot`, which stands above this module
S = TypeVar("S", bound=SnapshotData)


class Diff(Generic[S]):
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

    def __init__(self, before: S, after: S) -> None:
        if before.page_size != after.page_size:
            raise ValueError(
                f"snapshots of different page sizes, {before.page_size} and {after.page_size}: "
                "no page of one is a page of the other"
            )
        self.before, self.after = before, after
        self.same_process = (before.pid, before.name) == (after.pid, after.name)
        borders = [*bounds(before.mappings), *bounds(after.mappings)]
        runs = [runs[name] for runs in (before.states, after.states) for name in ("start", "end")]
        self._cells = _Cells(before, after, borders)
        cells = _Cells(before, after, [*borders, *runs])
        lows = cells.lows
        old, new = at_addresses(before.states, lows), at_addresses(after.states, lows)
        other = ~cells.same
        chosen = np.flatnonzero((old != new) | (other & ((old | new) != 0)))
        chosen, ends = cells.joined(chosen, old, new, *cells.owners)
        self.runs = np.empty(len(chosen), CHANGE_DTYPE)
        self.runs["start"], self.runs["end"] = lows[chosen], ends
        self.runs["before"], self.runs["after"] = old[chosen], new[chosen]
        # whether what is there now is something else than what was
        self._other = other[chosen]

    def __repr__(self) -> str:
        return f"<Diff of {self.before!r} and {self.after!r}: {len(self.runs)} runs>"

    def _had(self, state: State) -> Mask:
        return having(self.runs["before"], state)

    def _has(self, state: State) -> Mask:
        return having(self.runs["after"], state)

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
        return self._cells.parts(1, ~self._cells.same)

    @functools.cached_property
    def unmapped(self) -> list[Mapping]:
        """Mappings, or the parts of them, that are there no more, or were of another file."""
        return self._cells.parts(0, ~self._cells.same)

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
        return sorted([*self.after.mappings, *self._cells.parts(0, self._cells.owners[1] < 0)])


class _Cells:
    """The address space, cut at some edges; and in which mappings each cell was and is."""

    def __init__(self, before: SnapshotData, after: SnapshotData, edges: list[Addresses]) -> None:
        cuts = np.sort(np.concatenate(edges), kind="stable")
        cuts = cuts[np.flatnonzero(np.diff(cuts, prepend=~cuts[:1]))]
        self.lows, self.highs = cuts[:-1], cuts[1:]
        self.mappings = before.mappings, after.mappings
        self.owners = _owner(before.mappings, self.lows), _owner(after.mappings, self.lows)
        self.same = self._same()

    def _same(self) -> Mask:
        """Return where the same part of the same file, or no file, is mapped before and after."""
        old, new = self.owners
        if not len(old):
            return np.ones(0, bool)
        changed = (old[1:] != old[:-1]) | (new[1:] != new[:-1])
        heads = np.concatenate(([0], np.flatnonzero(changed) + 1))
        pairs = zip(old[heads].tolist(), new[heads].tolist(), strict=True)
        same = [_object(self.mappings[0], i) == _object(self.mappings[1], j) for i, j in pairs]
        return np.repeat(np.array(same, bool), np.diff(heads, append=len(old)))

    def joined(
        self, chosen: npt.NDArray[np.intp], *columns: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.intp], Addresses]:
        """Join chosen neighbours that are equal in all columns: return the first, and the ends."""
        if not len(chosen):
            return chosen, self.highs[chosen]
        apart = self.lows[chosen[1:]] != self.highs[chosen[:-1]]
        for column in columns:
            apart |= column[chosen[1:]] != column[chosen[:-1]]
        first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
        return chosen[first], self.highs[chosen[last]]

    def parts(self, which: int, where: Mask) -> list[Mapping]:
        """Return the parts of the mappings, of before or after, where some condition holds."""
        own, spans = self.owners[which], self.mappings[which]
        chosen, ends = self.joined(np.flatnonzero((own >= 0) & where), own)
        rows = zip(own[chosen].tolist(), self.lows[chosen].tolist(), ends.tolist(), strict=True)
        return [_part(spans[row], start, end) for row, start, end in rows]


def _owner(spans: list[Mapping], addresses: Addresses) -> npt.NDArray[np.intp]:
    """Return the number of the mapping that each address is in, -1 for none."""
    starts, ends = bounds(spans)
    at = np.searchsorted(starts, addresses, "right") - 1
    if len(spans):
        at[addresses >= ends[np.maximum(at, 0)]] = -1
    return at


def _object(spans: list[Mapping], number: int) -> tuple[object, ...]:
    """Return what tells whether two mappings show the same memory."""
    if number < 0:
        return ()
    span = spans[number]
    if span.anonymous:
        return (span.shared,)
    return span.shared, span.device, span.inode, span.start - span.offset


def _part(span: Mapping, start: int, end: int) -> Mapping:
    """Return the part of a mapping."""
    offset = span.offset + start - span.start if not span.anonymous else span.offset
    return span._replace(start=start, end=end, offset=offset)
