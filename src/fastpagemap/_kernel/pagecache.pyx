"""Which pages of a shared memory file are swapped out: cachestat, SEEK_DATA, mincore.

`fd` is the file, opened for this alone, because its position is moved. `unresolved` holds a byte
for each page, 1 where it is asked about; `page` is the first page's number in the file. A resolved
page becomes 0 in `unresolved`, and 1 in `swapped` if it is swapped out. Nothing is mapped readable,
so nothing can fault.
"""

from libc.errno cimport EACCES, EBADF, EINTR, ENOSYS, ENXIO, EPERM, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memset
from posix.types cimport off_t

from fastpagemap._kernel cimport abi

import os

from .decoding import set_reserved_types
from .failures import failure, is_refusal
from .swap_types import reserved_types

TMPFS_MAGIC = abi.TMPFS_MAGIC
# Flags of mmap for a file of huge pages, of which none is reserved.
HUGETLB_FLAGS = abi.MAP_SHARED | abi.MAP_ANONYMOUS | abi.MAP_NORESERVE | abi.MAP_HUGETLB

cdef uint64_t PAGE_SIZE = abi.sysconf(abi._SC_PAGESIZE)


cdef int count_evicted(int fd, uint64_t page, size_t count,
                       abi.cachestat_t *found) noexcept nogil:
    cdef abi.cachestat_range range
    range.off = page * PAGE_SIZE
    range.len = count * PAGE_SIZE
    while abi.syscall(abi.SYS_cachestat, fd, &range, found, 0) < 0:
        if errno != EINTR:
            return -errno
    return 0


cdef ssize_t resolve_range(int fd, uint64_t page, uint8_t *unresolved, uint8_t *swapped,
                           size_t count) noexcept nogil:
    """Resolve a range in which all pages are unresolved; return how many are swapped.

    The range is resolved only by a call that says the same of all its pages. So the answer was true
    of each page when the kernel looked at it, whatever others do to the file meanwhile.
    """
    cdef abi.cachestat_t found
    cdef ssize_t got
    cdef int problem = count_evicted(fd, page, count, &found)
    if problem < 0:
        return problem
    if found.nr_evicted == 0 or found.nr_evicted == count:
        memset(unresolved, 0, count)
        if found.nr_evicted:
            memset(swapped, 1, count)
        return found.nr_evicted
    if found.nr_cache == 0:
        got = resolve_by_data(fd, page, unresolved, swapped, count)
        # Where lseek is forbidden, smaller ranges tell as well.
        if got != -EPERM and got != -EACCES and got != -ENOSYS:
            return got
    return resolve_parts(fd, page, unresolved, swapped, count)


cdef ssize_t resolve_parts(int fd, uint64_t page, uint8_t *unresolved, uint8_t *swapped,
                           size_t count) noexcept nogil:
    """Resolve a range with swapped and other pages, part by part."""
    cdef size_t part = (count + PARTS_PER_RANGE - 1) // PARTS_PER_RANGE, done = 0
    cdef ssize_t got, total = 0
    if count <= MAX_SINGLE_PAGES:
        part = 1
    while done < count:
        part = min(part, count - done)
        got = resolve_range(fd, page + done, unresolved + done, swapped + done, part)
        if got < 0:
            return got
        total += got
        done += part
    return total


cdef ssize_t resolve_by_data(int fd, uint64_t page, uint8_t *unresolved, uint8_t *swapped,
                             size_t count) noexcept nogil:
    """Resolve a range where none is in the page cache: others than the swapped are holes."""
    cdef uint64_t at = page, end = page + count, data, hole
    cdef abi.cachestat_t found
    cdef ssize_t got, total = 0
    while at < end:
        got = next_data(fd, at, end, &data, &hole)
        if got < 0:
            return got
        memset(unresolved + (at - page), 0, data - at)
        if data < hole:
            # Most likely all are swapped, unless others changed the file meanwhile.
            got = count_evicted(fd, data, hole - data, &found)
            if got < 0:
                return got
            if found.nr_evicted == hole - data:
                memset(unresolved + (data - page), 0, hole - data)
                memset(swapped + (data - page), 1, hole - data)
                got = hole - data
            else:
                got = resolve_parts(fd, data, unresolved + (data - page), swapped + (data - page),
                                    hole - data)
                if got < 0:
                    return got
            total += got
        at = hole
    return total


cdef int next_data(int fd, uint64_t page, uint64_t end,
                   uint64_t *data, uint64_t *hole) noexcept nogil:
    """Find the next run of pages with data before `end`: `data` to `hole`, or both `end`."""
    cdef off_t at = abi.lseek(fd, page * PAGE_SIZE, abi.SEEK_DATA)
    data[0] = hole[0] = end
    if at < 0:
        # ENXIO: no data up to the end of the file
        return 0 if errno == ENXIO else -errno
    if <uint64_t> at >= end * PAGE_SIZE:
        return 0
    data[0] = at // PAGE_SIZE
    at = abi.lseek(fd, at, abi.SEEK_HOLE)
    if at < 0:
        # the file was truncated in between
        if errno != ENXIO:
            return -errno
        data[0] = end
        return 0
    # The file may end within its last page.
    hole[0] = min(end, (<uint64_t> at + PAGE_SIZE - 1) // PAGE_SIZE)
    return 0


cdef ssize_t resolve_runs(int fd, uint64_t page, uint8_t *unresolved, uint8_t *swapped,
                          size_t count) noexcept nogil:
    """Resolve each run of unresolved pages on its own."""
    cdef size_t at = 0, stop
    cdef uint8_t *found
    cdef ssize_t got, total = 0
    while at < count:
        found = <uint8_t *> memchr(unresolved + at, 1, count - at)
        if found is NULL:
            break
        at = found - unresolved
        found = <uint8_t *> memchr(unresolved + at, 0, count - at)
        stop = count if found is NULL else found - unresolved
        got = resolve_range(fd, page + at, unresolved + at, swapped + at, stop - at)
        if got < 0:
            return got
        total += got
        at = stop
    return total


# ---- before cachestat --------------------------------------------------------------------------

cdef int pages_in_core(int fd, uint64_t page, size_t count, uint8_t *vector) noexcept nogil:
    """Ask mincore about at most MINCORE_PAGES of the file, mapped without access."""
    cdef void *area = abi.mmap(NULL, count * PAGE_SIZE, abi.PROT_NONE, abi.MAP_SHARED, fd,
                               page * PAGE_SIZE)
    cdef int problem = 0
    if area == abi.MAP_FAILED:
        return -errno
    if abi.mincore(area, count * PAGE_SIZE, vector) < 0:
        problem = -errno
    abi.munmap(area, count * PAGE_SIZE)
    return problem


cdef int check_mincore(int fd, uint64_t file_pages) noexcept nogil:
    cdef uint8_t core
    # To those without permission mincore calls everything in core, even a page beyond the file.
    cdef int problem = pages_in_core(fd, file_pages, 1, &core)
    if problem == 0 and core & 1:
        return -EPERM
    return problem


cdef ssize_t resolve_by_core(int fd, uint64_t page, uint8_t *unresolved, uint8_t *swapped,
                             size_t count, uint64_t file_pages) noexcept nogil:
    """Resolve pages by the recipe of pagemap.rst: data that is not in core is swapped."""
    cdef uint8_t[MINCORE_PAGES] core
    cdef uint64_t at = page, end = page + count, data = page, hole = page, i
    cdef size_t part
    cdef ssize_t total = 0
    cdef int problem = check_mincore(fd, file_pages)
    if problem < 0:
        return problem
    while at < end:
        part = min(<size_t> MINCORE_PAGES, end - at)
        problem = pages_in_core(fd, at, part, core)
        if problem < 0:
            return problem
        for i in range(at, at + part):
            if not unresolved[i - page]:
                continue
            if i >= hole:
                problem = next_data(fd, i, end, &data, &hole)
                if problem < 0:
                    return problem
            unresolved[i - page] = 0
            if i >= data and not core[i - at] & 1:
                swapped[i - page] = 1
                total += 1
        at += part
    return total


# ---- for Python --------------------------------------------------------------------------------

def by_cachestat(int fd, object path, uint64_t page, uint8_t[::1] unresolved, uint8_t[::1] swapped):
    """Resolve pages exactly (Linux 6.5); return how many were found swapped."""
    cdef ssize_t got
    with nogil:
        got = resolve_runs(fd, page, &unresolved[0], &swapped[0], unresolved.shape[0])
    if got < 0:
        raise failure(-got, path)
    return got


def by_mincore(int fd, object path, uint64_t page, uint8_t[::1] unresolved, uint8_t[::1] swapped):
    """Resolve pages, but take a swapped page with a copy in the swap cache for not swapped."""
    cdef ssize_t got
    cdef uint64_t file_pages = (os.fstat(fd).st_size + PAGE_SIZE - 1) // PAGE_SIZE
    with nogil:
        got = resolve_by_core(fd, page, &unresolved[0], &swapped[0], unresolved.shape[0],
                              file_pages)
    if got < 0:
        raise failure(-got, path)
    return got


def evicted(int fd, object path, uint64_t page, size_t count):
    """Return how many of some pages of a file of shared memory are swapped out (Linux 6.5)."""
    cdef abi.cachestat_t found
    cdef int problem
    with nogil:
        problem = count_evicted(fd, page, count, &found)
    if problem < 0:
        raise failure(-problem, path)
    return found.nr_evicted


def has_cachestat():
    """Return whether there is cachestat, and this process may call it."""
    cdef abi.cachestat_t found
    cdef int problem = count_evicted(-1, 0, 1, &found)
    # No descriptor is needed to find out: a call that is there says that -1 is none.
    if problem == -EBADF:
        return True
    error = failure(-problem, "cachestat")
    if not is_refusal(error):
        raise error
    return False


def file_system(int fd):
    """Return the magic number of a file's file system, however that is mounted."""
    cdef abi.statfs_t found
    if abi.fstatfs(fd, &found) < 0:
        raise failure(errno, "fstatfs")
    return found.f_type


# How much swap there was when the reserved types were last found out: areas may be added.
cdef unsigned long KNOWN_SWAP = 0


def swap_in_use():
    """Return whether anything is swapped out on this machine; True if that cannot be found out."""
    cdef abi.sysinfo_t found
    global KNOWN_SWAP
    if abi.sysinfo(&found) < 0:
        error = failure(errno, "sysinfo")
        if not is_refusal(error):
            raise error
        return swap_in_meminfo()
    if found.totalswap != KNOWN_SWAP:
        set_reserved_types(reserved_types())
        KNOWN_SWAP = found.totalswap
    return found.freeswap != found.totalswap


def swap_in_meminfo():
    """Return the same from /proc/meminfo, which not every /proc has."""
    try:
        with open("/proc/meminfo", "rb") as file:
            sizes = dict(line.split(b":", 1) for line in file if line.startswith(b"Swap"))
        return sizes[b"SwapTotal"].split() != sizes[b"SwapFree"].split()
    except (FileNotFoundError, PermissionError, KeyError):
        return True
