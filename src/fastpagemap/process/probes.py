"""What this kernel can: probed, and remembered only where its word is final.

A kernel does not lose a call, and a sandbox may forbid one at any time, but never allows it again.
So what was refused stays so, and what worked may be refused later: `asks_again`. A probe that fails
for another reason (no descriptor left, no memory) raises, and is tried anew at the next call.
"""

import errno
import functools
import mmap
import os
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

from .._kernel import reading, scan
from .._kernel.descriptor import open_file
from .._kernel.failures import is_refusal
from .._kernel.own_files import own_file
from ..model.entry import PAGE_SIZE, Category
from ..model.errors import UnsupportedError
from ..model.span import span

__all__ = [
    "address_end",
    "asks_again",
    "categories",
    "need_scan",
    "need_soft_dirty",
    "one_entry_tells",
    "probed_anew",
    "release_and_machine",
    "scan_withdrawn",
    "soft_dirty",
    "version",
]

P = ParamSpec("P")
T = TypeVar("T")

_OWN = own_file("pagemap")
# What a scan is asked: mask, anyof, inverted, returns.
_ANY_PRESENT = Category.PRESENT, 0, 0, Category.PRESENT


def soft_dirty() -> bool:
    """Return whether this kernel is known to keep soft-dirty bits.

    Probed, not read from a configuration: a page that was just written, in a new mapping, has the
    bit where it exists. Nothing is cleared, so no one's tracking is disturbed.
    """
    try:
        return _soft_dirty()
    except (PermissionError, FileNotFoundError):  # this process may not see its own entries
        return False


@functools.cache
def _soft_dirty() -> bool:
    return reading.soft_dirty()


def need_soft_dirty() -> None:
    """Raise UnsupportedError where soft-dirty bits always read 0, or may do so."""
    try:
        kept = _soft_dirty()
    except (PermissionError, FileNotFoundError) as error:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "whether this kernel keeps soft-dirty bits cannot be found out: "
            f"{_OWN}: {error.strerror}",
        ) from None
    if not kept:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "this kernel keeps no soft-dirty bits (every page reads clean): "
            "it needs CONFIG_MEM_SOFT_DIRTY, which not every architecture has",
        )


def categories() -> Category:
    """Return the categories that PAGEMAP_SCAN accepts; none if the kernel has no such call.

    Each is probed, because newer kernels know more. SOFT_DIRTY is left out if the kernel keeps no
    soft-dirty bits, although it accepts the category even then.
    """
    try:
        return _categories()
    except (PermissionError, FileNotFoundError):  # this process may not see its own entries
        return Category(0)


@functools.cache
def _categories() -> Category:
    accepted = Category(0)
    refused: OSError | None = None
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        starts, ends = np.array(span(page), np.uint64).reshape(2, 1)
        pagemap = open_file(_OWN, os.O_RDONLY)
        for category in Category:
            try:
                scan.regions(pagemap.fd, "pagemap", starts, ends, category, 0, 0, category)
            except OSError as error:
                if not is_refusal(error):
                    raise
                if error.errno != errno.EINVAL:  # no such call: before Linux 6.7, or forbidden
                    refused = error.with_traceback(None)
                # else not this category
            else:
                accepted |= category
    if refused and accepted:  # of one category only: no kernel and no sandbox says that
        raise refused
    return accepted if _soft_dirty() else accepted & ~Category.SOFT_DIRTY


def probed_anew() -> Category:
    """Return the categories that PAGEMAP_SCAN accepts now."""
    _categories.cache_clear()
    return categories()


@functools.cache
def address_end() -> int:
    """Return the highest address that a scan may end at, whichever process it is of."""
    pagemap = open_file(_OWN, os.O_RDONLY)
    for bits in reversed(range(32, 64)):
        # x86 leaves the last page of the lower half out.
        for end in (1 << bits, (1 << bits) - PAGE_SIZE):
            starts, ends = np.array([end - PAGE_SIZE, end], np.uint64).reshape(2, 1)
            try:
                scan.regions(pagemap.fd, "pagemap", starts, ends, *_ANY_PRESENT)
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
            else:
                return end
    return 1 << 32


def need_scan(what: str) -> None:
    """Raise UnsupportedError where there are only entries, which do not tell some pages."""
    if not categories():
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"entries do not tell {what}: it needs PAGEMAP_SCAN (Linux 6.7), and no sandbox that "
            "forbids it",
        )


def scan_withdrawn(error: OSError) -> bool:
    """Return whether an error may mean that a scan is refused by now, though it worked before."""
    if not is_refusal(error):
        return False
    before = categories()
    now = probed_anew()
    return not now or now != before


def asks_again(answer: Callable[P, T]) -> Callable[P, T]:
    """Have a function ask once more, without scans, if they are refused since they were probed."""

    @functools.wraps(answer)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return answer(*args, **kwargs)
        except OSError as error:
            if not scan_withdrawn(error):
                raise
        return answer(*args, **kwargs)

    return asked


def release_and_machine() -> tuple[str, str]:
    """Return the kernel's release and the architecture; empty where this process may not ask."""
    try:
        about = os.uname()
    except OSError as error:
        if not is_refusal(error):
            raise
        return "", ""
    return about.release, about.machine


def version() -> tuple[int, int]:
    """Return the first two numbers of the kernel's version; 0, 0 where they are not told."""
    found = re.match(r"(\d+)\.(\d+)", release_and_machine()[0])
    return (int(found[1]), int(found[2])) if found else (0, 0)


@functools.cache
def one_entry_tells() -> bool:
    """Return whether the first entry of a huge page tells ``exclusive`` for all of it.

    Since Linux 6.15 all its entries have the flags of the page where the read begins
    (fs/proc/task_mmu.c, pagemap_pmd_range). Before, each page had its own flags.
    """
    return version() >= (6, 15)
