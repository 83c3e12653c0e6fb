"""userfaultfd(2)."""

from libc.errno cimport (
    EACCES, EBUSY, EINVAL, ENOENT, ENOMEM, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, errno,
)
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC
from posix.unistd cimport close, getpid

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.growing cimport append, reserve
from fastpagemap._kernel.procmaps cimport is_mapped
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.rwp cimport find_untracked, lift_accessed
from fastpagemap._kernel.scan cimport REGIONS, scan_once

from .failures import failure, is_refusal

cdef enum:
    # Requests for a span of which parts are refused: a limit for memory that is all gone.
    MAX_REQUESTS = 1 << 14
    # Looks for what of a span is still registered, while other threads map it anew.
    MAX_LOOKS = 16
    # Pages of one such look: it holds the process's memory lock for about 1 ms.
    LOOK_PAGES = 1 << 17

WP_ASYNC = abi.UFFD_FEATURE_WP_ASYNC
RWP_ASYNC = abi.UFFD_FEATURE_RWP_ASYNC


cdef int open_userfaultfd(uint64_t features, uint64_t *offered) noexcept nogil:
    """Open a descriptor for faults in user mode only, which needs no privilege (Linux 5.11)."""
    cdef abi.uffdio_api api
    cdef int fd = abi.syscall(
        abi.SYS_userfaultfd, O_CLOEXEC | abi.UFFD_USER_MODE_ONLY), problem
    if fd < 0:
        return -errno
    memset(&api, 0, sizeof(api))
    api.api = abi.UFFD_API
    api.features = features
    if abi.ioctl(fd, abi.UFFDIO_API, &api) < 0:
        problem = errno
        close(fd)
        return -problem
    offered[0] = api.features
    return fd


def features():
    """Return the features that the kernel offers this user, as bits; 0 for none."""
    cdef uint64_t offered = 0
    cdef int fd = open_userfaultfd(0, &offered)
    if fd < 0:
        error = failure(-fd, "userfaultfd")
        # Not compiled in, forbidden, or before Linux 5.11 (EINVAL).
        if is_refusal(error):
            return 0
        raise error
    close(fd)
    return offered


cdef class Userfaultfd:
    """A descriptor that write-protects pages asynchronously; EINVAL before Linux 6.7.

    With `accesses` it protects them from being read, too; EINVAL before Linux 7.3. `close` closes
    it; so does the end of the last reference.
    """

    def __cinit__(self, bint accesses=False):
        cdef uint64_t offered = 0, wanted = abi.UFFD_FEATURE_WP_ASYNC
        if accesses:
            wanted = abi.UFFD_FEATURE_RWP | abi.UFFD_FEATURE_RWP_ASYNC
        self.accesses = accesses
        self.fd = -1
        self.owner = getpid()
        cdef int fd = open_userfaultfd(wanted, &offered)
        if fd < 0:
            raise failure(-fd, "userfaultfd")
        self.fd = fd

    def __dealloc__(self):
        self.release()
        free(self.kept.regions)

    def register(self, uint64_t start, uint64_t end):
        """Register a span, so that its pages can be protected."""
        cdef int problem
        # Now, so that later there is always room for one region at least.
        if reserve(&self.kept, 1) < 0:
            raise MemoryError
        with nogil:
            problem = register_once(self.fd, self.mode(), start, end)
        if problem < 0:
            raise failure(-problem, "userfaultfd")
        self.start, self.end = start, end

    def close(self):
        """Unregister the memory, which lifts all protection; a second call does nothing."""
        self.release()

    def count_as_used(self, int pagemap, int maps, uint64_t start, uint64_t end):
        """Lift the protection of pages; where that cannot be done now, later."""
        self.lift_or_keep(pagemap, maps, start, end)

    @property
    def closed(self):
        """Whether it is closed."""
        return self.fd < 0

    cdef void release(self) noexcept:
        cdef int fd = self.fd
        if fd < 0:
            return
        self.fd = -1
        with nogil:
            # Only the owner unregisters: a child's descriptor is of its parent's memory. Closing
            # alone does not lift the protection while a child holds the descriptor open.
            if self.owner == getpid() and self.start < self.end:
                unregister_all(fd, self.mode(), self.start, self.end)
            close(fd)

    cdef bint has_gap(self, int maps) noexcept nogil:
        """Return whether part of the span is not mapped."""
        # MS_ASYNC does nothing but look for gaps.
        return (self.fd >= 0 and self.start < self.end
                and abi.msync(<void *> self.start, self.end - self.start, abi.MS_ASYNC) < 0
                and (errno == ENOMEM or not is_mapped(maps, self.start, self.end, False)))

    cdef uint64_t mode(self) noexcept nogil:
        return abi.UFFDIO_REGISTER_MODE_RWP if self.accesses else abi.UFFDIO_REGISTER_MODE_WP

    cdef int check(self, int pagemap, int maps) noexcept nogil:
        """Return 0 if what of the span is mapped is registered with this descriptor, or why not.

        -EPERM: part is not registered, -EBUSY: with another descriptor. -EOPNOTSUPP: a filter of
        system calls forbids to ask.
        """
        cdef int problem
        if self.fd < 0 or self.start >= self.end:
            return 0  # a signal handler closed it: that ended the tracking
        if self.accesses:
            return find_untracked(self.fd, maps, self.start, self.end)
        # First, because what is not registered would be registered below.
        problem = find_unregistered(pagemap, self.start, self.end)
        if problem == 0:
            # Nothing is registered anew; the kernel only compares the descriptors.
            problem = register_once(self.fd, self.mode(), self.start, self.end)
            if problem in (-EPERM, -EACCES, -ENOSYS, -ENOTTY):
                return -EOPNOTSUPP
            if problem in (-EINVAL, -ENOMEM):  # mapped anew since the last line
                return -EPERM
        return problem

    cdef int lift(self, int pagemap, int maps, uint64_t start, uint64_t end) noexcept nogil:
        """Lift the protection of pages: they count as written, or as accessed, again.

        Parts that are not registered any more are left alone. Returns 0, or -errno if pages may
        still be protected.
        """
        cdef int problem
        if self.fd < 0 or self.owner != getpid():  # closed, or a child's: nothing is protected
            return 0
        if self.accesses:
            return lift_accessed(self.fd, maps, start, end)
        problem = lift_once(self.fd, start, end)
        for _ in range(MAX_LOOKS):
            if problem != -ENOENT:
                return problem
            problem = lift_registered(self.fd, pagemap, start, end)
        return problem

    cdef void lift_or_keep(self, int pagemap, int maps,
                           uint64_t start, uint64_t end) noexcept nogil:
        """Lift the protection of pages or, where that fails, remember them."""
        cdef abi.page_region region
        cdef abi.page_region *first = self.kept.regions
        cdef size_t i
        if self.lift(pagemap, maps, start, end) == 0:
            return
        region.start, region.end, region.categories = start, end, 0
        if append(&self.kept, &region, 1, 0) < 0 and first is not NULL:
            # No memory for another region: one covers all, as told too often is better than never.
            for i in range(1, self.kept.count):
                first.start = min(first.start, first[i].start)
                first.end = max(first.end, first[i].end)
            first.start = min(first.start, start) if self.kept.count else start
            first.end = max(first.end, end) if self.kept.count else end
            self.kept.count = 1

    cdef int lift_kept(self, int pagemap, int maps) noexcept nogil:
        """Lift the protection of the remembered pages; return -errno for those that remain."""
        cdef size_t i, left = 0
        cdef int problem, last = 0
        for i in range(self.kept.count):
            problem = self.lift(
                pagemap, maps, self.kept.regions[i].start, self.kept.regions[i].end)
            if problem < 0:
                last = problem
                self.kept.regions[left] = self.kept.regions[i]
                left += 1
        self.kept.count = left
        return last


cdef int register_once(int fd, uint64_t mode, uint64_t start, uint64_t end) noexcept nogil:
    cdef abi.uffdio_register wanted
    memset(&wanted, 0, sizeof(wanted))
    wanted.range.start = start
    wanted.range.len = end - start
    wanted.mode = mode
    return 0 if abi.ioctl(fd, abi.UFFDIO_REGISTER, &wanted) >= 0 else -errno


cdef int unregister_once(int fd, uint64_t mode, uint64_t start, uint64_t end) noexcept nogil:
    cdef abi.uffdio_range span
    cdef int problem
    if mode == abi.UFFDIO_REGISTER_MODE_WP:
        # Kernels before 6.17 unregister what another descriptor has registered, too.
        problem = register_once(fd, mode, start, end)
        if problem in (-EBUSY, -EINVAL, -ENOMEM):
            return problem
    span.start = start
    span.len = end - start
    return 0 if abi.ioctl(fd, abi.UFFDIO_UNREGISTER, &span) >= 0 else -errno


cdef int lift_once(int fd, uint64_t start, uint64_t end) noexcept nogil:
    """Lift the protection of pages, up to the first mapping that is not registered (-ENOENT)."""
    cdef abi.uffdio_writeprotect lifted
    memset(&lifted, 0, sizeof(lifted))
    lifted.range.start = start
    lifted.range.len = end - start
    return 0 if abi.ioctl(fd, abi.UFFDIO_WRITEPROTECT, &lifted) >= 0 else -errno


cdef int find_unregistered(int pagemap, uint64_t start, uint64_t end) noexcept nogil:
    """Return -EPERM if part of a span is not registered; -EOPNOTSUPP if no one may ask."""
    cdef abi.scan_arg arg
    cdef ssize_t got
    memset(&arg, 0, sizeof(arg))
    arg.start, arg.end = start, end
    arg.flags = abi.PM_SCAN_CHECK_WPASYNC
    # Of no interest is what is registered, so that no page table is looked at.
    arg.category_mask = arg.category_inverted = abi.PAGE_IS_WPALLOWED
    got = scan_once(pagemap, &arg, NULL, 0)
    return 0 if got >= 0 else why_refused(pagemap, got)


cdef int why_refused(int pagemap, ssize_t problem) noexcept nogil:
    """Return the reason of a scan's failure: -EOPNOTSUPP if a scan of nothing fails as well."""
    cdef abi.scan_arg arg
    if problem not in (-EPERM, -EACCES, -ENOSYS, -ENOTTY, -EINVAL, -EOPNOTSUPP):
        return problem
    memset(&arg, 0, sizeof(arg))
    return problem if scan_once(pagemap, &arg, NULL, 0) >= 0 else -EOPNOTSUPP


cdef int lift_registered(int fd, int pagemap, uint64_t start, uint64_t end) noexcept nogil:
    """Lift the protection of what is still registered; -ENOENT if that has just changed."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef ssize_t count
    cdef int i, problem, last = 0
    while start < end:
        memset(&arg, 0, sizeof(arg))
        arg.start = start
        arg.end = min(end, start + (<uint64_t> LOOK_PAGES << PAGE_SHIFT))
        arg.category_mask = arg.return_mask = abi.PAGE_IS_WPALLOWED
        count = scan_once(pagemap, &arg, regions, REGIONS)
        if count < 0:
            return count
        for i in range(count):
            problem = lift_once(fd, regions[i].start, regions[i].end)
            if problem < 0 and last in (0, -ENOENT):
                last = problem
        start = arg.start
    return last


cdef void unregister_all(int fd, uint64_t mode, uint64_t start, uint64_t end) noexcept nogil:
    """Unregister a span; if a part is refused, because mapped anew, the rest."""
    cdef int left = MAX_REQUESTS
    unregister_halves(fd, mode, start, end, &left)


cdef void unregister_halves(int fd, uint64_t mode, uint64_t start, uint64_t end,
                            int *left) noexcept nogil:
    """Unregister a span or, if refused, its halves, cut between huge pages."""
    cdef uint64_t half = <uint64_t> 1 << PAGE_SHIFT
    left[0] -= 1
    if left[0] < 0 or unregister_once(fd, mode, start, end) >= 0 or end - start <= half:
        return
    while 2 * half < end - start:
        half *= 2
    unregister_halves(fd, mode, start, start + half, left)
    unregister_halves(fd, mode, start + half, end, left)
