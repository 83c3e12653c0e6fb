"""Read-write protection by userfaultfd (Linux 7.3)."""

from libc.errno cimport EACCES, EBUSY, ENOENT, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.procmaps cimport query_mapping
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.scan cimport REGIONS, scan_once

cdef enum:
    # Looks at a mapping, while other threads change it.
    MAX_LOOKS = 16


cdef int next_mapping(int maps, uint64_t start, uint64_t end, part_t *part) noexcept nogil:
    cdef abi.procmap_query query
    cdef int problem
    memset(&query, 0, sizeof(query))
    query.query_addr = start
    query.query_flags = abi.PROCMAP_COVERING_OR_NEXT
    problem = query_mapping(maps, &query)
    part.start, part.end, part.page_size = start, end, <uint64_t> 1 << PAGE_SHIFT
    part.accessible = True
    if problem == 0:
        part.start = max(start, query.vma_start)
        part.end = min(end, query.vma_end)
        part.page_size = query.vma_page_size
        part.accessible = query.vma_flags & abi.PROCMAP_ACCESSIBLE != 0
    return -ENOENT if problem == -ENOENT or part.start >= end else 0


cdef int rwprotect(int fd, uint64_t start, uint64_t end, uint64_t mode) noexcept nogil:
    """Make one request. The kernel looks at all of the span before it changes anything."""
    cdef abi.uffdio_rwprotect request
    memset(&request, 0, sizeof(request))
    request.range.start = start
    request.range.len = end - start
    request.mode = mode
    if abi.ioctl(fd, abi.UFFDIO_RWPROTECT, &request) >= 0:
        return 0
    # The kernel itself says none of these.
    return -EOPNOTSUPP if errno in (EPERM, EACCES, ENOSYS, ENOTTY) else -errno


cdef int protect_once(int fd, uint64_t start, uint64_t end) noexcept nogil:
    cdef int problem = rwprotect(fd, start, end, abi.UFFDIO_RWPROTECT_MODE_RWP)
    return -EPERM if problem == -ENOENT else problem


cdef ssize_t look(int pagemap, int fd, abi.scan_arg *arg, abi.page_region *regions) noexcept nogil:
    cdef ssize_t count, problem
    cdef int i
    if regions is NULL and fd >= 0:
        problem = protect_once(fd, arg.start, arg.end)
        arg.start = arg.end
        return problem
    count = scan_once(pagemap, arg, regions, 0 if regions is NULL else REGIONS)
    if fd >= 0:
        for i in range(count):
            problem = protect_once(fd, regions[i].start, regions[i].end)
            if problem < 0:
                return problem
    return count


cdef int lift_first(int fd, int maps, part_t *part) noexcept nogil:
    """Lift the protection in the first mapping of a part, and cut the part to it."""
    cdef uint64_t start = part.start, end = part.end, looked_at = 0
    cdef int problem = 0
    for _ in range(MAX_LOOKS):
        if next_mapping(maps, start, end, part) < 0:
            part.end = end
            return 0
        if problem == -ENOENT and part.end == looked_at:
            return 0  # not even in part
        problem = rwprotect(fd, part.start, part.end, 0)
        if problem != -ENOENT:
            break
        looked_at = part.end
    return problem


cdef int lift_accessed(int fd, int maps, uint64_t start, uint64_t end) noexcept nogil:
    cdef part_t part
    cdef int problem, last = 0
    while start < end:
        part.start, part.end = start, end
        problem = lift_first(fd, maps, &part)
        if problem < 0:
            last = problem
        start = part.end
    return last


cdef int register_part(int fd, const part_t *part, uint64_t mode) noexcept nogil:
    cdef abi.uffdio_register wanted
    memset(&wanted, 0, sizeof(wanted))
    wanted.mode = mode
    wanted.range.start = part.start
    wanted.range.len = part.end - part.start
    return 0 if abi.ioctl(fd, abi.UFFDIO_REGISTER, &wanted) >= 0 else -errno


cdef int find_untracked_part(int fd, const part_t *part) noexcept nogil:
    """Return what is wrong with a mapping.

    The kernel does not change a registered mapping to write protection (EBUSY). So that happens
    only to one that is not; it is undone at once, and no page was protected by it.
    """
    cdef abi.uffdio_range span
    cdef part_t nothing
    cdef int problem = register_part(fd, part, abi.UFFDIO_REGISTER_MODE_WP)
    if problem == 0:
        span.start, span.len = part.start, part.end - part.start
        abi.ioctl(fd, abi.UFFDIO_UNREGISTER, &span)
        return -EPERM
    if problem != -EBUSY:
        # Of no memory at all the kernel says EINVAL, and a filter of system calls what it said now.
        nothing.start = nothing.end = 0
        problem = register_part(fd, &nothing, abi.UFFDIO_REGISTER_MODE_WP)
        return -EOPNOTSUPP if problem in (-EPERM, -EACCES, -ENOSYS, -ENOTTY) else -EPERM
    # What may not be accessed now is not compared, because the kernel registers no such mapping.
    if part.accessible:
        # Nothing is registered anew; the kernel only compares the descriptors.
        problem = register_part(fd, part, abi.UFFDIO_REGISTER_MODE_RWP)
        if problem < 0:
            return -EBUSY if problem == -EBUSY else -EPERM
    return 0


cdef int find_untracked(int fd, int maps, uint64_t start, uint64_t end) noexcept nogil:
    cdef part_t part
    cdef int problem = 0
    while problem == 0 and start < end and next_mapping(maps, start, end, &part) == 0:
        problem = find_untracked_part(fd, &part)
        start = part.end
    return problem
