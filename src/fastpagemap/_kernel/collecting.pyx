"""Collecting the frame numbers and swap locations of pages, in the order of a walk."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint16_t, uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport PRESENT, SWAPPED
from fastpagemap._kernel.frame_blocks cimport add_frames
from fastpagemap._kernel.growing cimport reserve_numbers

# The bits of an entry that are a frame number, or a swap type and offset.
cdef uint64_t NUMBER = (<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1


cdef int keep(frames_t *frames, size_t count) noexcept nogil:
    """Keep frame numbers that were appended to those found, or count them."""
    cdef uint64_t *numbers = frames.found.numbers + frames.found.count
    cdef size_t i
    frames.kept[0] += count
    if not frames.seen:
        for i in range(count):
            frames.seen |= numbers[i]
    if frames.table is not NULL:
        return add_frames(frames.table, numbers, count)
    frames.found.count += count
    return 0


cdef int collect_frames(frames_t *frames, const uint64_t *entries, const uint16_t *states,
                        size_t count) noexcept nogil:
    cdef uint16_t bits = frames.bits, spared = frames.spared
    cdef uint64_t *numbers
    cdef size_t i, at = 0
    if reserve_numbers(&frames.found, count) < 0:
        return -ENOMEM
    numbers = frames.found.numbers + frames.found.count
    # Without a branch: which pages are collected is hard to predict.
    for i in range(count):
        numbers[at] = entries[i] & NUMBER
        at += (states[i] & PRESENT) & ((states[i] & bits) != spared)
    return keep(frames, at)


cdef int collect_swapped(numbers_t *locations, const uint64_t *entries, const uint16_t *states,
                         size_t count) noexcept nogil:
    cdef uint64_t *numbers
    cdef size_t i, at = 0
    if reserve_numbers(locations, count) < 0:
        return -ENOMEM
    numbers = locations.numbers + locations.count
    for i in range(count):
        numbers[at] = entries[i] & NUMBER
        at += (states[i] & SWAPPED) != 0
    locations.count += at
    return 0


cdef int collect_huge(frames_t *frames, uint64_t entry, uint16_t state,
                      size_t pages) noexcept nogil:
    cdef uint64_t first = entry & NUMBER
    cdef uint64_t *numbers
    cdef size_t i
    if not state & PRESENT or (state & frames.bits) == frames.spared:
        return 0
    if reserve_numbers(&frames.found, pages) < 0:
        return -ENOMEM
    numbers = frames.found.numbers + frames.found.count
    for i in range(pages):
        numbers[i] = first + i
    return keep(frames, pages)
