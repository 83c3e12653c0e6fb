"""Look at a file without waiting for the server of its file system."""

from libc.errno cimport EINTR, errno
from libc.string cimport memset

from fastpagemap._kernel cimport abi

import os

from .failures import failure


cdef int look(int fd, abi.statx_t *found) except -1:
    cdef int flags = (abi.AT_EMPTY_PATH | abi.AT_NO_AUTOMOUNT | abi.AT_SYMLINK_NOFOLLOW
                      | abi.AT_STATX_DONT_SYNC)
    memset(found, 0, sizeof(found[0]))
    while abi.syscall(abi.SYS_statx, fd, b"", flags, abi.STATX_BASIC, found) < 0:
        if errno != EINTR:
            raise failure(errno, "statx")
    return 0


def stat(int fd):
    """Return what the kernel knows of an open file, by O_PATH or for reading, without a request.

    The tuple: device, inode, mode, whether its data are on this machine for sure, size, and the
    times of its last change and of that of its content, in ns.
    """
    cdef abi.statx_t found
    look(fd, &found)
    return (
        os.makedev(found.dev_major, found.dev_minor), found.ino, found.mode,
        found.attributes_mask & abi.STATX_ATTR_LOCAL == abi.STATX_ATTR_LOCAL, found.size,
        found.ctime.tv_sec * 10**9 + found.ctime.tv_nsec,
        found.mtime.tv_sec * 10**9 + found.mtime.tv_nsec)


def is_mount_root(int fd):
    """Return whether something is mounted just there (known since Linux 5.8)."""
    cdef abi.statx_t found
    look(fd, &found)
    return found.attributes & abi.STATX_ATTR_MOUNT_ROOT != 0


def handle(int fd):
    """Return the type of the handle that a file system makes of an open file, and its bytes.

    The kernel makes it from what it has in memory. Each file system has a format of its own.
    """
    cdef abi.file_handle found
    cdef int mount
    found.bytes = sizeof(found.handle)
    if abi.syscall(abi.SYS_name_to_handle_at, fd, b"", &found, &mount, abi.AT_EMPTY_PATH) < 0:
        raise failure(errno, "name_to_handle_at")
    return found.type, found.bytes


def aio_setup():
    """Make a ring of aio, which the kernel maps, and return its address."""
    cdef unsigned long address = 0
    if abi.syscall(abi.SYS_io_setup, 1, &address) < 0:
        raise failure(errno, "io_setup")
    return address


def aio_destroy(unsigned long address):
    """Remove a ring of aio."""
    abi.syscall(abi.SYS_io_destroy, address)
