"""Errno to exception, and which errno means that a call is not there."""

import errno
import os

__all__ = ["failure", "is_refusal"]

# How a kernel that lacks a call, or a sandbox that forbids it, answers. Any other errno is about
# this one call: the next may succeed.
_REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY})


def failure(number: int, what: str) -> OSError:
    """Return the OSError of an errno that a system call on `what` gave."""
    return OSError(number, os.strerror(number), what)


def is_refusal(error: OSError) -> bool:
    """Return whether an error says that the call is not there, or forbidden to this process."""
    return error.errno in _REFUSALS
