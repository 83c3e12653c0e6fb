# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=False, auto_pickle=False
"""userfaultfd(2)."""

from libc.errno cimport errno
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC
from posix.unistd cimport close

from fastpagemap cimport kernel

from .errors import failure


def features():
    """Return the features that the kernel offers this user, as a number; 0 for none.

    Asked of a descriptor for faults of user mode alone, which needs no privilege (Linux 5.11).
    """
    cdef kernel.uffdio_api api
    cdef int fd = kernel.syscall(
        kernel.SYS_userfaultfd, O_CLOEXEC | kernel.UFFD_USER_MODE_ONLY), problem = 0
    if fd < 0:
        return 0  # not compiled in, forbidden, or before Linux 5.11
    memset(&api, 0, sizeof(api))
    api.api = kernel.UFFD_API
    if kernel.ioctl(fd, kernel.UFFDIO_API, &api) < 0:
        problem = errno
    close(fd)
    if problem:
        raise failure(problem, "userfaultfd")
    return api.features
