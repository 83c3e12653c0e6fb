"""What a tracker asks of its span beforehand: is it mapped, and is there memory for page tables?"""

import errno
from collections.abc import Callable

import numpy as np

from .._kernel import scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..process.limits import affordable
from ..process.mappings import within
from ..process.process import Process
from ..process.smaps import size_of, smaps, smaps_at

__all__ = [
    "check_device",
    "check_file_writable",
    "check_mapped",
    "check_tables",
    "cuts_hugetlb",
    "tracked_by",
]

# What userfaultfd does in a mapping, by the kernel's flag of it.
_TRACKERS = {b"uw": "a WriteTracker", b"ur": "an AccessTracker"}
# Files of devices and of the kernel, whose pages may have no struct page.
_DEVICES = ("/dev/", "/sys/", "/proc/", "anon_inode:", "socket:")


def check_mapped(
    process: Process,
    start: int,
    end: int,
    check: Callable[[Process, Mapping], None] | None = None,
) -> None:
    """Raise ValueError unless a span is mapped without gaps; `check` looks at each mapping."""
    at = start
    for mapping in within(process, start, end):
        if mapping.start > at:
            break
        if check is not None:
            check(process, mapping)
        at = mapping.end
    if at < end:
        raise ValueError(f"nothing is mapped at {at:#x}")


def check_device(process: Process, mapping: Mapping) -> None:
    """Raise UnsupportedError for a device's memory that has no struct page."""
    if (
        mapping.path.startswith(_DEVICES)
        and b"pf" in _flags(process, mapping.start, mapping.end)[0]
    ):
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"{mapping.start:#x}-{mapping.end:#x} is the memory of {mapping.path}: "
            "the kernel does not look at such pages",
        )


def check_file_writable(process: Process, start: int, end: int) -> None:
    """Raise UnsupportedError if part of a span may never be written: its file is read only."""
    if not all(b"mw" in flags for flags in _flags(process, start, end)):
        raise UnsupportedError(
            errno.EPERM,
            f"part of {start:#x}-{end:#x} shares a file that was opened for reading alone, or is "
            "sealed: the kernel tracks only what could be made writable",
        )


def _flags(process: Process, start: int, end: int) -> list[list[bytes]]:
    """Return the kernel's flags of each mapping in a span, two letters each, from smaps."""
    found = []
    for mapping, fields in smaps(process, "VmFlags"):
        if mapping.start >= end:
            break
        if mapping.end > start:
            found.append(fields["VmFlags"].split())
    return found


def tracked_by(process: Process, start: int, end: int) -> str:
    """Return what has registered part of a span with userfaultfd, as far as the kernel tells."""
    for flag, tracker in _TRACKERS.items():
        if any(flag in flags for flags in _flags(process, start, end)):
            return f"{tracker} or another userfaultfd"
    return "another userfaultfd"


def check_tables(process: Process, start: int, end: int) -> None:
    """Raise MemoryError if the page tables that protection needs do not fit into free memory."""
    count = (end - start) // PAGE_SIZE
    try:
        affordable(count, 8)
    except MemoryError:
        # There are page tables already where pages are.
        starts, ends = np.array([[start], [end]], np.uint64)
        found = scan.populated(process.pagemap, process.path, starts, ends, PAGE_SIZE // 8)
        there = np.frombuffer(found, REGION_DTYPE)
        affordable(count - int((there["end"] - there["start"]).sum()) // PAGE_SIZE, 8)


def cuts_hugetlb(process: Process, start: int, end: int) -> bool:
    """Return whether an edge of a span is within a page larger than usual."""
    return any(
        edge % _page_size(process, inside) for edge, inside in ((start, start), (end, end - 1))
    )


def _page_size(process: Process, address: int) -> int:
    """Return the page size of the mapping at an address, in bytes, from smaps."""
    fields = smaps_at(process, address, "KernelPageSize")
    return size_of(fields["KernelPageSize"]) if fields else PAGE_SIZE
