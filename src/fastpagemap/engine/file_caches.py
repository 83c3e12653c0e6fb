"""What of a file that a user names is in the page cache, and what of it a process maps."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from .._kernel import cached as kernel
from .._kernel import pagecache
from .._kernel.failures import IgnoringFileErrors
from ..model.entry import PAGE_SIZE, page_count
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..process.files import Files
from ..process.given_files import open_given
from ..process.leases import Leases
from ..process.local_files import STACKED, Opened
from ..process.mappings import mappings, within
from ..process.opening import pass_over
from ..process.process import Process
from .cached import WINDOW_PAGES
from .usage import usage

__all__ = ["File", "FileCache", "cache_of", "mapped_by"]


class File(NamedTuple):
    """A file: its device and inode as maps shows them, and its device as stat shows it.

    On btrfs, files of several subvolumes may differ in the last one alone.
    """

    device: int
    inode: int
    shown: int


_HUGETLBFS_MAGIC = 0x958458F6
# mincore looks at each page: of a larger file, only at those with data.
_MAX_WHOLE_PAGES = 1 << 24


class FileCache(NamedTuple):
    """A file, and what of it is in the page cache, in bytes; None where it cannot be known."""

    file: File
    size: int
    # What it takes on its file system: less than the size, if it has holes.
    allocated: int
    cached: int
    dirty: int | None
    writeback: int | None
    # Of a tmpfs alone.
    swapped: int | None


def cache_of(path: str, leases: Leases | None = None) -> FileCache:
    """Return what of a file is in the page cache. This may wait for the server of its file system.

    The cost grows with what is cached, not with the size (cachestat, Linux 6.5). Before, and on
    overlayfs, mincore tells of each page; of a file of more than 16,777,216 pages (64 GiB if they
    have 4 KiB), of those with data. `leases` are those of the machine, if they were read before.

    Raises
    ------
    UnsupportedError
        The kernel does not tell, or not this user.
    OSError
        The file cannot be opened.
    """
    opened = open_given(path, leases or Leases())
    about = os.fstat(opened.file.fd)
    magic = _file_system(opened, path)
    # A sandbox may have kept it from being seen before.
    opened = opened._replace(tmpfs=magic == pagecache.TMPFS_MAGIC)
    if magic == _HUGETLBFS_MAGIC:
        raise UnsupportedError(errno.EOPNOTSUPP, "the kernel does not say it of hugetlbfs", path)
    pages: tuple[int, int | None, int | None] | None = _by_cachestat(opened, path, magic)
    swapped = None
    if pages is None:
        pages = _by_mincore(opened, path), None, None
    elif opened.tmpfs:
        swapped = pagecache.evicted(opened.file.fd, path, 0, opened.pages)
    file = File(*(_as_in_maps(opened) or (about.st_dev, about.st_ino)), about.st_dev)
    cached, dirty, writeback, in_swap = map(_bytes, (*pages, swapped))
    size, allocated = about.st_size, about.st_blocks * 512
    return FileCache(file, size, allocated, cached or 0, dirty, writeback, in_swap)


def _bytes(pages: int | None) -> int | None:
    return None if pages is None else pages * PAGE_SIZE


def _file_system(opened: Opened, path: str) -> int:
    """Return the magic number of the file system that a file is on."""
    try:
        return pagecache.file_system(opened.file.fd)
    except OSError as error:
        pass_over(error)
        raise _hidden(path) from None


def _by_cachestat(opened: Opened, path: str, magic: int) -> tuple[int, int, int] | None:
    """Return the pages cached, dirty and under writeback; None if cachestat does not tell."""
    if magic in STACKED:  # it would tell of pages that the file systems below have
        return None
    try:
        return kernel.counts(opened.file.fd, path, 0, opened.pages)
    except OSError as error:
        pass_over(error)
        return None


def _by_mincore(opened: Opened, path: str) -> int:
    if not opened.pages:
        return 0
    if not opened.mincore_tells():
        raise _hidden(path)
    total = 0
    mask = np.empty(min(opened.pages, WINDOW_PAGES), np.uint8)
    try:
        for start, end in _parts(opened):
            for page in range(start, end, WINDOW_PAGES):
                part = mask[: min(WINDOW_PAGES, end - page)]
                kernel.by_mincore(opened.file.fd, path, page, part, opened.pages)
                total += int(np.count_nonzero(part))
    except OSError as error:
        pass_over(error)
        raise _hidden(path) from None
    return total


def _hidden(path: str) -> UnsupportedError:
    return UnsupportedError(
        errno.EOPNOTSUPP,
        "only the owner of the file, or a user who may write it, can learn what of it is cached; "
        "or a sandbox forbids fstatfs, or both cachestat (Linux 6.5) and mincore",
        path,
    )


def _parts(opened: Opened) -> Iterator[tuple[int, int]]:
    """Yield the first and the end page of each part of a file that mincore is to look at."""
    if opened.pages <= _MAX_WHOLE_PAGES:
        yield 0, opened.pages
        return
    at = 0
    while at < opened.pages:
        try:
            data = os.lseek(opened.file.fd, at * PAGE_SIZE, os.SEEK_DATA) // PAGE_SIZE
            hole = os.lseek(opened.file.fd, data * PAGE_SIZE, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the end
                return
            raise
        at = min(page_count(hole), opened.pages)
        yield max(data, 0), at


def _as_in_maps(opened: Opened) -> tuple[int, int] | None:
    """Return device and inode of a file as maps shows them: on overlayfs and btrfs, stat differs.

    This process maps its first byte to see it. No access is allowed there, and nothing is read.
    """
    if not opened.pages or not opened.quiet:
        return None
    with IgnoringFileErrors(), mmap.mmap(opened.file.fd, 1, mmap.MAP_SHARED, 0) as memory:
        address = np.frombuffer(memory, np.uint8).ctypes.data
        for mapping in within(Process(), address, address + PAGE_SIZE):
            return mapping.device, mapping.inode
    return None


def mapped_by(process: Process, files: Collection[File]) -> dict[File, tuple[int, int]]:
    """Return how much of each file a process maps, and how much of that is present there.

    In bytes, and only of those that it maps. What a private mapping has copied is not the file's.

    Raises
    ------
    UnsupportedError
        A mapping may be of one of them, or of a file that maps shows alike.
    """
    rows, of = [], []
    wanted: dict[tuple[int, int], list[File]] = {}
    for file in files:
        wanted.setdefault((file.device, file.inode), []).append(file)
    look = Files(process)
    for mapping in mappings(process):
        for file in wanted.get((mapping.device, mapping.inode), ()):
            if _shows(look, mapping, file):
                rows.append(mapping)
                of.append(file)
    found: dict[File, tuple[int, int]] = {}
    if not rows:
        return found
    table = usage(process, rows, ("size", "shared"))
    sizes = zip(of, table["size"].tolist(), table["shared"].tolist(), strict=True)
    for file, size, present in sizes:
        before = found.get(file, (0, 0))
        found[file] = before[0] + size, before[1] + present
    return found


def _shows(files: Files, mapping: Mapping, file: File) -> bool:
    """Return whether a mapping with the device and inode of a file is of that file."""
    if file.shown == file.device:
        return True
    shown = files.shown_devices(mapping)
    if not shown:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "maps may show this file and another one alike (of two subvolumes): to tell which of "
            "them is mapped needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, or a descriptor or a "
            "path of it",
            mapping.path,
        )
    return file.shown in shown
