"""How a walk tells pages apart, and where it stands."""

from libc.stdint cimport uint16_t, uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport (GUARD, HUGE, PRESENT, SHARED, SOFT_DIRTY, SWAPPED,
                                           ZERO)
from fastpagemap._kernel.scan cimport pace_t

cdef enum:
    # More than there are kinds of pages whose entries have to be read.
    MAX_VERIFIED = 4

# Pages whose categories match: (categories & bits) == value.
ctypedef struct match_t:
    uint64_t bits
    uint64_t value

# How to tell pages apart. The right plan depends on the questions and on what is mapped.
ctypedef struct plan_t:
    bint scan               # whether to scan at all, or only to read entries
    uint64_t anyof          # a scan reports the pages with any of these categories...
    uint64_t returns        # ...and these categories of each
    bint complement         # whether it may report the pages not present, if that is cheaper
    match_t[MAX_VERIFIED] verified  # pages whose entries have to be read
    int verifies            # how many of `verified` are in use
    uint16_t present_state  # states that every present page has
    uint16_t scanned        # HUGE, ZERO: scanned for even where entries are read
    bint one_entry          # whether the first entry of a huge page tells about all of it
    bint unseen             # whether the caller does not know the mappings

ctypedef enum mode_t:
    READ            # read the entries
    DIRECT          # scan for plan.anyof
    COMPLEMENT      # scan for pages not present

# Where a walk stands, and how it goes on.
ctypedef struct cursor_t:
    int maps                # /proc/PID/maps, to check that unreported pages are mapped; or -1
    uint64_t at
    uint64_t end
    mode_t mode
    pace_t pace
    uint64_t read_pages     # how many entries to read before a scan is tried again
    uint64_t huge_blocks    # how many huge pages the next scan for them may report
    bint huge_seen          # whether the last scan began and ended with huge pages
    uint64_t not_huge       # an address where no huge page begins, as a scan has shown

cdef class Plan:
    cdef plan_t plan


cdef inline uint16_t state_of_categories(uint64_t categories) noexcept nogil:
    """Return the state that a scan shows. SWAPPED includes swap entries that are no swap."""
    cdef inline uint16_t state = 0
    if categories & abi.PAGE_IS_PRESENT:
        state = PRESENT
        if categories & abi.PAGE_IS_FILE:
            state |= SHARED
        if categories & abi.PAGE_IS_HUGE:
            state |= HUGE
        if categories & abi.PAGE_IS_PFNZERO:
            state |= ZERO
    if categories & abi.PAGE_IS_SWAPPED:
        state |= SWAPPED
    if categories & abi.PAGE_IS_SOFT_DIRTY:
        state |= SOFT_DIRTY
    if categories & abi.PAGE_IS_GUARD:
        state |= GUARD
    return state
