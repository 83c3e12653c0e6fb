"""What this kernel can answer, and what this user may ask."""

import dataclasses
import errno
import functools
import mmap
import os
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._kernel import pagecache, procmaps, reading, scan, uffd
from .._kernel.descriptor import open_file, open_memory
from ..model import entry
from ..model.entry import PAGE_SIZE, Category
from ..model.errors import UnsupportedError, tells_of_file
from ..model.mapping import Mapping
from ..model.span import span
from .mappings import mappings
from .process import Process, open_process

__all__ = [
    "Capabilities",
    "capabilities",
    "capabilities_of",
    "categories",
    "need_soft_dirty",
    "one_entry_tells",
    "soft_dirty",
]

_NEEDS = {
    "soft_dirty": "CONFIG_MEM_SOFT_DIRTY, which not every architecture has",
    "scan": "Linux 6.7",
    "procmap_query": "Linux 6.11",
    "cachestat": "Linux 6.5; without it a page of shared memory that is swapped out, but still has "
    "a copy in the swap cache, is taken for not swapped",
    "pfn": "CAP_SYS_ADMIN when the PageMap is made",
    "map_files": "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; without it files of shared memory are "
    "looked for among descriptors and by path",
    "userfaultfd_wp_async": "Linux 6.7, and userfaultfd not forbidden",
}


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What the kernel can answer about a process, and what this user may ask.

    ``print`` shows a table that says what each missing capability needs.

    Attributes
    ----------
    page_size : int
        Bytes per page.
    soft_dirty : bool
        Whether the kernel keeps soft-dirty bits: probed by a write, not read from a configuration.
    scan : bool
        Whether the kernel has PAGEMAP_SCAN.
    categories : Category
        The categories that PAGEMAP_SCAN accepts; without SOFT_DIRTY if the kernel keeps no such
        bits.
    procmap_query : bool
        Whether the kernel looks up single mappings (PROCMAP_QUERY).
    cachestat : bool
        Whether swapped shared memory is found exactly, swap cache included.
    pfn : bool
        Whether this user sees frame numbers and swap locations.
    map_files : bool or None
        Whether this user can open mapped files through the mapping; None if no file is mapped.
    userfaultfd_wp_async : bool
        Whether this process may track its own writes.
    """

    page_size: int
    soft_dirty: bool
    scan: bool
    categories: Category
    procmap_query: bool
    cachestat: bool
    pfn: bool
    map_files: bool | None
    userfaultfd_wp_async: bool

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return "\n".join(f"{name:<21} {_described(name, value)}" for name, value in values.items())


def _described(name: str, value: bool | int | Category | None) -> str:
    """Return the text of one value in the table."""
    if isinstance(value, Category):
        return " ".join(str(category.name) for category in value) or "none"
    if value is False:
        return f"no: needs {_NEEDS[name]}"
    if value is None:
        return "unknown"
    return "yes" if value is True else str(value)


def capabilities(process: Any = None) -> Capabilities:
    """Find out what the kernel can answer about a process, and what this user may ask.

    Parameters
    ----------
    process : int or object, optional
        As for ``PageMap``; this process by default.

    Returns
    -------
    Capabilities

    Raises
    ------
    ProcessLookupError, PermissionError, ValueError, TypeError
        As ``PageMap`` does.

    Notes
    -----
    The kernel is probed once, the permissions of this user at each call. Nothing is cleared or
    changed, so no one's tracking is disturbed.
    """
    held = open_process(process)
    return capabilities_of(held, mappings(held))


def capabilities_of(process: Process, current: Iterable[Mapping]) -> Capabilities:
    """Return the capabilities for a process that is held open, given its current mappings."""
    return Capabilities(
        page_size=PAGE_SIZE,
        soft_dirty=soft_dirty(),
        scan=bool(categories()),
        categories=categories(),
        procmap_query=_procmap_query(process),
        cachestat=_cachestat(),
        pfn=_pfn(),
        map_files=_map_files(process, current),
        userfaultfd_wp_async=bool(uffd.features() & uffd.WP_ASYNC),
    )


def _procmap_query(process: Process) -> bool:
    try:
        procmaps.query(process.maps, process.path, 0, 1, False, Mapping, os.fsdecode)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return False
    return True


@functools.cache
def _cachestat() -> bool:
    """Return whether cachestat works, probed on a page of a memfd."""
    file = open_memory("fastpagemap")
    page = np.ones(1, np.uint8)
    try:
        pagecache.by_cachestat(file.fd, "memfd", 0, page, page.copy())
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: forbidden, as by seccomp
            raise
        return False
    return True


def _pfn() -> bool:
    """Return whether frame numbers are visible, probed on a present page of this process."""
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        held = Process()
        found = np.zeros(1, np.uint64)
        reading.read(held.pagemap, held.path, span(page)[0], found)
    return bool(entry.decode(found)["pfn"][0])


def _map_files(process: Process, current: Iterable[Mapping]) -> bool | None:
    for mapping in current:
        if mapping.inode:
            name = f"map_files/{mapping.start:x}-{mapping.end:x}"
            try:
                process.open(name, os.O_PATH)
            except PermissionError:
                return False
            except OSError as error:  # unmapped meanwhile
                if not tells_of_file(error):
                    raise
                continue
            return True
    return None


@functools.cache
def soft_dirty() -> bool:
    """Return whether this kernel keeps soft-dirty bits.

    Probed, not read from a configuration: a page that was just written, in a new mapping, has the
    bit where it exists. Nothing is cleared, so no one's tracking is disturbed.
    """
    return reading.soft_dirty()


def need_soft_dirty() -> None:
    """Raise UnsupportedError where soft-dirty bits always read 0."""
    if not soft_dirty():
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "this kernel keeps no soft-dirty bits (every page reads clean): "
            "it needs CONFIG_MEM_SOFT_DIRTY, which not every architecture has",
        )


@functools.cache
def categories() -> Category:
    """Return the categories that PAGEMAP_SCAN accepts; none if the kernel has no such call.

    Each is probed, because newer kernels know more. SOFT_DIRTY is left out if the kernel keeps no
    soft-dirty bits, although it accepts the category even then.
    """
    accepted = Category(0)
    with mmap.mmap(-1, entry.PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        starts, ends = np.array(span(page), np.uint64).reshape(2, 1)
        pagemap = open_file("/proc/self/pagemap", os.O_RDONLY)
        for category in Category:
            try:
                scan.regions(pagemap.fd, "pagemap", starts, ends, category, 0, 0, category)
            except OSError as error:
                # EINVAL: not this category; ENOTTY: no such call before Linux 6.7
                if error.errno not in (errno.EINVAL, errno.ENOTTY):
                    raise
            else:
                accepted |= category
    return accepted if soft_dirty() else accepted & ~Category.SOFT_DIRTY


@functools.cache
def one_entry_tells() -> bool:
    """Return whether the first entry of a huge page tells ``exclusive`` for all of it.

    Since Linux 6.15 all its entries have the flags of the page where the read begins
    (fs/proc/task_mmu.c, pagemap_pmd_range). Before, each page had its own flags.
    """
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (6, 15)
