"""The C level of fastpagemap, for another Cython module: ``from fastpagemap cimport core``.

Plain functions on the caller's buffers. These signatures and numbers stay as they are; what comes
later is added.

`pagemap` is an open /proc/PID/pagemap, `maps` an open /proc/PID/maps of the same process or -1:
with it, from Linux 6.11 on, memory that is mostly present is answered for at a third of the cost.
`start` is a page-aligned address, `count` a number of pages; masks hold one byte a page, 0 or 1.

A function returns a count, or `-errno` and then what it was to fill is undefined:
-EINVAL for an address that is not aligned, a span beyond the end of the address space or an unknown
question; -ESRCH once the process has exited or called exec; -EOPNOTSUPP for what this kernel does
not tell; -EBADF and the like as the kernel gives them.

For all of them holds:

- Threads: any number may be in any function at once, with the same descriptors; nothing is shared
  but what the caller passes. The GIL is neither needed nor taken.
- Fork: a descriptor that a child has inherited still shows the parent. A child opens its own.
- Signals: they may be called in a signal handler, if that saves `errno` and has 80 KiB of stack:
  nothing is allocated, no lock is taken. An interrupted system call is made again.
- Ownership: nothing is kept after the call; buffers and descriptors stay the caller's.
- The kernel holds the process's memory lock for well under a millisecond at a time.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    # The questions. All are about the page table alone.
    PAGE_PRESENT = 0      # mapped in RAM
    PAGE_SWAP_ENTRY = 1   # a swap entry, and no guard region, marker, migration or poison entry;
    #                       no page of shared memory has one, if swapped out: see PageMap.swapped
    PAGE_SHARED = 2       # present, and a page of a file or of shared memory
    PAGE_EXCLUSIVE = 3    # present, and mapped exactly once
    PAGE_SOFT_DIRTY = 4   # written since soft-dirty was cleared: -EOPNOTSUPP where there is no such

# A run of pages with the same categories (PAGE_IS_*): struct page_region of linux/fs.h.
ctypedef struct region_t:
    uint64_t start
    uint64_t end
    uint64_t categories

# Read one entry a page, as the kernel gives them; 0 past the end of the address space.
cdef ssize_t read_entries(int pagemap, uint64_t start, size_t count,
                          uint64_t *entries) noexcept nogil

# Answer a question about entries, from wherever; return for how many pages it is yes. The mask may
# be NULL. No system call is made.
cdef ssize_t decode(const uint64_t *entries, size_t count, int question,
                    uint8_t *mask) noexcept nogil

# Answer a question about each page of a span, in the cheapest way that this kernel has; return for
# how many pages it is yes.
cdef ssize_t fill_mask(int pagemap, int maps, uint64_t start, size_t count, int question,
                       uint8_t *mask) noexcept nogil

# The same, and only how many.
cdef ssize_t count_pages(int pagemap, int maps, uint64_t start, size_t count,
                         int question) noexcept nogil

# PAGEMAP_SCAN's own question (Linux 6.7, -ENOTTY before): the regions of a span whose categories
# match, sorted, neighbours of equal categories merged, at most `room` of them. `reached` is how far
# they tell: `end`, or where to go on.
cdef ssize_t scan_regions(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                          uint64_t anyof, uint64_t inverted, uint64_t returns,
                          region_t *regions, size_t room, uint64_t *reached) noexcept nogil
