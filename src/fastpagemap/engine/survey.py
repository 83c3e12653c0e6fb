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
from ..model.mapping import KERNEL_HALF, Mapping
from ..process.backing import Backings, kernel_tmpfs
from ..process.capabilities import soft_dirty
from ..process.mappings import mappings, within
from ..process.process import Process
from .table import Backing

__all__ = ["RESOLVED", "Segments", "survey"]

Addresses = npt.NDArray[np.uint64]
Spans = Sequence[tuple[int, int]]

RESOLVED = frozenset({"swapped", "swapped_shared", "unknown"})
"""The questions that the file behind a mapping of shared memory answers."""

# Spans to look up one by one, before the text of all mappings is cheaper.
_MAX_LOOKUPS = 16


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
    spans : sequence of (start, end), optional
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
        found = [(m.start, m.end, m, row) for row, m in enumerate(current)]
    else:
        found = list(_clipped(process, spans, current))
    classify = _Classifier(backings, questions)
    kinds = [classify(mapping) for _, _, mapping, _ in found]
    return Segments(
        starts=np.array([start for start, _, _, _ in found], np.uint64),
        ends=np.array([end for _, end, _, _ in found], np.uint64),
        backings=np.array([kind for kind, _ in kinds], np.uint8),
        clipped=np.array([low > m.start or high < m.end for low, high, m, _ in found], bool),
        resolved=np.array([resolved for _, resolved in kinds], bool),
        rows=np.array([row for _, _, _, row in found], np.int64),
        mappings=[mapping for _, _, mapping, _ in found],
    )


def _clipped(
    process: Process, spans: Spans, current: list[Mapping] | None
) -> Iterator[tuple[int, int, Mapping, int]]:
    """Yield what is mapped of each span, by whom, and the span's number."""
    ends = [mapping.end for mapping in current or ()]
    for row, (start, end) in enumerate(spans):
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


class _Classifier:
    """Tells what is behind a mapping, and no more of it than the questions need."""

    def __init__(self, backings: Backings, questions: frozenset[str]) -> None:
        self._backings = backings
        self._resolving = not RESOLVED.isdisjoint(questions) and pagecache.swap_in_use()
        self._hugetlb = "soft_dirty" in questions and soft_dirty()
        # mounts are read only where they make a difference
        self._mounts = self._resolving or self._hugetlb

    def __call__(self, mapping: Mapping) -> tuple[Backing, bool]:
        """Return what is behind a mapping, and whether its file has to be asked about swap."""
        if mapping.start >= KERNEL_HALF:
            return Backing.UNKNOWN, False
        if mapping.anonymous:
            return Backing.ANONYMOUS, False
        if not self._mounts:
            shmem: bool | None = mapping.device == kernel_tmpfs()
        else:
            shmem = self._backings.is_shmem(mapping)
        backing = Backing.UNKNOWN
        if shmem and mapping.shared:
            backing = Backing.SHMEM
        elif self._hugetlb and self._backings.is_hugetlb(mapping):
            backing = Backing.HUGETLB
        return backing, self._resolving and shmem is not False
