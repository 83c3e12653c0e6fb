"""Growing arrays, and whether what grows still fits into free memory.

Arrays grow without the GIL, which the check needs: it is made between two slices of work.
"""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi

# A growing array of regions: struct page_region, or runs of states, which have the same form.
ctypedef struct found_t:
    abi.page_region *regions
    size_t count
    size_t capacity
    size_t checked          # the capacity that is known to fit into free memory

ctypedef struct numbers_t:
    uint64_t *numbers
    size_t count
    size_t capacity
    size_t checked          # the same

# Make sure that `more` items fit.
cdef int reserve(found_t *found, size_t more) noexcept nogil
cdef int reserve_numbers(numbers_t *found, size_t more) noexcept nogil
# Append regions. A region that continues the last one joins it, unless at the barrier.
cdef int append(found_t *found, const abi.page_region *regions, int count,
                uint64_t barrier) noexcept nogil

# Raise MemoryError if so many items, of so many bytes each, do not fit into free memory.
cdef int check_fits(size_t count, size_t size, object what) except -1
# The same for what has grown since the last check, with its copies.
cdef int check_growth(found_t *found) except -1
cdef int check_numbers(numbers_t *found) except -1
