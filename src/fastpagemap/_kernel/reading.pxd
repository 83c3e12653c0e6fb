"""Reading entries: plain functions on the caller's buffers, without the GIL.

`fd` is an open /proc/PID/pagemap, `start` a page-aligned address. A function that returns
`ssize_t` returns a count, or `-errno`: -ESRCH when the process has exited or called exec.
"""

from libc.stdint cimport uint64_t

cdef int PAGE_SHIFT

cdef ssize_t read_entries(int fd, uint64_t start, uint64_t *entries, size_t count) noexcept nogil
# 1 or 0; -errno where it could not be found out.
cdef int sees_soft_dirty() noexcept nogil
# Raises ProcessLookupError if the process has gone.
cdef int check_alive(int fd, object path) except -1
