"""Decoding entries: plain functions on the caller's buffers, without the GIL."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

# One page decoded: PAGE_DTYPE.
ctypedef struct page_t:
    uint64_t pfn
    uint64_t swap_offset
    uint8_t swap_type
    uint8_t present
    uint8_t swapped
    uint8_t file
    uint8_t guard
    uint8_t uffd_wp
    uint8_t exclusive
    uint8_t soft_dirty

cdef enum:
    # What is known of a page, as bits: those of model.runs.State, and two internal ones.
    PRESENT = 1 << 0
    SWAPPED = 1 << 1
    UNKNOWN = 1 << 2
    SHARED = 1 << 3
    EXCLUSIVE = 1 << 4
    SOFT_DIRTY = 1 << 5
    HUGE = 1 << 6
    ZERO = 1 << 7
    GUARD = 1 << 8
    SWAPPED_SHARED = 1 << 9
    MARKER = 1 << 10    # a swap entry that is no swap: a marker, migration or poison entry
    UFFD_WP = 1 << 11
    # Not of a page: what backs it has no pages of files, whatever entries say.
    NEVER_SHARED = 1 << 12
    USER_STATE = (1 << 10) - 1

cdef enum:
    # Pages decoded at a time: their entries, 32 KiB, fit the first-level cache and any stack.
    BATCH_PAGES = 4096

# The states of `count` entries.
cdef void decode_states(const uint64_t *entries, uint16_t *states, size_t count) noexcept nogil
# Of another kernel's entries: UNKNOWN where a type may be reserved, or not.
cdef void doubt_types(const uint64_t *entries, uint16_t *states, size_t count) noexcept nogil
cdef void decode_pages(const uint64_t *entries, page_t *pages, size_t count) noexcept nogil
