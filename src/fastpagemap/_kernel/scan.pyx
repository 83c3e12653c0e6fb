"""PAGEMAP_SCAN, in ranges so short that each holds the process's memory lock for a moment only."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.growing cimport append, check_growth, found_t
from fastpagemap._kernel.reading cimport PAGE_SHIFT, check_alive

from .failures import walk_failure

cdef enum:
    # Pages that a call looks at, at most. A touched page that does not match costs 3 ns, so a call
    # takes under 1 ms. Pages that match cost more: MAX_MATCHES limits them.
    MAX_PAGES = 1 << 17
    MIN_PAGES = 512
    MAX_MATCHES = 1 << 11
    # A call over so many pages that takes less than HOLE_TIME_NS found no page table: even huge
    # pages take more.
    HOLE_SEEN_PAGES = 1 << 15
    HOLE_TIME_NS = 2_000
    # Pages that a search for the end of a hole looks at: 10 ns a GiB where no page table is.
    FIRST_HOLE_PAGES = 1 << 18
    MAX_HOLE_PAGES = 1 << 26
    # A call that took less than GOOD_TIME_NS may look at more pages next time; one that took over
    # SLOW_TIME_NS must look at fewer: the process waits no longer for its lock than it does when
    # entries are read.
    GOOD_TIME_NS = 20_000
    SLOW_TIME_NS = 25_000
    # The kernel makes room for the regions asked for, and clears it: for few that costs less.
    FEW_REGIONS = 128
    # What a call over nothing takes on a machine for which these limits are right.
    CALL_TIME_NS = 300


cdef ssize_t scan_once(int fd, abi.scan_arg *arg, abi.page_region *regions,
                       int capacity) noexcept nogil:
    """Scan `arg.start` to `arg.end`, and move `arg.start` to where the scan ended."""
    cdef uint64_t began = arg.start, last
    cdef int got
    arg.size = sizeof(arg[0])
    arg.vec = <uint64_t> regions
    arg.vec_len = capacity
    while True:
        got = abi.ioctl(fd, abi.PAGEMAP_SCAN, arg)
        if got >= 0:
            break
        if errno != EINTR:
            return -errno
    # walk_end can lie before the end of the last region found.
    last = regions[got - 1].end if got else 0
    arg.start = max(arg.walk_end, last)
    if arg.start <= began and arg.end > began:
        return -EIO
    return got


# ---- pace --------------------------------------------------------------------------------------

cdef void start_pace(pace_t *pace) noexcept nogil:
    pace.pages = FIRST_PAGES
    pace.hole_pages = FIRST_HOLE_PAGES
    pace.slowness = 0
    pace.regions = FEW_REGIONS
    pace.likely_hole = False


cdef uint64_t measure_slowness(int fd) noexcept nogil:
    """Return a call's own cost as a multiple of CALL_TIME_NS: many times, if emulated."""
    cdef abi.scan_arg arg
    cdef uint64_t began, least = TIME_SLICE_NS
    for _ in range(4):
        memset(&arg, 0, sizeof(arg))
        began = now()
        scan_once(fd, &arg, NULL, 0)
        least = min(least, now() - began)
    return max(<uint64_t> 1, least // CALL_TIME_NS)


cdef void adapt_pace(pace_t *pace, int fd, uint64_t pages, uint64_t took,
                     ssize_t count) noexcept nogil:
    """Choose how much the next call does, by how long the last one took, and what it found."""
    cdef uint64_t fitting
    if took > SLOW_TIME_NS and not pace.slowness:
        # The machine may be slow rather than this call. Each walk measures that once, at its first
        # slow call, so that one noisy call decides nothing.
        pace.slowness = measure_slowness(fd)
    took //= max(pace.slowness, <uint64_t> 1)
    pace.regions = REGIONS if 2 * count > FEW_REGIONS else FEW_REGIONS
    pace.likely_hole = took < HOLE_TIME_NS and pages >= HOLE_SEEN_PAGES
    if took < GOOD_TIME_NS:
        # As many as would have taken GOOD_TIME_NS, in whole page tables, but not too many at once.
        fitting = pages * GOOD_TIME_NS // max(took, <uint64_t> 1) // MIN_PAGES * MIN_PAGES
        pace.pages = min(<uint64_t> MAX_PAGES, 2 * pace.pages, max(pace.pages, fitting))
    elif took > SLOW_TIME_NS:
        pace.pages = max(<uint64_t> MIN_PAGES, pace.pages // 2)


cdef uint64_t match_limit(const pace_t *pace, bint cheap) noexcept nogil:
    """Return how many pages a call may find; `cheap`: a page that matches costs little."""
    return HOLE_SEEN_PAGES if cheap and pace.pages >= HOLE_SEEN_PAGES else MAX_MATCHES


cdef ssize_t count_unpopulated(int fd, uint64_t start, uint64_t end, pace_t *pace) noexcept nogil:
    """Return how many pages from `start` on are neither present nor swapped, up to a limit.

    The scan stops at the first page that is either: the lock is held for the empty pages alone.
    """
    cdef abi.page_region region
    cdef abi.scan_arg arg
    cdef uint64_t began = now(), took
    cdef ssize_t count
    memset(&arg, 0, sizeof(arg))
    arg.start = start
    arg.end = min(end, start + (pace.hole_pages << PAGE_SHIFT))
    arg.category_anyof_mask = abi.PAGE_IS_PRESENT | abi.PAGE_IS_SWAPPED
    arg.max_pages = 1
    count = scan_once(fd, &arg, &region, 1)
    if count < 0:
        return count
    took = (now() - began) // max(pace.slowness, <uint64_t> 1)
    if took < GOOD_TIME_NS // 2:
        pace.hole_pages = min(<uint64_t> MAX_HOLE_PAGES, 4 * pace.hole_pages)
    elif took > SLOW_TIME_NS:
        pace.hole_pages = max(<uint64_t> FIRST_HOLE_PAGES, pace.hole_pages // 4)
    if count:
        pace.likely_hole = False
        pace.pages = FIRST_PAGES
        return (region.start - start) >> PAGE_SHIFT
    return (arg.start - start) >> PAGE_SHIFT


# ---- regions -----------------------------------------------------------------------------------

cdef ssize_t scan_next(int fd, uint64_t *at, uint64_t end, pace_t *pace, const abi.scan_arg *asked,
                       abi.page_region *regions, int capacity) noexcept nogil:
    """Scan some pages from `at` on, and move it; return how many regions were found."""
    cdef abi.scan_arg arg = asked[0]
    cdef uint64_t pages = min((end - at[0]) >> PAGE_SHIFT, pace.pages), began
    cdef ssize_t count
    arg.max_pages = match_limit(pace, True)
    if pace.likely_hole:
        count = count_unpopulated(fd, at[0], end, pace)
        if count < 0:
            return count
        # Pages without a page table cost nothing, however many match.
        if count > 0:
            pages = count
            arg.max_pages = 0
    arg.start = at[0]
    arg.end = at[0] + (pages << PAGE_SHIFT)
    began = now()
    count = scan_once(fd, &arg, regions, min(capacity, pace.regions))
    if count < 0:
        return count
    adapt_pace(pace, fd, (arg.start - at[0]) >> PAGE_SHIFT, now() - began, count)
    at[0] = arg.start
    return count


cdef ssize_t collect(int fd, uint64_t *at, uint64_t end, pace_t *pace, const abi.scan_arg *asked,
                     found_t *found) noexcept nogil:
    """Collect the regions of a span from `at` on, for TIME_SLICE_NS or to its end."""
    cdef abi.page_region[REGIONS] regions
    cdef uint64_t began = now()
    cdef ssize_t count
    cdef int problem
    while at[0] < end and now() - began < TIME_SLICE_NS:
        count = scan_next(fd, at, end, pace, asked, regions, REGIONS)
        if count < 0:
            return count
        problem = append(found, regions, count, 0)
        if problem < 0:
            return problem
    return 0


cdef ssize_t find_populated(int fd, uint64_t *at, uint64_t end, uint64_t step, pace_t *pace,
                            found_t *found) noexcept nogil:
    """Find blocks with a page present or swapped, for TIME_SLICE_NS or to the span's end."""
    cdef abi.page_region block
    cdef uint64_t began = now()
    cdef ssize_t count
    cdef int problem
    block.categories = 0
    while at[0] < end and now() - began < TIME_SLICE_NS:
        count = count_unpopulated(fd, at[0], end, pace)
        if count < 0:
            return count
        if count > 0:
            at[0] += <uint64_t> count << PAGE_SHIFT
            continue
        block.start = at[0]
        block.end = at[0] = min(end, (at[0] // step + 1) * step)
        problem = append(found, &block, 1, 0)
        if problem < 0:
            return problem
    return 0


cdef bytes search(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
                  const abi.scan_arg *asked, uint64_t step):
    """Return what some spans have, as bytes: the regions asked for, or NULL: populated blocks."""
    cdef found_t found
    cdef pace_t pace
    cdef uint64_t at
    cdef ssize_t got
    cdef size_t i
    memset(&found, 0, sizeof(found))
    try:
        for i in range(<size_t> starts.shape[0]):
            start_pace(&pace)
            at = starts[i]
            while at < ends[i]:
                with nogil:
                    if asked is NULL:
                        got = find_populated(fd, &at, ends[i], step, &pace, &found)
                    else:
                        got = collect(fd, &at, ends[i], &pace, asked, &found)
                if got < 0:
                    raise walk_failure(-got, path)
                PyErr_CheckSignals()
                check_growth(&found)
        check_alive(fd, path)
        return PyBytes_FromStringAndSize(<char *> found.regions,
                                         found.count * sizeof(abi.page_region))
    finally:
        free(found.regions)


# ---- for Python --------------------------------------------------------------------------------

def regions(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
            uint64_t mask, uint64_t anyof, uint64_t inverted, uint64_t returns):
    """Return the regions of some spans as bytes of `struct page_region`, sorted and merged."""
    cdef abi.scan_arg asked
    memset(&asked, 0, sizeof(asked))
    asked.category_mask = mask
    asked.category_anyof_mask = anyof
    asked.category_inverted = inverted
    asked.return_mask = returns
    return search(fd, path, starts, ends, &asked, 0)


def populated(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
              uint64_t pages):
    """Return where pages of some spans are present or swapped, as bytes like those of `regions`.

    Each range begins with such a page, and ends where a block of `pages` has none.
    """
    return search(fd, path, starts, ends, NULL, pages << PAGE_SHIFT)
