"""PAGEMAP_SCAN: the adaptive loop, without the GIL."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport QUESTIONS, decoded_t

cdef enum:
    # Regions asked for at a time. The kernel collects 512: asked for more, it may give some twice.
    REGIONS = 512
    # ns after which a loop lets its caller look for signals.
    SLICE = 20_000_000

cdef inline uint64_t now() noexcept nogil:
    cdef abi.timespec time
    abi.clock_gettime(abi.CLOCK_MONOTONIC, &time)
    return <uint64_t> time.tv_sec * 1_000_000_000 + time.tv_nsec

# Pages whose categories match: (categories & bits) == value.
ctypedef struct match_t:
    uint64_t bits
    uint64_t value

# How some questions are answered by scanning.
ctypedef struct plan_t:
    uint64_t anyof          # ask for the pages with any of these categories...
    uint64_t returns        # ...and for these categories of each
    bint complement         # or for those not present, where that is cheaper
    match_t[4] verify       # what only the entries can tell
    int verifies
    match_t[QUESTIONS] yes  # by question: which pages are in it; bits 0, value 1: none is
    int[QUESTIONS] answered  # the questions the plan answers
    int answers
    bint empties            # whether the plan asks for pages that are not there, too
    bint unseen             # whether nobody has looked yet at what is mapped

ctypedef enum mode_t:
    READ            # read the entries
    DIRECT          # scan for plan.anyof
    COMPLEMENT      # scan for pages not present

# Where a scan stands, and how it goes on.
ctypedef struct cursor_t:
    int maps                # /proc/PID/maps, to see that what is not reported is there: or -1
    uint64_t start
    uint64_t at
    uint64_t end
    mode_t mode
    uint64_t pages          # how many to look at next
    uint64_t read_pages     # how many to read the next time that reading is the better way
    bint void               # whether the last pages seem to have had no page table at all

cdef void rewind(cursor_t *cursor, int maps, uint64_t start, uint64_t end) noexcept nogil
cdef ssize_t scan_next(int fd, cursor_t *cursor, const abi.scan_arg *asked,
                       abi.page_region *regions, int room) noexcept nogil
cdef ssize_t advance(int fd, cursor_t *cursor, const plan_t *plan,
                     decoded_t *into) noexcept nogil

# Regions, collected.
ctypedef struct found_t:
    abi.page_region *regions
    size_t count
    size_t room

cdef ssize_t scan_once(int fd, abi.scan_arg *arg, abi.page_region *regions,
                       int room) noexcept nogil

cdef bint covered(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil

cdef int keep(found_t *found, const abi.page_region *regions, int count) noexcept nogil
