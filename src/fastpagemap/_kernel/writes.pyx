"""PAGEMAP_SCAN of this process's memory under userfaultfd: report and protect pages in one step.

A write whose page was protected again, but not reported, would be lost. So when a signal or memory
that is not tracked any more comes in between, the protection of those pages is lifted: they count
as written.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINVAL, EIO, ENOMEM
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.procmaps cimport is_mapped, query_mapping
from fastpagemap._kernel.scan cimport REGIONS, TIME_SLICE_NS, now, scan_once
from fastpagemap._kernel.sinks cimport append, found_t, reserve
from fastpagemap._kernel.uffd cimport Userfaultfd

from .failures import failure

cdef enum:
    # Ranges begin and end at multiples of so many pages, so that they cut no huge page.
    ALIGNMENT_PAGES = 1 << 14
    # Pages a call looks at, at most: about 1 ms, if they turn out to be small pages.
    MAX_STEP_PAGES = 1 << 17
    # A call that took less may look at more pages next time.
    QUICK_TIME_NS = 100_000

ctypedef struct sweep_t:
    int fd
    uint64_t at
    uint64_t end
    uint64_t alignment      # of the ranges, in bytes
    uint64_t step           # bytes that the next call looks at
    abi.scan_arg asked
    uint8_t *mask           # from the page at `at` on; NULL if not wanted
    bint zeroed             # whether the mask is all 0 already
    found_t *found          # regions; NULL if not wanted


cdef void begin(sweep_t *sweep, int fd, uint64_t start, uint64_t end, bint protect) noexcept nogil:
    memset(sweep, 0, sizeof(sweep[0]))
    sweep.fd = fd
    sweep.at = start
    sweep.end = end
    sweep.alignment = sweep.step = <uint64_t> ALIGNMENT_PAGES << PAGE_SHIFT
    sweep.asked.flags = abi.PM_SCAN_CHECK_WPASYNC
    if protect:
        sweep.asked.flags |= abi.PM_SCAN_WP_MATCHING
    sweep.asked.category_mask = sweep.asked.return_mask = abi.PAGE_IS_WRITTEN


cdef void put(sweep_t *sweep, uint64_t reached, const abi.page_region *regions,
              int count) noexcept nogil:
    """Put the regions found into the mask or the list, and move on to `reached`."""
    cdef size_t page
    cdef int i, shift = PAGE_SHIFT
    if sweep.found is not NULL:
        append(sweep.found, regions, count, 0)
    elif sweep.mask is not NULL:
        if not sweep.zeroed:
            memset(sweep.mask, 0, (reached - sweep.at) >> shift)
        for i in range(count):
            page = (regions[i].start - sweep.at) >> shift
            if regions[i].end - regions[i].start == <uint64_t> 1 << shift:  # by far the most are
                sweep.mask[page] = 1
            else:
                memset(sweep.mask + page, 1, (regions[i].end - regions[i].start) >> shift)
        sweep.mask += (reached - sweep.at) >> shift
    sweep.at = reached


cdef int count_filled(const abi.page_region *regions) noexcept nogil:
    """Return how many regions a call has found before it failed: the kernel does not say."""
    cdef int i = 0
    while i < REGIONS and regions[i].end:
        i += 1
    return i


cdef ssize_t advance(sweep_t *sweep) noexcept nogil:
    """Sweep on, for TIME_SLICE_NS or to the end.

    On an error, the pages protected before it are reported all the same.
    """
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t began = now(), last = began, took
    cdef bint wanted = sweep.mask is not NULL or sweep.found is not NULL
    cdef ssize_t count
    cdef int i
    memset(regions, 0, sizeof(regions))
    while sweep.at < sweep.end and last - began < TIME_SLICE_NS:
        # Before the call: pages that it protects again must not be lost.
        if sweep.found is not NULL and reserve(sweep.found, REGIONS) < 0:
            return -ENOMEM
        arg = sweep.asked
        arg.start = sweep.at
        arg.end = min(sweep.end, (sweep.at + sweep.step) // sweep.alignment * sweep.alignment)
        count = scan_once(sweep.fd, &arg, regions if wanted else NULL, REGIONS if wanted else 0)
        if count == -EIO:
            # A huge page that is larger than the range is passed over.
            if arg.end >= sweep.end:
                return -EINVAL
            sweep.alignment *= 8
            sweep.step = max(sweep.step, sweep.alignment)
            continue
        if count < 0:
            put(sweep, arg.end, regions, count_filled(regions))
            return count
        put(sweep, arg.start, regions, count)
        if wanted:
            for i in range(count):
                regions[i].end = 0
        took = now() - last
        last += took
        if took < QUICK_TIME_NS:
            sweep.step = max(sweep.step,
                             min(4 * sweep.step, <uint64_t> MAX_STEP_PAGES << PAGE_SHIFT))
        elif sweep.step > sweep.alignment:
            sweep.step = sweep.alignment
    return 0


cdef void lift_marked(Userfaultfd watch, uint64_t start, const uint8_t *mask,
                      uint64_t pages) noexcept nogil:
    """Make the pages of a mask count as written again."""
    cdef uint64_t first = 0, last
    while first < pages:
        if not mask[first]:
            first += 1
            continue
        last = first + 1
        while last < pages and mask[last]:
            last += 1
        watch.lift(start + (first << PAGE_SHIFT), start + (last << PAGE_SHIFT))
        first = last


cdef void lift_found(Userfaultfd watch, const found_t *found) noexcept nogil:
    """Make the pages of regions count as written again."""
    cdef size_t i
    for i in range(found.count):
        watch.lift(found.regions[i].start, found.regions[i].end)


cdef int run(sweep_t *sweep, object path) except -1:
    """Sweep to the end; signal handlers run in between."""
    cdef ssize_t got
    while sweep.at < sweep.end:
        with nogil:
            got = advance(sweep)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    return 0


def is_all_mapped(int maps, uint64_t start, uint64_t end):
    """Return whether a span is known to be mapped without gaps; never before Linux 6.11."""
    cdef bint answer
    with nogil:
        answer = is_mapped(maps, start, end, False)
    return answer


cdef bint each_anonymous_writable(int maps, uint64_t start, uint64_t end) noexcept nogil:
    cdef abi.procmap_query query
    while start < end:
        memset(&query, 0, sizeof(query))
        query.query_addr = start
        if query_mapping(maps, &query) < 0:
            return False
        if query.inode or query.dev_major or query.dev_minor:
            return False
        if not query.vma_flags & abi.PROCMAP_WRITABLE:
            return False
        start = query.vma_end
    return True


def is_anonymous_writable(int maps, uint64_t start, uint64_t end):
    """Return whether a span is known to be all writable anonymous memory; never before 6.11."""
    cdef bint answer
    with nogil:
        answer = each_anonymous_writable(maps, start, end)
    return answer


def protect(int fd, object path, uint64_t start, uint64_t end):
    """Protect the pages of a span that is registered with userfaultfd."""
    cdef sweep_t sweep
    begin(&sweep, fd, start, end, True)
    sweep.step = <uint64_t> MAX_STEP_PAGES << PAGE_SHIFT
    run(&sweep, path)


def written(int fd, Userfaultfd watch, object path, uint64_t start, uint8_t[::1] mask,
            bint reset, bint zeroed):
    """Fill the mask of pages from `start` on: 1 if written since they were protected.

    `zeroed`: the mask is all 0 already. EPERM: part of the pages is not registered (any more).
    """
    cdef sweep_t sweep
    cdef uint8_t *first = &mask[0] if mask.shape[0] else NULL
    begin(&sweep, fd, start, start + (<uint64_t> mask.shape[0] << PAGE_SHIFT), reset)
    sweep.mask = first
    sweep.zeroed = zeroed
    try:
        run(&sweep, path)
    except BaseException:
        if reset:
            with nogil:
                lift_marked(watch, start, first, (sweep.at - start) >> PAGE_SHIFT)
        raise


def regions(int fd, Userfaultfd watch, object path, uint64_t start, uint64_t end, tuple asked,
            bint reset):
    """Return the regions of a span as bytes of `struct page_region`, sorted and merged.

    `asked`: mask, anyof, inverted, returns. `reset` protects the pages of these regions again.
    """
    cdef sweep_t sweep
    cdef found_t found
    memset(&found, 0, sizeof(found))
    begin(&sweep, fd, start, end, reset)
    sweep.asked.category_mask, sweep.asked.category_anyof_mask = asked[0], asked[1]
    sweep.asked.category_inverted, sweep.asked.return_mask = asked[2], asked[3]
    sweep.found = &found
    try:
        run(&sweep, path)
        return PyBytes_FromStringAndSize(<char *> found.regions,
                                         found.count * sizeof(abi.page_region))
    except BaseException:
        if reset:
            with nogil:
                lift_found(watch, &found)
        raise
    finally:
        free(found.regions)
