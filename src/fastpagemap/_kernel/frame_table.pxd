"""A table of frames: how often some processes map each, and how often all processes do."""

from libc.stdint cimport uint32_t, uint64_t

from fastpagemap._kernel.frame_blocks cimport table_t

cdef class FrameTable:
    cdef table_t table
    cdef uint32_t *counts   # how often all processes map each frame of each block, once it is read
    cdef uint64_t read_pages    # how many pages the table had then
    cdef int check(self) except -1
