"""Pages that were emptied: the kernel keeps their protection, and does not tell that they changed.

It does so in hugetlb (MADV_DONTNEED, a hole punched) and in shared memory (a hole punched,
MADV_REMOVE, ftruncate). Such a page is not present, and its file has a hole there. Pages that were
empty before do not count. Once such a page is used again, only the file's time of modification is
left to tell, and that a store changes as well.
"""

import errno
import os
import time
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel import scan, uffd
from .._kernel.descriptor import Descriptor
from .._kernel.failures import is_refusal
from ..model.entry import PAGE_SIZE, REGION_DTYPE, Category
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.runs import (
    RUN_DTYPE,
    Spans,
    close_gaps,
    edges_of,
    in_spans,
    join_equal,
    runs_of,
    union,
)
from ..process.backing import Backings
from ..process.mappings import within
from ..process.opening import Stat, look
from ..process.process import Process

__all__ = ["Emptied", "add_regions", "asks_for_emptied"]

# The categories of hugetlb that was emptied.
_EMPTIED = int(Category.WPALLOWED | Category.WRITTEN)
# Parts that are not present, with so little between them, are looked for in the file together.
_MAX_GAP_BYTES = 1 << 24
# Times of files are as old as the last tick: a change within this of the last one may not show.
_TICK_NS = 100_000_000


class _Part(NamedTuple):
    """A part of the span: of hugetlb, or of shared memory with its file."""

    start: int
    end: int
    file: Descriptor | None
    offset: int

    def empty(self, process: Process) -> Spans:
        """Return what is not present, and not in the file either."""
        first, last = np.array([[self.start], [self.end]], np.uint64)
        absent = int(Category.PRESENT)
        found = scan.regions(process.pagemap, process.path, first, last, absent, 0, absent, 0)
        regions = np.frombuffer(found, REGION_DTYPE)
        starts, ends = (np.ascontiguousarray(regions[name]) for name in ("start", "end"))
        if self.file is None:
            return starts, ends
        starts, ends = close_gaps(starts, ends, _MAX_GAP_BYTES, starts[:0])
        shift = self.offset - self.start
        holes = [
            (first - shift, last - shift)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            for first, last in _holes(self.file.fd, start + shift, end + shift)
        ]
        starts, ends = np.array(holes, np.uint64).reshape(-1, 2).T.copy()
        return starts, ends


class Emptied:
    """What of a tracked span is empty, and when its files were changed, as far as can be told."""

    def __init__(self, process: Process, start: int, end: int) -> None:
        backings = Backings(process)
        self._parts = [
            part
            for mapping in within(process, start, end)
            if not mapping.anonymous and (part := _part(backings, mapping, start, end))
        ]
        #: What of hugetlb was emptied, and is not told yet: without pages it is never WRITTEN.
        self.pending: set[tuple[int, int]] = set()
        # When the files had changed last, as they were looked through, if each change since shows.
        # These are no times of modification: those can be set back.
        self._looked: list[int] | None = None
        # The times that are explained by what was told, and those before the last answer.
        self._explained = self._before = [each.modified for each in self._looks()]
        self._empty = self._now(process)

    def find(self, process: Process, watch: uffd.Userfaultfd) -> None:
        """Find what was emptied since the last time: of shared memory it counts as written."""
        if not self._parts:
            return
        files, clock = self._looks(), time.time_ns()
        self._before = [each.modified for each in files]
        times = [each.changed for each in files]
        certain = len(times) == len(self._parts)  # hugetlb's files have no such times
        if certain and times == self._looked:
            return
        before, now = self._empty, self._now(process)
        edges = edges_of(*before, *now)
        new = in_spans(edges, *now) & ~in_spans(edges, *before)
        spans = [(int(edges[at]), int(edges[at + 1])) for at in np.flatnonzero(new).tolist()]
        pending = set(self.pending)
        for start, end in spans:
            if self._is_hugetlb(start):
                pending.add((start, end))
            else:
                watch.count_as_used(process.pagemap, process.maps, start, end)
        old = certain and all(abs(clock - each) > _TICK_NS for each in times)
        # At the end: a signal's handler may have raised.
        self.pending, self._empty, self._looked = pending, now, times if old else None

    def changed(self, process: Process, watch: uffd.Userfaultfd) -> bool:
        """After an answer of nothing: have files that were changed before it count as written.

        A store through this mapping changes the times, too, and would have been in the answer.
        """
        times = self._before
        if times == self._explained:
            return False
        files = [part for part in self._parts if part.file is not None]
        for part, before, now in zip(files, self._explained, times, strict=True):
            if now != before:
                watch.count_as_used(process.pagemap, process.maps, part.start, part.end)
        self._explained = times
        return True

    def explain(self) -> None:
        """After an answer of something, which may be why the times were what they were before it.

        What has changed them since then may be in that answer, or in none yet.
        """
        self._explained = self._before

    def _looks(self) -> list[Stat]:
        try:
            return [look(part.file) for part in self._parts if part.file is not None]
        except OSError as error:
            raise _in_words(error, "statx") from None

    def _is_hugetlb(self, address: int) -> bool:
        return any(p.start <= address < p.end and p.file is None for p in self._parts)

    def _now(self, process: Process) -> Spans:
        found = [part.empty(process) for part in self._parts]
        starts, ends = (
            np.concatenate([np.empty(0, np.uint64), *(each[side] for each in found)])
            for side in (0, 1)
        )
        return starts, ends


def add_regions(
    regions: npt.NDArray[np.void], emptied: Collection[tuple[int, int]], returns: int
) -> npt.NDArray[np.void]:
    """Return regions with those of what was emptied, each with `returns` of its categories.

    Spans may overlap: what was emptied again. Pages that were written since are in `regions`.
    """
    if not emptied:
        return regions
    starts, ends = np.array(list(emptied), np.uint64).T
    spans, told = union(starts, ends), (regions["start"], regions["end"])
    edges = edges_of(*spans, *told)
    rest = np.flatnonzero(in_spans(edges, *spans) & ~in_spans(edges, *told))
    rows = runs_of(edges[rest], edges[rest + 1], _EMPTIED & returns).view(REGION_DTYPE)
    both = np.concatenate((regions, rows)).astype(REGION_DTYPE)
    both = both[np.argsort(both["start"])]
    joined = join_equal(both.view(RUN_DTYPE), np.empty(0, np.uint64))
    return joined.view(REGION_DTYPE)


def asks_for_emptied(mask: int, anyof: int, inverted: int) -> bool:
    """Return whether regions are asked for that what was emptied belongs to, as written."""
    matching = _EMPTIED ^ inverted
    return (
        mask & matching == mask
        and (not anyof or anyof & matching != 0)
        and mask & ~inverted & Category.WRITTEN != 0
    )


def _part(backings: Backings, mapping: Mapping, start: int, end: int) -> _Part | None:
    """Return the part of a mapping in a span; None where nothing is known of its file."""
    low, high = max(mapping.start, start), min(mapping.end, end)
    if backings.is_hugetlb(mapping):
        return _Part(low, high, None, 0)
    file = next(iter(backings.files.descriptors(mapping)), None)
    return None if file is None else _Part(low, high, file, mapping.offset + low - mapping.start)


def _holes(fd: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return where a file of shared memory has no page, neither in RAM nor swapped."""
    found, at = [], first
    while at < last:
        data = min(_seek(fd, at, os.SEEK_DATA, last), last)
        if data > at:
            found.append((at, data))
        # The end of the file, which is a hole for lseek(2), may be within a page.
        at = (
            -(-_seek(fd, data, os.SEEK_HOLE, last) // PAGE_SIZE) * PAGE_SIZE
            if data < last
            else last
        )
    return found


def _seek(fd: int, at: int, whence: int, beyond: int) -> int:
    """Return lseek(2)'s answer, and `beyond` after the end of the file."""
    try:
        return os.lseek(fd, at, whence)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise _in_words(error, "lseek") from None
        return beyond


def _in_words(error: OSError, call: str) -> OSError:
    """Return an error of a system call, in words where a filter of them refuses it."""
    if not is_refusal(error):
        return error
    return UnsupportedError(
        errno.EOPNOTSUPP,
        f"a filter of system calls (seccomp) refuses {call}, without which it cannot be told "
        "which pages of shared memory were emptied",
    )
