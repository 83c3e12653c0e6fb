"""Numbers of the system calls that fastpagemap makes, itself or through Python and numpy.

Without those that no Python runs without: read, write, close, mmap and the like.
"""

import os

from needs import Absent

_NUMBERS = {
    "x86_64": {
        "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8, "ioctl": 16, "pread64": 17,
        "access": 21, "mincore": 27, "madvise": 28, "dup": 32, "getpid": 39, "uname": 63,
        "fcntl": 72, "readlink": 89, "sysinfo": 99, "getuid": 102, "geteuid": 107, "statfs": 137,
        "fstatfs": 138, "prctl": 157, "getdents64": 217, "clock_gettime": 228, "openat": 257,
        "newfstatat": 262, "readlinkat": 267, "memfd_create": 319, "userfaultfd": 323,
        "statx": 332, "move_pages": 279,
    },
    "aarch64": {
        "dup": 23, "fcntl": 25, "ioctl": 29, "statfs": 43, "fstatfs": 44, "openat": 56,
        "getdents64": 61, "lseek": 62, "pread64": 67, "readlinkat": 78,
        "newfstatat": 79, "fstat": 80, "clock_gettime": 113, "uname": 160, "prctl": 167,
        "getpid": 172, "getuid": 174, "geteuid": 175, "sysinfo": 179, "mincore": 232,
        "madvise": 233, "move_pages": 239, "memfd_create": 279, "userfaultfd": 282, "statx": 291,
    },
}  # fmt: skip
# One number on every architecture.
_NEW = {"pidfd_open": 434, "openat2": 437, "faccessat2": 439, "cachestat": 451}

#: Requests of ioctl.
REQUESTS = {
    "PAGEMAP_SCAN": 0xC0606610,
    "PROCMAP_QUERY": 0xC0686611,
    "UFFDIO_API": 0xC018AA3F,
    "UFFDIO_REGISTER": 0xC020AA00,
    "UFFDIO_UNREGISTER": 0x8010AA01,
    "UFFDIO_WRITEPROTECT": 0xC018AA06,
}

#: Names that `number` knows here.
NAMES = sorted({**_NUMBERS.get(os.uname().machine, {}), **_NEW})


def number(name):
    """The number of a system call."""
    try:
        return {**_NUMBERS[os.uname().machine], **_NEW}[name]
    except KeyError as error:
        raise Absent(f"the number of {name} on this architecture") from error
