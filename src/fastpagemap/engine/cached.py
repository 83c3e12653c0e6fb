"""Which pages of the files behind mappings are in the page cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._kernel import cached as kernel
from ..model.entry import PAGE_SIZE
from ..model.errors import UnsupportedError
from ..model.mapping import KERNEL_HALF, Mapping
from ..model.questions import Mask
from ..process.backing import Backings, has_no_cache
from ..process.local_files import LocalFiles, Opened
from ..process.opening import pass_over
from ..process.process import Process
from .own_cache import fill_own
from .survey import SpanList, survey

__all__ = ["CACHE_COLUMNS", "WINDOW_PAGES", "count_cached", "fill_cached"]

_Answer = TypeVar("_Answer")

CACHE_COLUMNS = ("cached", "cache_dirty", "cache_writeback")
"""The columns that one cachestat fills, in its order."""

WINDOW_PAGES = 1 << 18
"""Pages that are asked about between two checks for signals."""

_MAX_SURVEYS = 4


def fill_cached(process: Process, start: int, end: int, mask: Mask) -> None:
    """Fill the mask of a span's pages; see ``PageMap.cached``."""
    mask.fill(False)

    def part(low: int, high: int) -> Mask:
        return mask[(low - start) // PAGE_SIZE : (high - start) // PAGE_SIZE]

    def look(caches: _Caches, mapping: Mapping, low: int, high: int) -> None:
        caches.fill(mapping, low, part(low, high))

    for _, low, high, kept, _ in _ask(process, [(start, end)], None, look):
        if not kept:
            part(low, high).fill(False)
    process.check_alive()


def count_cached(
    process: Process, rows: list[Mapping], fresh: bool, columns: list[str]
) -> npt.NDArray[np.uint64]:
    """Return the bytes of CACHE_COLUMNS for each row; `columns` names those that are asked for."""
    dirty = any(name != CACHE_COLUMNS[0] for name in columns)

    def look(caches: _Caches, mapping: Mapping, low: int, high: int) -> tuple[int, int, int]:
        return caches.count(mapping, low, high, dirty=dirty)

    totals = np.zeros((len(rows), len(CACHE_COLUMNS)), np.uint64)
    spans = None if fresh else rows
    for row, _, _, kept, pages in _ask(process, spans, rows if fresh else None, look):
        if kept:
            totals[row] += np.array(pages, np.uint64) * np.uint64(PAGE_SIZE)
    process.check_alive()
    return totals


def _ask(
    process: Process,
    spans: SpanList | None,
    current: list[Mapping] | None,
    look: Callable[[_Caches, Mapping, int, int], _Answer],
) -> Iterator[tuple[int, int, int, bool, _Answer]]:
    """Yield the answer for each part of the spans that a file is mapped in.

    The tuple: the number of the span, the part's start and end, whether the mapping was the same
    afterwards, and the answer. If it was not, the part is asked about again.
    """
    backings = Backings(process)
    segments = survey(backings, spans, frozenset(), current)
    for _ in range(_MAX_SURVEYS):
        caches = _Caches(backings)
        segments = segments.part(
            np.array([caches.may_have(mapping) for mapping in segments.mappings], bool)
        )
        starts, ends = segments.starts.tolist(), segments.ends.tolist()
        answers: list[_Answer | UnsupportedError] = []
        for mapping, start, end in zip(segments.mappings, starts, ends, strict=True):
            try:
                answers.append(look(caches, mapping, start, end))
            except UnsupportedError as error:
                # A traceback has this frame, and both would be kept until garbage is collected.
                answers.append(error.with_traceback(None))
        changed = segments.changed(process) if len(segments) else np.zeros(0, bool)
        parts = zip(segments.rows.tolist(), starts, ends, (~changed).tolist(), answers, strict=True)
        for row, start, end, kept, answer in parts:
            if not isinstance(answer, UnsupportedError):
                yield row, start, end, kept, answer
            elif kept:
                raise UnsupportedError(answer.errno, answer.strerror, answer.filename)
        if not changed.any():
            return
        chosen, backings = segments.part(changed), Backings(process)
        spans = list(zip(chosen.starts.tolist(), chosen.ends.tolist(), strict=True))
        segments = chosen.surveyed(backings, spans, frozenset(), stable=True)
    raise UnsupportedError(
        errno.EOPNOTSUPP, "which pages are cached: the mapping changed at each look", process.path
    )


class _Caches:
    """Asks the files that one process has mapped; make a new one for each public call."""

    def __init__(self, backings: Backings) -> None:
        self._backings = backings
        self._local = LocalFiles(backings)
        # The last file that answered: a library has several mappings, one after the other.
        self._last: tuple[tuple[int, int, str], Opened] | None = None

    @staticmethod
    def may_have(mapping: Mapping) -> bool:
        """Return whether a mapping may have pages in a page cache."""
        return mapping.start < KERNEL_HALF and not has_no_cache(mapping)

    def fill(self, mapping: Mapping, start: int, mask: Mask) -> None:
        """Fill the mask of a part of a mapping."""
        why: list[OSError] = []
        for opened in self._opened(mapping):
            if _fill_by_file(opened, mapping, start, mask, why):
                self._last = _key(mapping), opened
                return
        if self._backings.files.is_device(mapping):
            mask.fill(False)
        elif not fill_own(self._backings, self._local, mapping, start, mask):
            raise self._unsupported(mapping, why)

    def count(self, mapping: Mapping, start: int, end: int, *, dirty: bool) -> tuple[int, int, int]:
        """Return the pages in the cache, dirty, and under writeback; only the first, if not asked.

        Only cachestat tells the others.
        """
        why: list[OSError] = []
        first, count = _pages(mapping, start, end)
        for opened in self._opened(mapping):
            try:
                inside = max(0, min(count, opened.pages - first))
                if not inside:
                    return 0, 0, 0
                found = kernel.counts(opened.file.fd, mapping.path, first, inside)
            except OSError as error:
                pass_over(error)
                why.append(error.with_traceback(None))
                continue
            self._last = _key(mapping), opened
            return found
        if self._backings.files.is_device(mapping):
            return 0, 0, 0
        if dirty:
            raise self._unsupported(mapping, why)
        total, step = 0, WINDOW_PAGES * PAGE_SIZE
        mask = np.empty(min(count, WINDOW_PAGES), bool)
        for at in range(start, end, step):
            part = mask[: (min(at + step, end) - at) // PAGE_SIZE]
            self.fill(mapping, at, part)
            total += int(part.sum())
        return total, 0, 0

    def _opened(self, mapping: Mapping) -> Iterator[Opened]:
        last = None if self._local.has_subvolumes(mapping) else self._last
        if last is not None and last[0] == _key(mapping):
            yield last[1]
        yield from self._local.opened(mapping)

    def _unsupported(self, mapping: Mapping, why: list[OSError]) -> UnsupportedError:
        """Return the exception that says of which mapping it cannot be known, and why."""
        if why:
            reason = (
                f"{why[0].strerror}: only the owner of the file, or a user who may write it, can "
                "ask cachestat (Linux 6.5) or mincore; or a sandbox forbids both"
            )
        elif self._local.is_local(mapping):
            reason = (
                "it could not be opened: that needs the right to read it, and CAP_SYS_ADMIN or "
                "CAP_CHECKPOINT_RESTORE, a descriptor or a path of it; no lease on it, nor more "
                "locks in /proc/locks than are read; and no sandbox that forbids to look at it"
            )
        elif self._backings.is_hugetlb(mapping):
            reason = "the kernel does not tell it of hugetlbfs"
        else:
            kind = os.fsdecode(self._local.kind(mapping)) or "unknown"
            reason = f"its file system ({kind}) may not know, or may wait for a server"
        return UnsupportedError(
            errno.EOPNOTSUPP,
            f"which pages of the file at {mapping.start:#x}-{mapping.end:#x} are in the page "
            f"cache cannot be found out: {reason}",
            mapping.path,
        )


def _key(mapping: Mapping) -> tuple[int, int, str]:
    return mapping.device, mapping.inode, mapping.path


def _pages(mapping: Mapping, start: int, end: int) -> tuple[int, int]:
    """Return the first page in the file of a part of a mapping, and how many there are."""
    return (mapping.offset + start - mapping.start) // PAGE_SIZE, (end - start) // PAGE_SIZE


def _fill_by_file(
    opened: Opened, mapping: Mapping, start: int, mask: Mask, why: list[OSError]
) -> bool:
    """Fill a mask by an open file; return whether that worked, and add to `why` if not."""
    page = (mapping.offset + start - mapping.start) // PAGE_SIZE
    inside = max(0, min(len(mask), opened.pages - page))
    mask[inside:] = False
    found = mask[:inside].view(np.uint8)
    file, path = opened.file.fd, mapping.path
    windows = [found[at : at + WINDOW_PAGES] for at in range(0, inside, WINDOW_PAGES)]
    try:
        for number, window in enumerate(windows):
            kernel.by_cachestat(file, path, page + number * WINDOW_PAGES, window)
        return True
    except OSError as error:
        pass_over(error)
        why.append(error.with_traceback(None))
    if not opened.mincore_tells():
        return False
    try:
        for number, window in enumerate(windows):
            kernel.by_mincore(file, path, page + number * WINDOW_PAGES, window, opened.pages)
    except OSError as error:
        pass_over(error)
        why.append(error.with_traceback(None))
        return False
    return True
