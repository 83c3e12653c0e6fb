"""Which pages of a file are in the page cache: cachestat bisected, and mincore.

`page` is the number of the first page in the file. Nothing is faulted in, and no content is read.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.pagecache cimport (MAX_SINGLE_PAGES, MINCORE_PAGES, PARTS_PER_RANGE,
                                            check_mincore, count_evicted, pages_in_core)
from fastpagemap._kernel.reading cimport PAGE_SHIFT

from .failures import failure


cdef int mark_range(int fd, uint64_t page, uint8_t *cached, size_t count) noexcept nogil:
    """Mark the pages of a range that are in the page cache.

    A range is marked only by a call that says the same of all its pages.
    """
    cdef abi.cachestat_t found
    cdef size_t done = 0, part
    cdef int problem = count_evicted(fd, page, count, &found)
    if problem < 0:
        return problem
    if found.nr_cache == 0 or found.nr_cache >= count:
        memset(cached, found.nr_cache != 0, count)
        return 0
    part = 1 if count <= MAX_SINGLE_PAGES else (count + PARTS_PER_RANGE - 1) // PARTS_PER_RANGE
    while done < count:
        part = min(part, count - done)
        problem = mark_range(fd, page + done, cached + done, part)
        if problem < 0:
            return problem
        done += part
    return 0


cdef int mark_in_core(int fd, uint64_t page, uint8_t *cached, size_t count,
                      uint64_t file_pages) noexcept nogil:
    cdef size_t done = 0, part, i
    cdef int problem = check_mincore(fd, file_pages)
    while problem == 0 and done < count:
        part = min(<size_t> MINCORE_PAGES, count - done)
        problem = pages_in_core(fd, page + done, part, cached + done)
        for i in range(done, done + part):
            cached[i] &= 1
        done += part
    return problem


# ---- for Python --------------------------------------------------------------------------------

def by_cachestat(int fd, object path, uint64_t page, uint8_t[::1] cached):
    """Set each byte to whether its page is in the page cache (Linux 6.5)."""
    cdef int problem
    with nogil:
        problem = mark_range(fd, page, &cached[0], cached.shape[0])
    if problem < 0:
        raise failure(-problem, path)


def by_mincore(int fd, object path, uint64_t page, uint8_t[::1] cached, uint64_t file_pages):
    """Do the same through a mapping of the file, which has `file_pages` pages.

    Of a tmpfs, a swapped page with a copy in the swap cache is said to be there, too.
    """
    cdef int problem
    with nogil:
        problem = mark_in_core(fd, page, &cached[0], cached.shape[0], file_pages)
    if problem < 0:
        raise failure(-problem, path)


def own_in_core(uint64_t address, uint8_t[::1] core):
    """Set each byte to what mincore says of a page of this process; False if it is not mapped."""
    cdef size_t count = core.shape[0], i
    cdef int problem = 0
    with nogil:
        if abi.mincore(<void *> address, count << PAGE_SHIFT, &core[0]) < 0:
            problem = errno
        for i in range(count):
            core[i] &= 1
    return problem == 0


def counts(int fd, object path, uint64_t page, uint64_t count):
    """Return how many pages of a range are in the page cache, dirty, and being written back."""
    cdef abi.cachestat_t found
    cdef int problem
    with nogil:
        problem = count_evicted(fd, page, count, &found)
    if problem < 0:
        raise failure(-problem, path)
    return found.nr_cache, found.nr_dirty, found.nr_writeback
