"""userfaultfd(2)."""

from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC
from posix.unistd cimport close, getpid

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.reading cimport PAGE_SHIFT

from .failures import failure

cdef enum:
    # Requests for a span of which parts are refused: a limit for memory that is all gone.
    MAX_REQUESTS = 1 << 14

WP_ASYNC = abi.UFFD_FEATURE_WP_ASYNC


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
        return 0  # not compiled in, forbidden, or before Linux 5.11
    close(fd)
    return offered


cdef class Userfaultfd:
    """A descriptor that write-protects pages asynchronously; EINVAL before Linux 6.7.

    `close` closes it; so does the end of the last reference.
    """

    def __cinit__(self):
        cdef uint64_t offered = 0
        self.fd = -1
        self.owner = getpid()
        cdef int fd = open_userfaultfd(abi.UFFD_FEATURE_WP_ASYNC, &offered)
        if fd < 0:
            raise failure(-fd, "userfaultfd")
        self.fd = fd

    def __dealloc__(self):
        self.release()

    def register(self, uint64_t start, uint64_t end):
        """Register a span, so that its pages can be write-protected."""
        cdef abi.uffdio_register wanted
        cdef int got, fd = self.fd, problem
        memset(&wanted, 0, sizeof(wanted))
        wanted.range.start = start
        wanted.range.len = end - start
        wanted.mode = abi.UFFDIO_REGISTER_MODE_WP
        with nogil:
            got = abi.ioctl(fd, abi.UFFDIO_REGISTER, &wanted)
            problem = errno
        if got < 0:
            raise failure(problem, "userfaultfd")
        self.start, self.end = start, end

    def close(self):
        """Unregister the memory, which lifts all write protection; a second call does nothing."""
        self.release()

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
                request_all(fd, unregister_once, self.start, self.end)
            close(fd)

    cdef void lift(self, uint64_t start, uint64_t end) noexcept nogil:
        """Lift the protection of pages: they count as written again."""
        if self.fd >= 0:
            request_all(self.fd, lift_once, start, end)


ctypedef int (*request_t)(int fd, uint64_t start, uint64_t end) noexcept nogil


cdef int unregister_once(int fd, uint64_t start, uint64_t end) noexcept nogil:
    cdef abi.uffdio_range span
    span.start = start
    span.len = end - start
    return abi.ioctl(fd, abi.UFFDIO_UNREGISTER, &span)


cdef int lift_once(int fd, uint64_t start, uint64_t end) noexcept nogil:
    cdef abi.uffdio_writeprotect lifted
    memset(&lifted, 0, sizeof(lifted))
    lifted.range.start = start
    lifted.range.len = end - start
    return abi.ioctl(fd, abi.UFFDIO_WRITEPROTECT, &lifted)


cdef void request_all(int fd, request_t request, uint64_t start, uint64_t end) noexcept nogil:
    """Make a request for a span; if a part is refused, because mapped anew, for the rest."""
    cdef int left = MAX_REQUESTS
    request_halves(fd, request, start, end, &left)


cdef void request_halves(int fd, request_t request, uint64_t start, uint64_t end,
                         int *left) noexcept nogil:
    """Make a request for a span or, if refused, for its halves, cut between huge pages."""
    cdef uint64_t half = <uint64_t> 1 << PAGE_SHIFT
    left[0] -= 1
    if left[0] < 0 or request(fd, start, end) >= 0 or end - start <= half:
        return
    while 2 * half < end - start:
        half *= 2
    request_halves(fd, request, start, start + half, left)
    request_halves(fd, request, start + half, end, left)
