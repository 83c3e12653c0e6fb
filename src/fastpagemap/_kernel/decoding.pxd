"""Decoding entries: plain functions on the caller's buffers, without the GIL."""

from libc.stdint cimport uint8_t, uint64_t

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

# The questions an entry answers by itself.
ctypedef enum question_t:
    PRESENT         # mapped in RAM
    SWAPPED         # a swap entry, and no guard region, marker, migration or poison entry
    SHARED          # present, a file page or shared-anonymous page
    EXCLUSIVE       # present, mapped exactly once
    SOFT_DIRTY      # written since soft-dirty was cleared
    UFFD_WP         # write-protected through userfaultfd
    GUARD           # a guard region
    NOT_PRESENT     # anything but mapped in RAM
    EMPTY           # nothing in the page table: the entry of swapped-out shared memory, too
    HUGE            # part of a huge page: entries never say so, only a scan does

cdef enum:
    # How many there are. Cython before 3.3 takes no member of a named enum as an array's length.
    QUESTIONS = HUGE + 1

# Where a pass over a span puts what it decodes. NULL: not wanted. Counts are added to.
ctypedef struct decoded_t:
    uint64_t *entries
    page_t *pages
    bint answers                    # whether any mask or count is wanted
    uint8_t *masks[QUESTIONS]
    uint64_t *counts[QUESTIONS]

cdef enum:
    # Entries decoded at a time: 32 KiB stay in the first-level cache and on any thread's stack.
    BATCH = 4096

# At most BATCH entries, whose answers begin `done` elements into what is wanted.
cdef void decode_batch(const uint64_t *entries, size_t count, size_t done,
                       const decoded_t *into) noexcept nogil
cdef void decode_entries(const uint64_t *entries, size_t count,
                         const decoded_t *into) noexcept nogil
cdef void decode_pages(const uint64_t *entries, page_t *pages, size_t count) noexcept nogil

cdef class Sinks:
    cdef decoded_t into
    cdef Py_buffer[QUESTIONS] views
    cdef int held
