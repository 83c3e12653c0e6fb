"""Tell pages apart by their entries alone."""

from libc.stdint cimport uint16_t, uint64_t

from fastpagemap._kernel.decoding cimport NEVER_SHARED, PRESENT, SHARED, ZERO
from fastpagemap._kernel.filling cimport sink_t

# Read and decode at most BATCH_PAGES entries; into `scratch`, if the sink does not want them.
cdef ssize_t read_batch(int fd, uint64_t at, size_t count, sink_t *sink, uint16_t present_state,
                        uint64_t *scratch, uint16_t *states) noexcept nogil
# Put the states of a span's pages into the sink, by their entries; return how many pages.
cdef ssize_t read_span(int fd, uint64_t at, uint64_t end, uint16_t present_state,
                       sink_t *sink) noexcept nogil
# Add ZERO to the states of pages that map the zero page.
cdef ssize_t mark_zero(int fd, uint64_t at, uint16_t *states, size_t count) noexcept nogil


# The smallest huge page spans as many pages as a page table has entries.
cdef uint64_t PAGES_PER_HUGE_PAGE


cdef inline void add_to_present(uint16_t *states, size_t count, uint16_t extra) noexcept nogil:
    """Add to the states of present pages; entries call the huge zero page SHARED before 7.3."""
    cdef uint16_t kept = ~<uint16_t> (SHARED | NEVER_SHARED)
    cdef size_t i
    for i in range(count):
        states[i] |= extra & <uint16_t> -(states[i] & PRESENT)
    if extra & (ZERO | NEVER_SHARED):
        for i in range(count):
            states[i] &= kept
