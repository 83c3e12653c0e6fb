"""userfaultfd(2)."""

from libc.stdint cimport uint64_t

cdef class Userfaultfd:
    cdef int fd                 # -1: closed
    cdef int owner              # the process whose memory is tracked
    cdef uint64_t start, end    # what is registered

    cdef void release(self) noexcept
    cdef void lift(self, uint64_t start, uint64_t end) noexcept nogil
