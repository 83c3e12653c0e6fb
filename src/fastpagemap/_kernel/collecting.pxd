"""Collecting the frame numbers and swap locations of pages, in the order of a walk."""

from libc.stdint cimport uint16_t, uint64_t

from fastpagemap._kernel.frame_blocks cimport table_t
from fastpagemap._kernel.growing cimport numbers_t

# Which frames are collected: of the pages that are PRESENT and not exactly `spared` in `bits`.
ctypedef struct frames_t:
    numbers_t found
    table_t *table          # where they are counted instead, if there is one
    uint64_t *kept          # how many frames there were, to be added to
    uint64_t seen           # 0 as long as the kernel has told no frame number
    uint16_t bits
    uint16_t spared

# Collect from the entries and states of some pages.
cdef int collect_frames(frames_t *frames, const uint64_t *entries, const uint16_t *states,
                        size_t count) noexcept nogil
cdef int collect_swapped(numbers_t *locations, const uint64_t *entries, const uint16_t *states,
                         size_t count) noexcept nogil
# Collect all frames of a huge page, by the entry of its first page.
cdef int collect_huge(frames_t *frames, uint64_t entry, uint16_t state,
                      size_t pages) noexcept nogil
