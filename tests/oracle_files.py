"""The slow, obvious twin for shared memory: what the kernel says of the pages of a file.

A page of shared memory that is in swap leaves nothing in the page table: only its file knows.
Standard library alone, like oracle.py.
"""

import ctypes
import errno
import functools
import mmap
import os
import stat
from typing import NamedTuple

import linux
import oracle
from linux import PAGE
from needs import Absent

#: What is said of a page to those who may not ask, or see.
UNTOLD = "untold"


def open_mapping(start, end, pid="self"):
    """A descriptor of the very file behind one mapping (root); the caller closes it."""
    return os.open(f"/proc/{pid}/map_files/{start:x}-{end:x}", os.O_RDONLY)


class FilePage(NamedTuple):
    """What the kernel says of one page of a file: the columns of shared memory's truth table."""

    cached: bool
    evicted: bool
    data: bool
    incore: bool


def file_page(fd, page):
    """Ask all three ways about one page of an open file."""
    cached, evicted = _cachestat(fd, page)
    return FilePage(cached, evicted, _is_data(fd, page), is_incore(fd, page))


def swapped_in_file(fd, page):
    """Whether this page of a shared-memory file is in swap: in no page cache, and evicted."""
    return _cachestat(fd, page) == (False, True)


def _cachestat(fd, page):
    """(in the page cache, evicted from it: of shared memory, that is swapped out)."""
    span = (ctypes.c_uint64 * 2)(page * PAGE, PAGE)
    answer = (ctypes.c_uint64 * 5)()  # cache, dirty, writeback, evicted, recently evicted
    try:
        linux.syscall(linux.CACHESTAT, fd, span, answer, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise Absent("cachestat (Linux 6.5)") from error
        raise
    return bool(answer[0]), bool(answer[3])


def _is_data(fd, page):
    try:
        return os.lseek(fd, page * PAGE, os.SEEK_DATA) == page * PAGE
    except OSError:  # ENXIO: no data from here on
        return False


def is_incore(fd, page):
    window = linux.call("mmap", 0, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, page * PAGE)
    try:
        answer = ctypes.c_ubyte()
        linux.call("mincore", window, PAGE, ctypes.byref(answer))
        return bool(answer.value & 1)
    finally:
        linux.call("munmap", window, PAGE)


def in_swap(start, end, pid="self"):
    """Of each page, whether shared memory is behind it (else None) that has it in swap."""
    answers = [None] * ((end - start) // PAGE)
    for line in oracle.maps(pid):
        if line.start < end and line.end > start and is_shared_memory(line, pid):
            inside = range(max(start, line.start), min(end, line.end), PAGE)
            words = oracle.words(inside.start, inside.stop, pid)
            for address, word, answer in zip(
                inside, words, _file_says(line, inside, pid), strict=True
            ):
                # a private mapping's own pages, and markers, hide what the file has there
                if "s" in line.permissions or not word >> 62:
                    answers[(address - start) // PAGE] = answer
    return answers


def is_shared_memory(line, pid="self"):
    """Whether a tmpfs is, or below an overlay may be, behind a mapping."""
    if line.device == "00:00":  # a SysV segment's inode may be 0
        return False
    try:
        fd = open_mapping(line.start, line.end, pid)
    except PermissionError:
        return line.device == _device_of_memfd() or line.path.startswith(b"/dev/shm/")
    except OSError:  # secret memory is not to be had a second time
        return False
    try:  # a device's file on the tmpfs of /dev is no memory of that tmpfs
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        return regular and linux.filesystem(fd) in (linux.TMPFS_MAGIC, linux.OVERLAYFS_MAGIC)
    finally:
        os.close(fd)


@functools.cache
def _device_of_memfd():
    fd = os.memfd_create("fastpagemap")
    device = os.fstat(fd).st_dev
    os.close(fd)
    return f"{os.major(device):02x}:{os.minor(device):02x}"


def _file_says(line, addresses, pid):
    """Of each address in a mapping, whether its page of the file is in swap."""
    try:
        fd = open_mapping(line.start, line.end, pid)
    except PermissionError:
        return _smaps_says(line, addresses, pid)
    try:
        if linux.filesystem(fd) == linux.OVERLAYFS_MAGIC:  # which knows nothing of its layer's swap
            return _smaps_says(line, addresses, pid)
        pages = [(line.offset + address - line.start) // PAGE for address in addresses]
        return [swapped_in_file(fd, page) for page in pages]
    finally:
        os.close(fd)


def _smaps_says(line, addresses, pid):
    """All, or nothing, or untold: a sum tells no more."""
    words = oracle.words(line.start, line.end, pid)
    own = sum(oracle.meaning(word).swapped for word in words)
    empty = sum(not word >> 62 for word in words)
    in_file = oracle.swap_sums(pid)[line.start, line.end] // PAGE - own
    answer = bool(in_file) if in_file in (0, empty) else UNTOLD
    return [answer] * len(addresses)


def swapped(start, end, pid="self"):
    """Of each page whether it is in swap: by its entry, or by its file, page by page (root)."""
    in_files = in_swap(start, end, pid)
    assert UNTOLD not in in_files, "what an overlay's layer has in swap cannot be told by the page"
    words = oracle.words(start, end, pid)
    return [
        oracle.meaning(word).swapped or in_file is True
        for word, in_file in zip(words, in_files, strict=True)
    ]
