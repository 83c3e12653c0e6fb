"""Ask /proc/PID/maps about one mapping, without the GIL."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi

# PROCMAP_QUERY (Linux 6.11): 0, or -errno, -ENOENT where there is no such mapping.
cdef int query_mapping(int maps, abi.procmap_query *query) noexcept nogil

# Whether all of a span is mapped now; with `anonymous`, whether by anonymous memory alone.
cdef bint is_mapped(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil
