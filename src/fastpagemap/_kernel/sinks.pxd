"""Sinks: where a walk puts what it finds out about pages."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel.collecting cimport frames_t
from fastpagemap._kernel.filling cimport MAX_ASKED, sink_t
from fastpagemap._kernel.frame_table cimport FrameTable
from fastpagemap._kernel.growing cimport found_t, numbers_t

cdef class Sink:
    cdef sink_t sink
    cdef found_t found
    cdef frames_t frames
    cdef numbers_t locations
    cdef Py_buffer[MAX_ASKED] views
    cdef int held
    cdef uint64_t[MAX_ASKED] totals
    cdef uint64_t frames_kept
    cdef FrameTable table   # that the pointer in `frames` points into
    cdef tuple kept         # the arrays that the pointers point into
    cdef int check(self) except -1
    cdef int count_for_itself(self) except -1
