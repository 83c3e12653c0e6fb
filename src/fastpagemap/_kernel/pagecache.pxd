"""What one call tells about a shared memory file; page numbers are those of the file."""

from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi

cdef enum:
    # A range with swapped and other pages is asked about again in so many parts...
    PARTS_PER_RANGE = 8
    # ...or page by page, if it has at most so many pages.
    MAX_SINGLE_PAGES = 16
    # Pages that are mapped at a time for mincore.
    MINCORE_PAGES = 4096

cdef int count_evicted(int fd, uint64_t page, size_t count, abi.cachestat_t *found) noexcept nogil
# Find the next run of pages with data before `end`: `data` to `hole`, or both `end`.
cdef int next_data(int fd, uint64_t page, uint64_t end, uint64_t *data,
                   uint64_t *hole) noexcept nogil
# -EPERM where mincore calls everything in core, because this user may not ask.
cdef int check_mincore(int fd, uint64_t file_pages) noexcept nogil
# Ask mincore about at most MINCORE_PAGES.
cdef int pages_in_core(int fd, uint64_t page, size_t count, unsigned char *vector) noexcept nogil
