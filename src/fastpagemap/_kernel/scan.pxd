"""PAGEMAP_SCAN, without the GIL: one call, its pace, and the regions of a span."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.growing cimport found_t

cdef enum:
    # Regions to ask for at a time. The kernel collects 512; asked for more, it may repeat some.
    REGIONS = 512
    # A loop returns after so long, so that its caller can check for signals.
    TIME_SLICE_NS = 20_000_000
    # Pages of the first call, which shows how long a call takes here.
    FIRST_PAGES = 512

# How many pages the next call looks at: chosen by how long the last calls took.
ctypedef struct pace_t:
    uint64_t pages
    uint64_t hole_pages     # the same where nothing seems to be populated
    uint64_t slowness       # how many times slower this machine is than the limits assume; or 0
    int regions             # how many regions to ask the next call for
    bint likely_hole        # whether the last pages seem to have no page table

cdef inline uint64_t now() noexcept nogil:
    cdef abi.timespec time
    abi.clock_gettime(abi.CLOCK_MONOTONIC, &time)
    return <uint64_t> time.tv_sec * 1_000_000_000 + time.tv_nsec

cdef void start_pace(pace_t *pace) noexcept nogil
cdef void adapt_pace(pace_t *pace, int fd, uint64_t pages, uint64_t took,
                     ssize_t count) noexcept nogil
cdef uint64_t match_limit(const pace_t *pace, bint cheap) noexcept nogil

# One call. -EIO if it makes no progress, which no kernel is known to do.
cdef ssize_t scan_once(int fd, abi.scan_arg *arg, abi.page_region *regions,
                       int capacity) noexcept nogil
cdef ssize_t count_unpopulated(int fd, uint64_t start, uint64_t end, pace_t *pace) noexcept nogil
# Scan from `at` on, and move it; return how many regions were found.
cdef ssize_t scan_next(int fd, uint64_t *at, uint64_t end, pace_t *pace, const abi.scan_arg *asked,
                       abi.page_region *regions, int capacity) noexcept nogil
