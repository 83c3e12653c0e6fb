"""userfaultfd(2)."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel.growing cimport found_t

cdef class Userfaultfd:
    cdef int fd                 # -1: closed
    cdef int owner              # the process whose memory is tracked
    cdef bint accesses          # reads too: by UFFDIO_REGISTER_MODE_RWP
    cdef uint64_t start, end    # what is registered
    cdef found_t kept           # pages whose protection could not be lifted: they count

    cdef uint64_t mode(self) noexcept nogil
    cdef void release(self) noexcept
    # Whether part of the span is not mapped.
    cdef bint has_gap(self, int maps) noexcept nogil
    # Whether what of the span is mapped is registered here: 0, or the reason as -errno.
    cdef int check(self, int pagemap, int maps) noexcept nogil
    # Make pages count as written, or as accessed, again.
    cdef int lift(self, int pagemap, int maps, uint64_t start, uint64_t end) noexcept nogil
    cdef void lift_or_keep(self, int pagemap, int maps,
                           uint64_t start, uint64_t end) noexcept nogil
    # Lift what is kept; -errno of what still is.
    cdef int lift_kept(self, int pagemap, int maps) noexcept nogil

# The reason of a scan's failure, as -errno: -EOPNOTSUPP if a scan of nothing fails as well.
cdef int why_refused(int pagemap, ssize_t problem) noexcept nogil
