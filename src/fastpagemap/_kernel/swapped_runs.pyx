"""Find the swapped pages of a shared memory file as runs: holes cost nothing, however large.

`pagecache` answers for pages that are asked about one by one, with a byte for each.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.growing cimport append, found_t
from fastpagemap._kernel.pagecache cimport (MAX_SINGLE_PAGES, MINCORE_PAGES, PARTS_PER_RANGE,
                                            check_mincore, count_evicted, next_data,
                                            pages_in_core)
from fastpagemap._kernel.scan cimport TIME_SLICE_NS, now

import os

from .failures import walk_failure

cdef enum:
    # Pages asked about at once, at most: a call takes time for each page in the page cache.
    MAX_PAGES = 1 << 18

cdef uint64_t PAGE_SIZE = abi.sysconf(abi._SC_PAGESIZE)


cdef int add(found_t *found, uint64_t first, uint64_t end) noexcept nogil:
    cdef abi.page_region run
    run.start, run.end, run.categories = first, end, 0
    return append(found, &run, 1, 0)


cdef int search_range(int fd, uint64_t page, uint64_t end, found_t *found) noexcept nogil:
    """Add the swapped pages of a range by cachestat, which counts: in ever smaller parts."""
    cdef abi.cachestat_t counted
    cdef uint64_t part
    cdef int problem = count_evicted(fd, page, end - page, &counted)
    if problem < 0 or counted.nr_evicted == 0:
        return problem
    if counted.nr_evicted >= end - page:
        return add(found, page, end)
    part = (end - page + PARTS_PER_RANGE - 1) // PARTS_PER_RANGE
    if end - page <= MAX_SINGLE_PAGES:
        part = 1
    while page < end and problem >= 0:
        problem = search_range(fd, page, min(end, page + part), found)
        page += part
    return problem


cdef int search_core(int fd, uint64_t page, uint64_t end, found_t *found) noexcept nogil:
    """Add the pages of a range with data that are not in core."""
    cdef uint8_t[MINCORE_PAGES] core
    cdef size_t part, i
    cdef int problem
    while page < end:
        part = min(<uint64_t> MINCORE_PAGES, end - page)
        problem = pages_in_core(fd, page, part, core)
        if problem < 0:
            return problem
        for i in range(part):
            if not core[i] & 1 and add(found, page + i, page + i + 1) < 0:
                return -ENOMEM
        page += part
    return 0


cdef int search_some(int fd, uint64_t *page, uint64_t end, bint exact,
                     found_t *found) noexcept nogil:
    """Search for TIME_SLICE_NS or to the end, and move `page`."""
    cdef uint64_t began = now(), data, hole
    cdef int problem = 0
    while page[0] < end and problem >= 0 and now() - began < TIME_SLICE_NS:
        problem = next_data(fd, page[0], end, &data, &hole)
        if problem < 0:
            break
        if data == end:
            # Beyond the end of the file there may be pages, too, which are no data.
            if exact:
                problem = search_range(fd, page[0], end, found)
            page[0] = end
            break
        page[0] = max(data, min(hole, data + MAX_PAGES))
        if exact:
            problem = search_range(fd, data, page[0], found)
        else:
            problem = search_core(fd, data, page[0], found)
    return problem


# ---- for Python --------------------------------------------------------------------------------

def search(int fd, object path, uint64_t page, uint64_t end, bint exact):
    """Return the swapped pages from `page` to `end` of a file: first and end, and a 0, as bytes.

    By cachestat (`exact`, Linux 6.5), or by mincore, which takes a swapped page with a copy in the
    swap cache for not swapped.
    """
    cdef found_t found
    cdef int problem = 0
    cdef uint64_t file_pages = (os.fstat(fd).st_size + PAGE_SIZE - 1) // PAGE_SIZE
    memset(&found, 0, sizeof(found))
    try:
        if not exact:
            problem = check_mincore(fd, file_pages)
        while page < end and problem >= 0:
            with nogil:
                problem = search_some(fd, &page, end, exact, &found)
            PyErr_CheckSignals()
        if problem < 0:
            raise walk_failure(-problem, path)
        return PyBytes_FromStringAndSize(<char *> found.regions,
                                         found.count * sizeof(abi.page_region))
    finally:
        free(found.regions)
