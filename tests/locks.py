"""Leases and locks of files, as another program would hold them."""

import fcntl
import os
import signal


def lease(fd):
    """Take a lease for writing on an open file; whoever opens it for reading ends this process.

    The kernel gives none on a memfd, but to who opens it again. Returns its descriptor.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return fd


def lock_pages(path, files, locks):
    """Take so many locks on each of so many nameless files, made at a path; their descriptors."""
    fds = []
    for _ in range(files):
        fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
        for at in range(locks):  # apart, or the kernel makes one of two
            fcntl.lockf(fds[-1], fcntl.LOCK_EX, 1, 2 * at)
    return fds
