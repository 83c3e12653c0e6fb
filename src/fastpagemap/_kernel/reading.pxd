"""Reading entries: plain functions on the caller's buffers, without the GIL.

`fd` is an open /proc/PID/pagemap, `start` a page-aligned address. A function that returns
`ssize_t` returns a count, or `-errno`: -ESRCH when the process has exited or called exec.
"""

from libc.stdint cimport uint64_t

from fastpagemap._kernel.decoding cimport decoded_t

cdef int PAGE_SHIFT

cdef ssize_t read_entries(int fd, uint64_t start, uint64_t *entries, size_t count) noexcept nogil
cdef bint sees_soft_dirty() noexcept nogil
# The answers begin `at` elements into what is wanted.
cdef ssize_t read_decoded(int fd, uint64_t start, size_t count,
                          const decoded_t *into, size_t at) noexcept nogil
