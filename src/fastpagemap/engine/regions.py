"""Runs of pages of the same categories: PAGEMAP_SCAN's own question.

Before Linux 6.7, which has no such call, the entries answer it.
"""

import errno
import operator
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE, Category, Flag
from ..model.errors import UnsupportedError
from ..model.mapping import KERNEL_HALF, Mapping
from ..model.runs import concat_rows
from ..process.backing import Backings
from ..process.limits import affordable
from ..process.mappings import mappings, within
from ..process.probes import asks_again, categories, need_soft_dirty, soft_dirty
from ..process.process import Process

__all__ = ["known", "regions"]

Regions = npt.NDArray[np.void]

# The categories that entries show too, and in which bit.
_FLAGS = {
    Category.PRESENT: Flag.PRESENT,
    Category.SWAPPED: Flag.SWAP,
    Category.FILE: Flag.FILE,
    Category.SOFT_DIRTY: Flag.SOFT_DIRTY,
}
# Mappings with a smaller gap between them are scanned together.
_MAX_GAP_BYTES = 1 << 26
# In a larger span all mappings are read: most are likely to be in it.
_MAX_LOOKUP_BYTES = 1 << 40
# Entries read at a time.
_WINDOW_PAGES = 1 << 16


@asks_again
def regions(
    process: Process,
    start: int,
    end: int,
    mask: int,
    anyof: int,
    inverted: int,
    returns: int | None,
) -> Regions:
    """Return the regions of a span, by a scan or from entries; see ``PageMap.regions``."""
    wanted = known(mask, anyof, inverted, returns)
    if categories():
        starts, ends = _areas(process, start, end)
        found = scan.regions(
            process.pagemap, process.path, starts, ends, mask, anyof, inverted, wanted
        )
        return np.frombuffer(bytearray(found), REGION_DTYPE)
    return _from_entries(process, start, end, (int(mask), int(anyof), int(inverted), wanted))


def known(mask: int, anyof: int, inverted: int, returns: int | None) -> int:
    """Return the categories to return, all for None; raise if this kernel lacks one asked for.

    TypeError: what is asked for is no integer.
    """
    told = categories() or _told_by_entries()
    wanted = operator.index(told if returns is None else returns)
    asked = operator.index(mask) | operator.index(anyof) | operator.index(inverted) | wanted
    if asked & Category.SOFT_DIRTY:
        need_soft_dirty()
    missing = Category(asked & ~int(told))
    if missing:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"this kernel does not tell {missing!r}, only {told!r}: PAGEMAP_SCAN came with "
            "Linux 6.7, SOFT_DIRTY, GUARD (6.16) and ACCESSED after it",
        )
    return wanted


def _told_by_entries() -> Category:
    """Return the categories that entries show: no GUARD, as bit 58 came after PAGEMAP_SCAN."""
    told = Category.PRESENT | Category.SWAPPED | Category.FILE
    return told | Category.SOFT_DIRTY if soft_dirty() else told


def _clipped(process: Process, start: int, end: int) -> Iterator[tuple[int, int, Mapping]]:
    """Yield the mapped parts of a span and their mappings, outside the kernel's half."""
    found = mappings(process) if end - start > _MAX_LOOKUP_BYTES else within(process, start, end)
    for mapping in found:
        low, high = max(mapping.start, start), min(mapping.end, end)
        if low < high and mapping.start < KERNEL_HALF:
            yield low, high, mapping


def _areas(
    process: Process, start: int, end: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the starts and ends of areas to scan: all mappings, without large gaps."""
    areas: list[list[int]] = []
    for low, high, _ in _clipped(process, start, end):
        if areas and low - areas[-1][1] < _MAX_GAP_BYTES:
            areas[-1][1] = high
        else:
            areas.append([low, high])
    starts, ends = np.array(areas, np.uint64).reshape(-1, 2).T
    return np.ascontiguousarray(starts), np.ascontiguousarray(ends)


def _from_entries(
    process: Process, start: int, end: int, asked: tuple[int, int, int, int]
) -> Regions:
    """Answer from the entries of all mapped pages, a window at a time."""
    found: list[Regions] = []
    total = 0
    backings = Backings(process)
    for low, high, mapping in _clipped(process, start, end):
        hugetlb = soft_dirty() and backings.is_hugetlb(mapping)
        for at in range(low, high, _WINDOW_PAGES * PAGE_SIZE):
            stop = min(at + _WINDOW_PAGES * PAGE_SIZE, high)
            words = np.empty((stop - at) // PAGE_SIZE, np.uint64)
            process.read_entries(at, words)
            if mapping.anonymous:  # as a scan does: the huge zero page is of no file
                words &= ~np.uint64(int(Flag.FILE))
            if hugetlb:  # as a scan does: entries of hugetlb pages never have the bit
                present = (words & np.uint64(int(Flag.PRESENT))) != 0
                words[present] |= np.uint64(int(Flag.SOFT_DIRTY))
            found.append(_runs(at, words, *asked))
            total += len(found[-1])
            affordable(total, 2 * REGION_DTYPE.itemsize, "regions")
    return _merged(concat_rows(found, REGION_DTYPE))


def _runs(
    start: int,
    words: npt.NDArray[np.uint64],
    mask: int,
    anyof: int,
    inverted: int,
    returns: int,
) -> Regions:
    """Return the pages that match as regions, as the ioctl would."""
    told = np.zeros(len(words), np.uint64)
    for category, flag in _FLAGS.items():
        told[(words & np.uint64(int(flag))) != 0] |= np.uint64(int(category))
    seen = told ^ np.uint64(inverted)
    matching = (seen & np.uint64(mask)) == np.uint64(mask)
    if anyof:
        matching &= (seen & np.uint64(anyof)) != 0
    pages = np.flatnonzero(matching).astype(np.uint64)
    found = np.empty(len(pages), REGION_DTYPE)
    found["start"] = pages * np.uint64(PAGE_SIZE) + np.uint64(start)
    found["end"] = found["start"] + np.uint64(PAGE_SIZE)
    found["categories"] = told[matching] & np.uint64(returns)
    return _merged(found)


def _merged(found: Regions) -> Regions:
    """Join neighbours of equal categories."""
    if not len(found):
        return found
    apart = found["start"][1:] != found["end"][:-1]
    apart |= found["categories"][1:] != found["categories"][:-1]
    first = np.concatenate(([True], apart))
    merged: Regions = found[first]
    merged["end"] = found["end"][np.concatenate((apart, [True]))]
    return merged
