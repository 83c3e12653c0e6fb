"""System calls that the kernel refuses, by a seccomp filter: for good, so for a forked child."""

import ctypes
import errno
import os
import struct
import sys

import linux
from needs import Absent

_SET_SECCOMP, _MODE_FILTER, _NO_NEW_PRIVS = 22, 2, 38
_LOAD_WORD, _SKIP_UNLESS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARGUMENTS = 0, 16  # offsets in struct seccomp_data
_LOW = 0 if sys.byteorder == "little" else 4
_IOCTL = {"x86_64": 16, "aarch64": 29}
#: Calls that find a file, by architecture.
_FINDING = {
    "statx": {"x86_64": 332, "aarch64": 291},
    "openat2": {"x86_64": 437, "aarch64": 437},
    "name_to_handle_at": {"x86_64": 303, "aarch64": 264},
    "readlinkat": {"x86_64": 267, "aarch64": 78},
    "fstatfs": {"x86_64": 138, "aarch64": 44},
}
_MREMAP = {"x86_64": 25, "aarch64": 216}
_PROCMAP_QUERY = 0xC0686611
_PAGEMAP_SCAN = 0xC0606610


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(number, error, second=None):
    """Have a system call fail with an errno; with `second`, only where that is its argument."""
    wanted = [(_NUMBER, number)]
    if second is not None:
        wanted.append((_ARGUMENTS + 8 + _LOW, second))
    steps = []
    for index, (offset, value) in enumerate(wanted):
        steps.append((_LOAD_WORD, 0, 0, offset))
        # to the last step, which allows, unless all are met
        steps.append((_SKIP_UNLESS_EQUAL, 0, 2 * (len(wanted) - index) - 1, value))
    steps += [(_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    try:
        linux.call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
        program = _Program(len(steps), code)
        linux.call("prctl", _SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))
    except OSError as error:
        raise Absent("seccomp filters") from error


def without_mremap():
    """As where memory has run out: what is larger than a page grows no more in place."""
    refuse(_MREMAP[os.uname().machine], errno.ENOMEM)


def without_cachestat(error):
    """As before Linux 6.5 (ENOSYS), or to someone who may not ask (EPERM)."""
    refuse(linux.CACHESTAT, error)


def without_procmap_query():
    """As before Linux 6.11: a mapping can only be looked up in the text of maps."""
    _refuse_ioctl(_PROCMAP_QUERY)


def without_scan():
    """As before Linux 6.7: there are entries alone."""
    _refuse_ioctl(_PAGEMAP_SCAN)
    forget()


def forget():
    """Forget what the parent has found out about its kernel."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fastpagemap"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def scan_without_progress():
    """As no kernel is: PAGEMAP_SCAN succeeds, and has looked at nothing."""
    _refuse_ioctl(_PAGEMAP_SCAN, 0)


def _refuse_ioctl(request, error=errno.ENOTTY):
    try:
        refuse(_IOCTL[os.uname().machine], error, request)
    except KeyError as error:
        raise Absent("the number of ioctl on this architecture") from error


def without(name, error):
    """Have one of the calls that find a file fail."""
    try:
        refuse(_FINDING[name][os.uname().machine], error)
    except KeyError as error:
        raise Absent(f"the number of {name} on this architecture") from error
