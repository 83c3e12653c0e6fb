# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=False, auto_pickle=False
"""userfaultfd(2)."""

from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC
from posix.unistd cimport close

from fastpagemap cimport kernel

from .errors import failure


WP_ASYNC = kernel.UFFD_FEATURE_WP_ASYNC


cdef int opened(uint64_t features, uint64_t *offered) noexcept nogil:
    """Return a descriptor for faults of user mode alone, which needs no privilege (Linux 5.11)."""
    cdef kernel.uffdio_api api
    cdef int fd = kernel.syscall(
        kernel.SYS_userfaultfd, O_CLOEXEC | kernel.UFFD_USER_MODE_ONLY), problem
    if fd < 0:
        return -errno
    memset(&api, 0, sizeof(api))
    api.api = kernel.UFFD_API
    api.features = features
    if kernel.ioctl(fd, kernel.UFFDIO_API, &api) < 0:
        problem = errno
        close(fd)
        return -problem
    offered[0] = api.features
    return fd


def features():
    """Return the features that the kernel offers this user, as a number; 0 for none."""
    cdef uint64_t offered = 0
    cdef int fd = opened(0, &offered)
    if fd < 0:
        return 0  # not compiled in, forbidden, or before Linux 5.11
    close(fd)
    return offered


def open_async():
    """Return a descriptor that write-protects without anyone waiting; EINVAL before Linux 6.7."""
    cdef uint64_t offered = 0
    cdef int fd = opened(kernel.UFFD_FEATURE_WP_ASYNC, &offered)
    if fd < 0:
        raise failure(-fd, "userfaultfd")
    return fd


def register(int fd, uint64_t start, uint64_t end):
    """Have the memory of a span write-protected on demand."""
    cdef kernel.uffdio_register asked
    cdef int got
    memset(&asked, 0, sizeof(asked))
    asked.range.start = start
    asked.range.len = end - start
    asked.mode = kernel.UFFDIO_REGISTER_MODE_WP
    with nogil:
        got = kernel.ioctl(fd, kernel.UFFDIO_REGISTER, &asked)
    if got < 0:
        raise failure(errno, "userfaultfd")


def unregister(int fd, uint64_t start, uint64_t end):
    """Undo `register`, and every write protection with it."""
    cdef kernel.uffdio_range asked
    cdef int got
    asked.start = start
    asked.len = end - start
    with nogil:
        got = kernel.ioctl(fd, kernel.UFFDIO_UNREGISTER, &asked)
    if got < 0:
        raise failure(errno, "userfaultfd")
