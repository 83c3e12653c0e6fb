"""Markers over pages of shared memory: entries that look like swap, and are not."""

import contextlib
import ctypes
import fcntl
import struct

import oracle
import uffd
from linux import PAGE

_FEATURE_WP_SHMEM = 1 << 12


def mark(made, first, last):
    """Put markers on pages that are not in the page table: what the file has there stays."""
    (line,) = [line for line in oracle.maps() if line.start == made.start]
    if "s" in line.permissions:
        _write_protect(made, first, last)
    else:
        _poison(made, first, last)


def _write_protect(made, first, last):
    features = uffd._FEATURES_WP | _FEATURE_WP_SHMEM
    what = "userfaultfd write protection (Linux 6.4)"
    watch = uffd._watched(made, features, uffd._MODE_WP, what)
    request = struct.pack("QQQ", made.at(first), (last - first) * PAGE, 1)
    fcntl.ioctl(watch, uffd._IO_WRITEPROTECT, request)


def _poison(made, first, last):
    what = "userfaultfd poison (Linux 6.6)"
    watch = uffd._watched(made, uffd._FEATURE_POISON, uffd._MODE_MISSING, what)
    for page in range(first, last):
        request = struct.pack("QQQq", made.at(page), PAGE, 0, 0)
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(watch, uffd._IO_POISON, ctypes.create_string_buffer(request))
