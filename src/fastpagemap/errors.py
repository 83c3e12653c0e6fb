"""Errno to exception, and the exceptions this package adds."""

import os

__all__ = ["SnapshotError", "UnsupportedError", "failure"]


class UnsupportedError(OSError):
    """What was asked is something this kernel, or this user, cannot answer.

    The message says what is missing and what would provide it. ``errno`` is ``EOPNOTSUPP``
    unless the kernel gave a number of its own.
    """


class SnapshotError(ValueError):
    """A file is no snapshot that can be read; the message says why, and what to do."""


def failure(number: int, what: str) -> OSError:
    """Return the OSError of an errno that a system call on `what` gave."""
    return OSError(number, os.strerror(number), what)
