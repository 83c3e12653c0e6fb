"""The C level of fastpagemap, for another Cython module: ``from fastpagemap cimport core``.

Plain functions on the caller's buffers. These signatures and numbers do not change; later versions
only add to them.

`pagemap` is an open /proc/PID/pagemap. `maps` is an open /proc/PID/maps of the same process, or -1;
with it, on Linux 6.11 and later, memory that is mostly present costs a third. `start` is a
page-aligned address, `count` a number of pages. Masks hold one byte a page, 0 or 1.

A function returns a count. On an error it returns `-errno`, and the content of its output buffers
is undefined: -EINVAL for an unaligned address, a span beyond the end of the address space or an
unknown question; -ESRCH once the process has exited or called exec; -EOPNOTSUPP for a question
that this kernel cannot answer; -EBADF and the like as the kernel gives them.

All functions promise this:

- Threads: any number of threads may call them at once, with the same descriptors. They share
  nothing but what the caller passes. They neither need nor take the GIL.
- Fork: a descriptor that a child has inherited still shows the parent. A child opens its own.
- Signals: a signal handler may call them, if it saves `errno` and has 80 KiB of stack. They
  allocate nothing and take no lock. They repeat an interrupted system call.
- Ownership: they keep nothing after the call. Buffers and descriptors stay the caller's.
- Locks: the kernel holds the process's memory lock for well under a millisecond at a time.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    # The questions. The page table alone answers them.
    PAGE_PRESENT = 0      # mapped in RAM
    PAGE_SWAP_ENTRY = 1   # a swap entry, but no guard region, marker, migration or poison entry;
    #                       a swapped page of shared memory has none: see PageMap.swapped
    PAGE_SHARED = 2       # present, and a page of a file or of shared memory. The huge zero page
    #                       wrongly counts, too: in `decode` for entries from before Linux 7.3, and
    #                       in every function before Linux 6.7
    PAGE_EXCLUSIVE = 3    # present, and mapped exactly once
    PAGE_SOFT_DIRTY = 4   # written since soft-dirty was cleared; -EOPNOTSUPP without such bits

# A run of pages with the same categories (PAGE_IS_*): struct page_region of linux/fs.h.
ctypedef struct region_t:
    uint64_t start
    uint64_t end
    uint64_t categories

# Read one entry a page as the kernel gives it; 0 past the end of the address space.
cdef ssize_t read_entries(int pagemap, uint64_t start, size_t count,
                          uint64_t *entries) noexcept nogil

# Answer a question about entries from any source; return for how many pages the answer is yes. The
# mask may be NULL. Makes no system call.
cdef ssize_t decode(const uint64_t *entries, size_t count, int question,
                    uint8_t *mask) noexcept nogil

# Answer a question about each page of a span, in the cheapest way that this kernel has; return for
# how many pages the answer is yes.
cdef ssize_t fill_mask(int pagemap, int maps, uint64_t start, size_t count, int question,
                       uint8_t *mask) noexcept nogil

# The same without a mask.
cdef ssize_t count_pages(int pagemap, int maps, uint64_t start, size_t count,
                         int question) noexcept nogil

# PAGEMAP_SCAN's own question (Linux 6.7; -ENOTTY before): find the regions of a span whose
# categories match, sorted, neighbours of equal categories merged. `room` is the capacity of
# `regions`. `reached` gets the address up to which they are complete: `end`, or where to go on.
cdef ssize_t scan_regions(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                          uint64_t anyof, uint64_t inverted, uint64_t returns,
                          region_t *regions, size_t room, uint64_t *reached) noexcept nogil

# What the kernel says of `count` page frames, in any order: `file` is an open /proc/kpageflags,
# kpagecount or kpagecgroup. 0 for a frame beyond the last one. Frames that follow each other
# closely, up or down, are read at once: sorted ones cost least. Takes 10 KiB of stack.
cdef ssize_t read_frames(int file, const uint64_t *frames, size_t count,
                         uint64_t *values) noexcept nogil
