"""What this kernel and this user can be told of page frames: tried out, not looked up."""

import mmap

import numpy as np

from .._kernel.failures import IgnoringFileErrors
from ..model import entry
from ..model.entry import PAGE_SIZE
from ..model.errors import UnsupportedError
from ..model.frame_flags import KPF
from ..model.span import span
from .frames import FLAGS, MAPCOUNTS, Frames, open_frames
from .probes import version
from .process import Process

__all__ = ["frames_readable", "page_mapcounts", "sees_pfns"]

# linux/mman.h; mmap has it from Python 3.13 on, the C library's headers only newer ones.
_MADV_COLLAPSE = 25
# What a kernel can is found out once.
_found: list[bool] = []


def sees_pfns() -> bool:
    """Return whether frame numbers are visible, probed on a present page of this process."""
    found = np.zeros(1, np.uint64)
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        Process().read_entries(span(page)[0], found)
    return bool(entry.decode(found)["pfn"][0])


def frames_readable() -> bool:
    """Return whether this user can open what ``Frames`` reads."""
    try:
        for name in (FLAGS, MAPCOUNTS):
            open_frames(name)
    except (PermissionError, UnsupportedError):
        return False
    return True


def page_mapcounts() -> bool | None:
    """Return whether this kernel counts the mappings of each page; None if it cannot be told."""
    if not _found:
        counted = True if (0, 0) < version() < (6, 15) else None
        if counted is None:
            with IgnoringFileErrors():
                counted = _probe()
        if counted is None:
            return None
        _found.append(counted)
    return _found[0]


def _probe() -> bool | None:
    """Unmap half of a huge page: its pages count 0, or the average of all."""
    size = PAGE_SIZE * (PAGE_SIZE // 8)
    with Frames() as frames, mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE) as memory:
        # A child forked meanwhile must not count.
        memory.madvise(mmap.MADV_DONTFORK)
        with IgnoringFileErrors():
            memory.madvise(mmap.MADV_HUGEPAGE)
        first, _ = span(memory)
        start = -(-first // size) * size
        offset = start - first
        for at in range(offset, offset + size, PAGE_SIZE):
            memory[at] = 1
        with IgnoringFileErrors():  # where huge pages are not made by themselves: Linux 6.1
            memory.madvise(_MADV_COLLAPSE, offset, size)
        half = size // 2
        found = np.zeros(half // PAGE_SIZE, np.uint64)
        Process().read_entries(start + half, found)
        pfns = entry.decode(found)["pfn"]
        memory.madvise(mmap.MADV_DONTNEED, offset + half, half)
        counts = frames.mapcounts(pfns)
        # Still of the folio that is mapped in part, and neither freed nor split from it.
        tail = int(KPF.COMPOUND_TAIL | KPF.ANON)
        kept = frames.flags(pfns) & tail == tail
        return bool((counts[kept] == 0).all()) if pfns.all() and kept.any() else None
