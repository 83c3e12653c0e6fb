"""Filling the masks, counts, states and runs of a sink with what a walk finds out about pages.

A sink asks questions, or wants entries, states or runs of states. A page answers a question with
yes if its state matches: `(state & bits) == value`.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.collecting cimport frames_t
from fastpagemap._kernel.growing cimport found_t, numbers_t

cdef enum:
    # More than there are questions.
    MAX_ASKED = 16

# One question, and where its answers go: NULL where they are not wanted. A count is added to.
ctypedef struct asked_t:
    uint16_t bits
    uint16_t value
    uint8_t *mask           # one byte a page, from `origin` on
    uint64_t *count

ctypedef struct sink_t:
    uint64_t origin         # the address of the first element of masks, entries and states
    asked_t[MAX_ASKED] asked
    int answers
    uint64_t *entries       # one a page, from `origin` on
    uint16_t *states        # one a page, from `origin` on
    found_t *runs           # runs of pages of the same state, never 0
    uint16_t run_states     # the flags of a state that a run has
    uint64_t barrier        # no run crosses this address: a mapping begins there
    frames_t *frames        # the frames of present pages
    numbers_t *locations    # the swap types and offsets of swapped pages

# All pages of a span have one state.
cdef int put_state(sink_t *sink, uint64_t start, uint64_t end, uint16_t state) noexcept nogil
# One state a page, at most BATCH_PAGES.
cdef int put_states(sink_t *sink, uint64_t start, const uint16_t *states,
                    size_t count) noexcept nogil
# The same for pages whose entries are at hand.
cdef int put_pages(sink_t *sink, uint64_t start, const uint64_t *entries, const uint16_t *states,
                   size_t count) noexcept nogil
# A whole huge page, by the entry and the state of its first page.
cdef int put_huge_page(sink_t *sink, uint64_t start, uint64_t end, uint64_t entry,
                       uint16_t state) noexcept nogil
# Regions of states (in `categories`), sorted; every page between them has the state `rest`.
cdef int put_regions(sink_t *sink, uint64_t start, uint64_t end, uint16_t rest,
                     const abi.page_region *regions, int count) noexcept nogil
# Answer one question for at most BATCH_PAGES pages, the first of which is number `first`.
cdef void answer(const asked_t *asked, size_t first, const uint16_t *states,
                 size_t count) noexcept nogil
