"""Makers of memory on hugetlbfs: never swapped, and in no sum of smaps but its own.

The machine's pool grows for them and shrinks again when they are closed (root).
"""

import contextlib
import os

import backed
import linux
from linux import PAGE
from memory import PRIVATE, SHARED, Memory
from needs import Absent, Missing, need, refusal

_POOL = "/proc/sys/vm/nr_hugepages"
_SIZES = "/sys/kernel/mm/hugepages"
_MFD_HUGETLB = 4
_SHM_HUGETLB = 0o4000
_SIZE_SHIFT = 26  # in the flags of mmap: of the size's logarithm


def hugetlb(pages):
    """Private memory, every page written."""
    return _made(pages, PRIVATE | linux.MAP_HUGETLB).write()


def hugetlb_shared(pages):
    """MAP_SHARED memory, its first half written."""
    return _half(_made(pages, SHARED | linux.MAP_HUGETLB, least=2))


def hugetlb_memfd(pages):
    """A memfd, its first half written."""
    return _half(_made(pages, backed.FILE_SHARED, os.memfd_create("huge", _MFD_HUGETLB), 2))


def hugetlb_sysv(pages):
    """A SysV segment, its first half written."""
    return _half(_made(pages, None, least=2))


def small_hugetlb():
    """A mapping of two of the smallest hugetlb pages there are, of few pages each; all written."""
    sizes = [int(name.split("-")[1].removesuffix("kB")) << 10 for name in os.listdir(_SIZES)]
    size = min(sizes, default=0)
    need(0 < 2 * size < 512 * PAGE, "small hugetlb pages", Absent)
    pool = f"{_SIZES}/hugepages-{size >> 10}kB/nr_hugepages"
    with contextlib.ExitStack() as undo:
        before = linux.read_int(pool)
        linux.write_text(pool, before + 2)
        undo.callback(linux.write_text, pool, before)
        need(linux.read_int(pool) == before + 2, "free hugetlb pages")
        flags = PRIVATE | linux.MAP_HUGETLB | (size.bit_length() - 1) << _SIZE_SHIFT
        return Memory(2 * size // PAGE, flags, align=size, undo=undo.pop_all()).write()


def _half(memory):
    return memory.write(0, memory.pages // 2)


def _made(pages, flags, fd=-1, least=1):
    """`least` huge pages or more, mapped with these flags; without any, SysV memory."""
    size = linux.meminfo("Hugepagesize")
    need(size, "hugetlb in the kernel", Absent)
    count = max(-(-pages * PAGE // size), least)
    pages = count * size // PAGE
    with contextlib.ExitStack() as undo:
        undo.enter_context(_grown_pool(count))
        try:
            if flags is None:
                return backed.attached(pages, _SHM_HUGETLB, size, undo.pop_all())
            if fd >= 0:
                os.ftruncate(fd, pages * PAGE)
            return Memory(pages, flags, fd=fd, align=size, undo=undo.pop_all())
        except OSError as error:
            raise Missing("free hugetlb pages") from error


@contextlib.contextmanager
def _grown_pool(count):
    grown = _grow_pool(count)
    try:
        need(grown == count, "free hugetlb pages")
        yield
    finally:
        _grow_pool(-grown)


def _grow_pool(count):
    """Grow or shrink the pool, whatever others do to it; return by how many pages it did."""
    with linux.alone(_SIZES):
        before = linux.read_int(_POOL)
        try:
            linux.write_text(_POOL, max(before + count, 0))
        except OSError as error:
            raise refusal(error, "to reserve hugetlb pages") from error
        return linux.read_int(_POOL) - before
