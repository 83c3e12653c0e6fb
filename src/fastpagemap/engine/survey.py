"""What is mapped in some spans, looked up once for a question, and checked again at its end.

A process goes on living while it is looked at. What a mapping's file tells is only an answer for a
page if the same mapping is there before and after.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from .._kernel.walk import SMALL_PAGES
from ..model.entry import PAGE_SIZE
from ..model.mapping import KERNEL_HALF, Mapping
from ..model.runs import bounds
from ..process.backing import Backings, kernel_tmpfs
from ..process.capabilities import soft_dirty
from ..process.mappings import mappings, within
from ..process.process import Process
from .table import Backing

__all__ = ["RESOLVED", "Segments", "survey"]

Addresses = npt.NDArray[np.uint64]
Spans = Sequence[tuple[int, int] | Mapping]

RESOLVED = frozenset({"swapped", "swapped_shared", "unknown"})
"""The questions that the file behind a mapping of shared memory answers."""

# Spans to look up one by one, before the text of all mappings is cheaper.
_MAX_LOOKUPS = 16
# Bytes from which on a mapping is scanned, where its backing matters.
_SMALL = SMALL_PAGES * PAGE_SIZE


@dataclasses.dataclass(frozen=True)
class Segments:
    """Stretches of address space, each of one mapping, sorted within each span.

    Attributes
    ----------
    starts, ends : ndarray of uint64
        Where they are.
    backings : ndarray of uint8
        A ``Backing`` each.
    clipped : ndarray of bool
        Whether it is only a part of its mapping.
    resolved : ndarray of bool
        Whether the file has to be asked which pages are swapped.
    rows : ndarray of int64
        The number of the span that each is of.
    mappings : list of Mapping
        Whose pages they are.
    settled : bool
        Whether the mappings can be believed; False: they changed each time they were looked up.
    """

    starts: Addresses
    ends: Addresses
    backings: npt.NDArray[np.uint8]
    clipped: npt.NDArray[np.bool_]
    resolved: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    mappings: list[Mapping]
    settled: bool = True

    def __len__(self) -> int:
        return len(self.mappings)

    def changed(self, process: Process) -> npt.NDArray[np.bool_]:
        """Return which of them are of a mapping that is not there any more as it was."""
        if len(self) <= _MAX_LOOKUPS:
            same = [within(process, m.start, m.end) == [m] for m in self.mappings]
        else:
            now = set(mappings(process))
            same = [mapping in now for mapping in self.mappings]
        return ~np.array(same, bool)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Segments:
        """Return some of them."""
        return Segments(
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            backings=self.backings[chosen],
            clipped=self.clipped[chosen],
            resolved=self.resolved[chosen],
            rows=self.rows[chosen],
            mappings=list(itertools.compress(self.mappings, chosen.tolist())),
            settled=self.settled,
        )

    def surveyed(
        self, backings: Backings, spans: Spans, questions: frozenset[str], *, settled: bool
    ) -> Segments:
        """Return what is mapped now where these were, of the same rows."""
        if settled:
            found = survey(backings, spans, questions)
            return dataclasses.replace(found, rows=self.rows[found.rows])
        unknown = np.full(len(self), int(Backing.UNKNOWN), np.uint8)
        return dataclasses.replace(self, backings=unknown, settled=False)


def survey(
    backings: Backings,
    spans: Spans | None,
    questions: frozenset[str],
    current: list[Mapping] | None = None,
) -> Segments:
    """Look up what is mapped in some spans, as far as the questions need it.

    Parameters
    ----------
    backings : Backings
        Of the process.
    spans : sequence of (start, end) or Mapping, optional
        Any, in any order; all mappings by default, each a span.
    questions : frozenset of str
        What is to be asked of the segments.
    current : list of Mapping, optional
        The mappings of the process, if they have just been read.
    """
    process = backings.files.process
    if current is None and (spans is None or len(spans) > _MAX_LOOKUPS):
        current = mappings(process)
    if spans is None:
        assert current is not None
        chosen, rows, clipped = current, np.arange(len(current)), np.zeros(len(current), bool)
        starts, ends = bounds(current)
    else:
        found = list(_clipped(process, spans, current))
        chosen = [mapping for _, _, mapping, _ in found]
        rows = np.array([row for _, _, _, row in found], np.int64)
        starts = np.array([start for start, _, _, _ in found], np.uint64)
        ends = np.array([end for _, end, _, _ in found], np.uint64)
        clipped = np.array([low > m.start or high < m.end for low, high, m, _ in found], bool)
    kinds, resolved = _classify(backings, questions, chosen, ends - starts)
    return Segments(starts, ends, kinds, clipped, resolved, rows, chosen)


def _clipped(
    process: Process, spans: Spans, current: list[Mapping] | None
) -> Iterator[tuple[int, int, Mapping, int]]:
    """Yield what is mapped of each span, by whom, and the span's number."""
    ends = [mapping.end for mapping in current or ()]
    by_start = {mapping.start: mapping for mapping in current or ()}
    for row, span in enumerate(spans):
        start, end = span[:2]
        if by_start.get(start) == span:  # a mapping that is still as it was
            yield start, end, by_start[start], row
            continue
        if current is None:
            found: Iterable[Mapping] = within(process, start, end)
        else:
            found = _overlapping(current, ends, start, end)
        for mapping in found:
            yield max(mapping.start, start), min(mapping.end, end), mapping, row


def _overlapping(
    current: list[Mapping], ends: list[int], start: int, end: int
) -> Iterator[Mapping]:
    """Yield the mappings, which are sorted, that reach into a span."""
    for number in range(bisect.bisect_right(ends, start), len(current)):
        if current[number].start >= end:
            return
        yield current[number]


def _classify(
    backings: Backings, questions: frozenset[str], chosen: list[Mapping], sizes: Addresses
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return what is behind each mapping, and whether its file has to be asked about swap.

    No more is found out than makes a difference: small mappings are read by their entries.
    """
    kinds = np.full(len(chosen), int(Backing.UNKNOWN), np.uint8)
    resolved = np.zeros(len(chosen), bool)
    resolving = not RESOLVED.isdisjoint(questions) and pagecache.swap_in_use()
    dirty = "soft_dirty" in questions and soft_dirty()
    numbers: set[int] = set()
    if "exclusive" not in questions:  # else the entries are read, and tell
        numbers.update(np.flatnonzero(sizes >= np.uint64(_SMALL)).tolist())
    if resolving or dirty:
        numbers.update(number for number, mapping in enumerate(chosen) if mapping.device)
    for number in numbers:
        mapping = chosen[number]
        if mapping.start >= KERNEL_HALF:
            continue
        if mapping.anonymous:
            kinds[number] = Backing.ANONYMOUS
            continue
        # mounts are read only where they make a difference
        known = resolving or dirty
        shmem = backings.is_shmem(mapping) if known else mapping.device == kernel_tmpfs()
        if shmem and mapping.shared:
            kinds[number] = Backing.SHMEM
        elif dirty and backings.is_hugetlb(mapping):
            kinds[number] = Backing.HUGETLB
        resolved[number] = resolving and shmem is not False
    return kinds, resolved
