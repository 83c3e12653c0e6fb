"""Read entries where huge pages may be: one entry tells about all of a huge page."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.filling cimport sink_t
from fastpagemap._kernel.plan cimport cursor_t, plan_t

# Read the entries of some pages, and find huge pages among them.
cdef ssize_t read_with_huge(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                            uint64_t pages) noexcept nogil
# Answer for a region of huge pages, by one entry for each whole huge page.
cdef ssize_t read_huge_region(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                              const abi.page_region *region) noexcept nogil
