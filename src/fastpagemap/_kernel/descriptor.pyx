"""Open files that close themselves.

A file is opened and owned within C. So no signal handler, which may raise an exception, runs in
between; and none runs while the file is closed, where an exception could not be raised.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport F_DUPFD_CLOEXEC, O_CLOEXEC, O_RDONLY, fcntl
from posix.unistd cimport close

from fastpagemap._kernel cimport abi

import os
from sys import audit

from .failures import failure

CWD = abi.AT_FDCWD
# linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

cdef enum:
    MAX_TRIES = 4
    SHORT_BYTES = 512


cdef class Descriptor:
    """The number of an open file, in `fd`; it is closed with the last reference to this object."""

    cdef readonly int fd

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        cdef int fd = self.fd
        if fd >= 0:
            with nogil:
                close(fd)


cdef bytes c_text(object path):
    # os.fsencode is slow, and does the same with these.
    encoded = path.encode() if type(path) is str and path.isascii() else os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def open_file(object path, int flags, int directory=abi.AT_FDCWD, int mode=0):
    """Open a path, relative to the descriptor of a directory; a child program does not inherit it.

    `mode` is that of a file that is made.
    """
    cdef Descriptor held = Descriptor.__new__(Descriptor)
    cdef bytes encoded = c_text(path)
    cdef const char *text = encoded
    cdef int problem = 0
    audit("open", path, None, flags)  # as os.open does
    while True:
        with nogil:
            held.fd = abi.openat(directory, text, flags | O_CLOEXEC, mode)
            problem = errno
        if held.fd >= 0:
            return held
        if problem != EINTR:
            raise failure(problem, path)
        PyErr_CheckSignals()


def read_short(object path, int directory):
    """Return what one read gives of a file that is shorter than SHORT_BYTES."""
    cdef Descriptor held = open_file(path, O_RDONLY, directory)
    cdef char[SHORT_BYTES] text
    cdef ssize_t got
    cdef int problem
    while True:
        with nogil:
            got = abi.read(held.fd, text, SHORT_BYTES)
            problem = errno
        if got >= 0:
            return text[:got]
        if problem != EINTR:
            raise failure(problem, path)
        PyErr_CheckSignals()


def duplicate(int fd):
    """Return another descriptor of an open file."""
    cdef Descriptor held = Descriptor.__new__(Descriptor)
    held.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    if held.fd < 0:
        raise failure(errno, f"descriptor {fd}")
    return held


def open_resolved(object path, int flags, uint64_t resolve, int directory=abi.AT_FDCWD):
    """Open a path by openat2 (Linux 5.6), with rules for its way."""
    cdef Descriptor held = Descriptor.__new__(Descriptor)
    cdef bytes encoded = c_text(path)
    cdef const char *text = encoded
    cdef abi.open_how how
    cdef int problem, tries = MAX_TRIES
    memset(&how, 0, sizeof(how))
    how.flags = flags | O_CLOEXEC
    how.resolve = resolve
    while True:
        with nogil:
            held.fd = abi.syscall(abi.SYS_openat2, directory, text, &how, sizeof(how))
            problem = errno
        if held.fd >= 0:
            return held
        PyErr_CheckSignals()
        # EAGAIN: someone renamed something meanwhile. Or, for RESOLVE_CACHED, it is not in memory.
        if problem == EAGAIN:
            tries -= 1
        if problem != EINTR and (problem != EAGAIN or tries == 0):
            raise failure(problem, path)


def open_memory(str name, unsigned int flags=0):
    """Make a file in memory (memfd_create)."""
    cdef Descriptor held = Descriptor.__new__(Descriptor)
    cdef bytes encoded = c_text(name)
    held.fd = abi.syscall(abi.SYS_memfd_create, <const char *> encoded, flags | abi.MFD_CLOEXEC)
    if held.fd < 0:
        raise failure(errno, f"memfd_create {name}")
    return held


def open_pidfd(int pid):
    """Open a process by its pid in the pid namespace of this process (Linux 5.3)."""
    cdef Descriptor held = Descriptor.__new__(Descriptor)
    held.fd = abi.syscall(abi.SYS_pidfd_open, pid, 0)
    if held.fd < 0:
        raise failure(errno, f"process {pid}")
    return held


def compare_memory(int one, int other):
    """Return 0 if two threads have the same memory, else 1 or 2: which one stands before the other.

    That is kcmp (CONFIG_KCMP), by their ids in the pid namespace of this process. All that have no
    memory have the same.
    """
    cdef long order = abi.syscall(abi.SYS_kcmp, one, other, abi.KCMP_VM, 0L, 0L)
    if order < 0:
        raise failure(errno, f"process {one}")
    return order
