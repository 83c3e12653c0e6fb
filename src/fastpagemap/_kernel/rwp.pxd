"""Read-write protection by userfaultfd (Linux 7.3), without the GIL.

PAGEMAP_SCAN cannot protect pages so, and does not tell what is registered for it. So each mapping
of a span is asked about by itself. The functions return 0 or -errno, -EOPNOTSUPP where a filter of
system calls forbids to ask.
"""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi

# The part of a span that is the first mapping in it. A filter that forbids PROCMAP_QUERY makes it
# all of the span.
ctypedef struct part_t:
    uint64_t start
    uint64_t end
    uint64_t page_size
    bint accessible         # whether it may be read, written or executed

# -ENOENT if nothing is mapped there.
cdef int next_mapping(int maps, uint64_t start, uint64_t end, part_t *part) noexcept nogil
# Scan a range, at most REGIONS regions; with a descriptor (`fd`, else -1), protect what is found.
# Without `regions`, protect all of it. -EPERM if part is not registered.
cdef ssize_t look(int pagemap, int fd, abi.scan_arg *arg, abi.page_region *regions) noexcept nogil
# Lift the protection of what is registered: its pages count as accessed.
cdef int lift_accessed(int fd, int maps, uint64_t start, uint64_t end) noexcept nogil
# -EPERM if a mapping of the span is not registered, -EBUSY if with another descriptor.
cdef int find_untracked(int fd, int maps, uint64_t start, uint64_t end) noexcept nogil
