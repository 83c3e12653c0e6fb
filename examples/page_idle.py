"""Which memory of another process is accessed: by the kernel's idle page tracking (root).

A page is marked as idle; an access takes the mark away. It is exact to the folio, which is one page
or a huge one, but it is a mark of the folio, not of the process: whoever else maps it takes it
away, too. Pages that are not in the kernel's lists for reclaim (locked ones, hugetlb) cannot be
marked, and count as accessed.

It needs CONFIG_IDLE_PAGE_TRACKING; few distributions have it.

Source: Documentation/admin-guide/mm/idle_page_tracking.rst.
"""

import os
import time
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from damon import Refused, Spans

import fastpagemap as fpm

BITMAP = "/sys/kernel/mm/page_idle/bitmap"
#: bits for this many frames are read or written at a time
FRAMES = 1 << 15


class PageIdle:
    """Watches the memory of a process."""

    NAME = "idle page tracking"
    HOW = "exact to the page or huge page, but whoever accesses it"

    def __init__(self, pid: int, interval: float) -> None:
        self._pid, self._interval = pid, interval

    def __enter__(self) -> Self:
        try:
            self._bitmap = os.open(BITMAP, os.O_RDWR)
        except FileNotFoundError:
            raise Refused("this kernel has no CONFIG_IDLE_PAGE_TRACKING") from None
        except PermissionError:
            raise Refused("it takes root") from None
        self._pagemap = fpm.PageMap(self._pid)
        return self

    def __exit__(self, *error: object) -> None:
        self._pagemap.close()
        os.close(self._bitmap)

    def accessed(self) -> Spans:
        """Mark all pages, wait for an interval, and return where pages are marked no more."""
        for first, bits in blocks(heads(self._pagemap.folios())):
            os.pwrite(self._bitmap, np.packbits(bits, bitorder="little"), first // 8)
        time.sleep(self._interval)
        folios = self._pagemap.folios()
        frames = heads(folios)
        idle = np.zeros(len(frames), bool)
        for first, _ in blocks(frames):
            read = np.frombuffer(os.pread(self._bitmap, FRAMES // 8, first // 8), np.uint8)
            bits = np.zeros(FRAMES, bool)  # of up to 63 frames at the end of memory none are read
            bits[: 8 * len(read)] = np.unpackbits(read, bitorder="little")
            here = (frames >= first) & (frames < first + FRAMES)
            idle[here] = bits[frames[here] - first]
        spans: Spans = folios[~idle][["start", "end"]].tolist()
        return spans


def heads(folios: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the first frame of each folio: the mark is on that one."""
    order = folios["order"].astype(np.uint64)
    frames: npt.NDArray[np.uint64] = folios["pfn"] >> order << order
    return frames


def blocks(frames: npt.NDArray[np.uint64]) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Return which frames of a block are among some frames, for each block that has one."""
    found = []
    for first in np.unique(frames // FRAMES * FRAMES).tolist():
        bits = np.zeros(FRAMES, bool)
        bits[frames[(frames >= first) & (frames < first + FRAMES)] - first] = True
        found.append((first, bits))
    return found
