"""Makers of memory under userfaultfd: entries that look like swap and are markers."""

import ctypes
import fcntl
import os
import struct

import linux
from linux import PAGE
from memory import Memory
from needs import need, refusal

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API = 0xAA
_FEATURES_WP = (1 << 0) | (1 << 13)  # write protection, of pages never touched too (6.4)
_FEATURE_POISON = 1 << 14  # 6.6
_FEATURE_WP_ASYNC = 1 << 15  # 6.7
_MODE_MISSING, _MODE_WP = 1, 2


def _request(number, size):
    """_IOWR(0xAA, number, size)"""
    return 3 << 30 | size << 16 | _API << 8 | number


_IO_API = _request(0x3F, 24)
_IO_REGISTER = _request(0x00, 32)
_IO_WRITEPROTECT = _request(0x06, 24)
_IO_ZEROPAGE = _request(0x04, 32)
_IO_POISON = _request(0x08, 32)


def _watched(memory, features, mode, what):
    """Register memory with a new userfaultfd; return its descriptor, which the memory closes."""
    try:
        number = _USERFAULTFD[os.uname().machine]
        fd = linux.syscall(number, os.O_CLOEXEC | _USER_MODE_ONLY)
        memory.undo.callback(os.close, fd)
        fcntl.ioctl(fd, _IO_API, struct.pack("QQQ", _API, features, 0))
        size = memory.end - memory.start
        fcntl.ioctl(fd, _IO_REGISTER, struct.pack("QQQQ", memory.start, size, mode, 0))
    except (KeyError, OSError) as error:
        raise refusal(error, what) from error
    need(True, what)
    return fd


def write_protected(pages):
    """Every other page written, then all write-protected: the holes hold markers."""
    memory = Memory(pages)
    with memory.undone_on_error():
        memory.write(step=2)
        fd = _watched(memory, _FEATURES_WP, _MODE_WP, "userfaultfd write protection (Linux 6.4)")
        fcntl.ioctl(fd, _IO_WRITEPROTECT, struct.pack("QQQ", memory.start, pages * PAGE, 1))
    return memory


def zero_filled(pages):
    """Every other page filled by userfaultfd with the zero page, without an access."""
    memory = Memory(pages)
    with memory.undone_on_error():
        fd = _watched(memory, 0, _MODE_MISSING, "userfaultfd")
        for page in range(0, pages, 2):
            fcntl.ioctl(fd, _IO_ZEROPAGE, struct.pack("QQQq", memory.at(page), PAGE, 0, 0))
    return memory


def poisoned(pages):
    """Written, every other page then poisoned: markers that only their swap type gives away."""
    memory = Memory(pages)
    with memory.undone_on_error():
        memory.write()
        fd = _watched(memory, _FEATURE_POISON, _MODE_MISSING, "userfaultfd poison (Linux 6.6)")
        for page in range(0, pages, 2):
            memory.drop(page, page + 1)
            request = struct.pack("QQQq", memory.at(page), PAGE, 0, 0)
            fcntl.ioctl(fd, _IO_POISON, ctypes.create_string_buffer(request))
    return memory


def track_writes(memory):
    """Have memory tracked as by WriteTracker, by a descriptor that the memory closes."""
    features = _FEATURES_WP | _FEATURE_WP_ASYNC
    return _watched(memory, features, _MODE_WP, "userfaultfd WP_ASYNC (Linux 6.7)")
