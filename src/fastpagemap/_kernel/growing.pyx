"""Growing arrays, and whether what grows still fits into free memory."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint64_t
from libc.stdlib cimport realloc

from fastpagemap._kernel cimport abi

cdef enum:
    # Items that a growing array begins with, beside those that it grows for.
    FIRST_CAPACITY = 512


cdef int grow(void **items, size_t *capacity, size_t needed, size_t size) noexcept nogil:
    """Grow to a capacity of at least `needed` items of `size` bytes."""
    cdef size_t larger = max(capacity[0] + capacity[0] // 2, needed + FIRST_CAPACITY)
    cdef void *grown = realloc(items[0], larger * size)
    if grown is NULL:
        return -ENOMEM
    items[0], capacity[0] = grown, larger
    return 0


cdef int reserve_numbers(numbers_t *found, size_t more) noexcept nogil:
    if found.count + more <= found.capacity:
        return 0
    return grow(<void **> &found.numbers, &found.capacity, found.count + more, sizeof(uint64_t))


cdef int reserve(found_t *found, size_t more) noexcept nogil:
    if found.count + more <= found.capacity:
        return 0
    return grow(<void **> &found.regions, &found.capacity, found.count + more,
                sizeof(abi.page_region))


cdef int append(found_t *found, const abi.page_region *regions, int count,
                uint64_t barrier) noexcept nogil:
    cdef abi.page_region *last
    cdef int i
    if reserve(found, count) < 0:
        return -ENOMEM
    for i in range(count):
        if found.count:
            last = &found.regions[found.count - 1]
            if (last.end == regions[i].start and last.categories == regions[i].categories
                    and last.end != barrier):
                last.end = regions[i].end
                continue
        found.regions[found.count] = regions[i]
        found.count += 1
    return 0


# ---- free memory -------------------------------------------------------------------------------

# Raises MemoryError if so many items, of so many bytes each, do not fit into free memory.
cdef object afford = None


def limit_growth(object affordable):
    """Set the function that checks whether what grows still fits into free memory."""
    global afford
    afford = affordable


cdef int check_fits(size_t count, size_t size, object what) except -1:
    if afford is not None:
        afford(count, size, what)
    return 0


cdef int check_growth(found_t *found) except -1:
    if found.capacity > found.checked:
        # Twice: it is copied once at the end.
        check_fits(found.capacity, 2 * sizeof(abi.page_region), "regions")
        found.checked = found.capacity
    return 0


cdef int check_numbers(numbers_t *found) except -1:
    if found.capacity > found.checked:
        check_fits(found.capacity, 2 * sizeof(uint64_t), "frames or swap locations")
        found.checked = found.capacity
    return 0
