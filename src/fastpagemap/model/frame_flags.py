"""What the kernel says of page frames: the flags of /proc/kpageflags. Pure: no I/O."""

import numpy as np

from .entry import UInt64Flag

__all__ = ["FOLIO_DTYPE", "KPF"]


class KPF(UInt64Flag):
    """The flags of a page frame in /proc/kpageflags, by the kernel's names (``KPF_*``).

    Up to PGTABLE they are part of the kernel's promised interface; Documentation/admin-guide/mm/
    pagemap.rst says what each means. Those from RESERVED on are for the kernel's own developers,
    and bit 34 was MAPPEDTODISK before it became OWNER_2. The kernel changes flags by itself: a page
    that was just touched waits in a list of its processor's, and gets LRU when that list is full.

    Source: include/uapi/linux/kernel-page-flags.h, include/linux/kernel-page-flags.h, mm/swap.c.

    Examples
    --------
    >>> fpm.KPF(0x5828)
    KPF(UPTODATE|LRU|MMAP|ANON|SWAPBACKED)
    """

    LOCKED = 1 << 0
    ERROR = 1 << 1
    REFERENCED = 1 << 2
    UPTODATE = 1 << 3
    DIRTY = 1 << 4
    LRU = 1 << 5
    ACTIVE = 1 << 6
    SLAB = 1 << 7
    WRITEBACK = 1 << 8
    RECLAIM = 1 << 9
    BUDDY = 1 << 10
    MMAP = 1 << 11
    ANON = 1 << 12
    SWAPCACHE = 1 << 13
    SWAPBACKED = 1 << 14
    COMPOUND_HEAD = 1 << 15
    COMPOUND_TAIL = 1 << 16
    HUGE = 1 << 17
    UNEVICTABLE = 1 << 18
    HWPOISON = 1 << 19
    NOPAGE = 1 << 20
    KSM = 1 << 21
    THP = 1 << 22
    OFFLINE = 1 << 23
    ZERO_PAGE = 1 << 24
    IDLE = 1 << 25
    PGTABLE = 1 << 26
    RESERVED = 1 << 32
    MLOCKED = 1 << 33
    OWNER_2 = 1 << 34
    MAPPEDTODISK = 1 << 34
    PRIVATE = 1 << 35
    PRIVATE_2 = 1 << 36
    OWNER_PRIVATE = 1 << 37
    ARCH = 1 << 38
    UNCACHED = 1 << 39
    SOFTDIRTY = 1 << 40
    ARCH_2 = 1 << 41
    ARCH_3 = 1 << 42


FOLIO_DTYPE = np.dtype(
    [("start", "=u8"), ("end", "=u8"), ("pfn", "=u8"), ("order", "=u8"), ("flags", "=u8")]
)
"""A stretch of addresses at which one folio is mapped, page after page."""
