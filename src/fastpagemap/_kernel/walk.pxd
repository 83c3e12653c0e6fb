"""The walk: pages of a process told apart in the cheapest way there is, and put into a sink."""

from libc.stdint cimport uint16_t, uint64_t

from fastpagemap._kernel.scan cimport pace_t
from fastpagemap._kernel.sinks cimport sink_t

cdef enum:
    # More than there are kinds of pages whose entries have to be read.
    MAX_VERIFIED = 4

# Pages whose categories match: (categories & bits) == value.
ctypedef struct match_t:
    uint64_t bits
    uint64_t value

# How pages are told apart. Which plan is right depends on what is asked, and what is mapped.
ctypedef struct plan_t:
    bint scan               # False: by their entries alone
    uint64_t anyof          # a scan asks for the pages with any of these categories...
    uint64_t returns        # ...and for these categories of each
    bint complement         # or for those not present, where that is cheaper
    match_t[MAX_VERIFIED] verified  # pages whose entries have to be read
    int verifies
    uint16_t present_state  # what every present page is, besides
    uint16_t scanned        # HUGE, ZERO: asked of a scan also where entries are read
    bint one_entry          # whether the first entry of a huge page says all of it
    bint unseen             # whether nobody has looked yet at what is mapped

ctypedef enum mode_t:
    READ            # read the entries
    DIRECT          # scan for plan.anyof
    COMPLEMENT      # scan for pages not present

# Where a walk stands, and how it goes on.
ctypedef struct cursor_t:
    int maps                # /proc/PID/maps, to see that what is not reported is there: or -1
    uint64_t at
    uint64_t end
    mode_t mode
    pace_t pace
    uint64_t read_pages     # how many entries to read before a scan is tried again
    uint64_t huge_blocks    # how many huge pages to look at next, if the next one is huge
    bint huge_seen          # whether the last scan found huge pages alone
    uint64_t not_huge       # the block that is known not to be mapped as a huge page

cdef void start(cursor_t *cursor, const plan_t *plan, int maps, uint64_t at,
                uint64_t end) noexcept nogil
cdef ssize_t advance(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil
# By entries alone.
cdef ssize_t read_span(int fd, uint64_t at, uint64_t end, uint16_t present_state,
                       sink_t *sink) noexcept nogil
cdef uint16_t state_of_categories(uint64_t categories) noexcept nogil

cdef class Plan:
    cdef plan_t plan
