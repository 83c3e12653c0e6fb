"""Walk over one stretch of address space by one plan."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.filling cimport sink_t
from fastpagemap._kernel.plan cimport cursor_t, plan_t

cdef void set_cursor(cursor_t *cursor, const plan_t *plan, int maps, uint64_t at,
                     uint64_t end) noexcept nogil
# Answer for pages from the cursor on, for TIME_SLICE_NS or to its end.
cdef ssize_t advance(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil

# Fill in what to ask a scan of the next pages.
cdef void prepare(abi.scan_arg *arg, const cursor_t *cursor, const plan_t *plan,
                  uint64_t pages) noexcept nogil
# Answer for all pages up to `reached`; return what reading cost, counted in entries.
cdef ssize_t put_scanned(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                         abi.page_region *regions, int count, uint64_t reached) noexcept nogil
