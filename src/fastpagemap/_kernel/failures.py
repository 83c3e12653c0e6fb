"""Errno to exception."""

import os

__all__ = ["failure"]


def failure(number: int, what: str) -> OSError:
    """Return the OSError of an errno that a system call on `what` gave."""
    return OSError(number, os.strerror(number), what)
