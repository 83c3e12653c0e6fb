"""What is mapped in some spans, looked up once for a question, and checked again at its end.

A process runs on while it is looked at. What a mapping's file tells is an answer for a page only if
the same mapping is there before and after.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from .._kernel.failures import IgnoringFileErrors
from .._kernel.walk import SMALL_PAGES
from ..model.entry import PAGE_SIZE
from ..model.mapping import KERNEL_HALF, Mapping
from ..model.runs import Addresses, bounds
from ..process.backing import Backings, kernel_tmpfs
from ..process.mappings import mappings, within
from ..process.probes import categories, soft_dirty
from ..process.process import Process
from .table import Backing

__all__ = ["RESOLVED", "Segments", "files_matter", "no_segments", "survey"]

SpanList = Sequence[tuple[int, int] | Mapping]
"""Spans one by one; a mapping begins with its start and end, too."""

RESOLVED = frozenset({"swapped", "swapped_shared", "unknown"})
"""The questions that the file behind a mapping of shared memory answers."""

# To look up more spans one by one would cost more than to read all mappings.
_MAX_LOOKUPS = 16
# Larger mappings may be scanned, and then their backing matters.
_SMALL_BYTES = SMALL_PAGES * PAGE_SIZE


@dataclasses.dataclass(frozen=True)
class Segments:
    """Stretches of address space, each of one mapping, sorted within each span.

    Attributes
    ----------
    starts, ends : ndarray of uint64
        Addresses in bytes.
    backings : ndarray of uint8
        The ``Backing`` of each.
    clipped : ndarray of bool
        Whether the segment is only a part of its mapping.
    resolved : ndarray of bool
        Whether the file has to be asked which pages are swapped.
    rows : ndarray of int64
        The number of the span that each segment is a part of.
    mappings : list of Mapping
        The mapping of each.
    stable : bool
        Whether the mappings stayed as they were; False if they changed at each survey.
    """

    starts: Addresses
    ends: Addresses
    backings: npt.NDArray[np.uint8]
    clipped: npt.NDArray[np.bool_]
    resolved: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    mappings: list[Mapping]
    stable: bool = True

    def __len__(self) -> int:
        return len(self.mappings)

    def changed(self, process: Process) -> npt.NDArray[np.bool_]:
        """Return which segments' mappings have changed or gone since."""
        if len(self) <= _MAX_LOOKUPS:
            same = [within(process, m.start, m.end) == [m] for m in self.mappings]
        else:
            now = set(mappings(process))
            same = [mapping in now for mapping in self.mappings]
        return ~np.array(same, bool)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Segments:
        """Return the chosen segments."""
        return Segments(
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            backings=self.backings[chosen],
            clipped=self.clipped[chosen],
            resolved=self.resolved[chosen],
            rows=self.rows[chosen],
            mappings=list(itertools.compress(self.mappings, chosen.tolist())),
            stable=self.stable,
        )

    def surveyed(
        self, backings: Backings, spans: SpanList, questions: frozenset[str], *, stable: bool
    ) -> Segments:
        """Survey the spans of these segments again; keep their rows."""
        if stable:
            found = survey(backings, spans, questions)
            return dataclasses.replace(found, rows=self.rows[found.rows])
        unknown = np.full(len(self), int(Backing.UNKNOWN), np.uint8)
        return dataclasses.replace(self, backings=unknown, stable=False)


@functools.cache
def no_segments() -> Segments:
    """Return the segments of no span."""
    nothing = np.empty(0, np.uint64)
    flags = np.empty(0, bool)
    return Segments(
        nothing, nothing, np.empty(0, np.uint8), flags, flags, np.empty(0, np.int64), []
    )


def survey(
    backings: Backings,
    spans: SpanList | None,
    questions: frozenset[str],
    current: list[Mapping] | None = None,
) -> Segments:
    """Look up what is mapped in some spans, as far as the questions need that.

    Parameters
    ----------
    backings : Backings
        Of the process.
    spans : sequence of (start, end) or Mapping, optional
        In any order, overlapping or not. All mappings by default, each as a span of its own.
    questions : frozenset of str
        The questions that the walk over the segments answers.
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
    process: Process, spans: SpanList, current: list[Mapping] | None
) -> Iterator[tuple[int, int, Mapping, int]]:
    """Yield the mapped parts of each span: start, end, mapping, and the span's number."""
    ends = [mapping.end for mapping in current or ()]
    by_start = {mapping.start: mapping for mapping in current or ()}
    for row, span in enumerate(spans):
        start, end = span[:2]
        if by_start.get(start) == span:  # a mapping that has not changed
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
    """Yield the mappings that overlap a span; `current` is sorted."""
    for number in range(bisect.bisect_right(ends, start), len(current)):
        if current[number].start >= end:
            return
        yield current[number]


@functools.cache
def _small_hugetlb_sizes() -> tuple[str, ...]:
    """Return the directories of hugetlb page sizes that fit into small mappings, as on arm64."""
    directory, names = "/sys/kernel/mm/hugepages", []
    with IgnoringFileErrors():
        names = os.listdir(directory)
    sizes = {name: int(name.removeprefix("hugepages-").removesuffix("kB")) << 10 for name in names}
    return tuple(f"{directory}/{name}" for name, size in sizes.items() if size < _SMALL_BYTES)


def _has_small_hugetlb() -> bool:
    """Return whether there is any hugetlb page that fits into a small mapping."""
    for directory in _small_hugetlb_sizes():
        with IgnoringFileErrors(), open(f"{directory}/nr_hugepages", "rb") as file:
            if int(file.read()):
                return True
    return False


def files_matter(questions: frozenset[str]) -> tuple[bool, bool]:
    """Return whether it matters if a file is shared memory, and if it is of hugetlbfs."""
    resolving = not RESOLVED.isdisjoint(questions) and pagecache.swap_in_use()
    dirty = "soft_dirty" in questions and soft_dirty()
    return resolving, dirty or ("huge" in questions and _has_small_hugetlb())


def _classify(
    backings: Backings, questions: frozenset[str], chosen: list[Mapping], sizes: Addresses
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return what backs each mapping, and whether its file has to be asked about swap.

    A backing is looked up only if it matters. Small mappings, for instance, are read by their
    entries, whatever backs them.
    """
    kinds = np.full(len(chosen), int(Backing.UNKNOWN), np.uint8)
    resolved = np.zeros(len(chosen), bool)
    resolving, hugetlb = files_matter(questions)
    numbers: set[int] = set()
    if not categories():  # only the mapping tells the huge zero page
        numbers.update(n for n, m in enumerate(chosen) if m.end - m.start >= _SMALL_BYTES)
    elif "exclusive" not in questions:  # else entries are read anyway, and tell
        numbers.update(np.flatnonzero(sizes >= np.uint64(_SMALL_BYTES)).tolist())
    if resolving or hugetlb:
        numbers.update(number for number, mapping in enumerate(chosen) if mapping.device)
    for number in numbers:
        mapping = chosen[number]
        if mapping.start >= KERNEL_HALF:
            continue
        if mapping.anonymous:
            kinds[number] = int(Backing.ANONYMOUS)
            continue
        # Mounts are read only if they make a difference.
        known = resolving or hugetlb
        shmem = backings.is_shmem(mapping) if known else mapping.device == kernel_tmpfs()
        if shmem and mapping.shared:
            kinds[number] = int(Backing.SHMEM)
        elif hugetlb and backings.is_hugetlb(mapping):
            kinds[number] = int(Backing.HUGETLB)
        resolved[number] = resolving and shmem is not False
    return kinds, resolved
