"""The exceptions this package adds."""

__all__ = ["SnapshotError", "UnsupportedError"]


class UnsupportedError(OSError):
    """What was asked is something this kernel, or this user, cannot answer.

    The message says what is missing and what would provide it. ``errno`` is ``EOPNOTSUPP``
    unless the kernel gave a number of its own.
    """


class SnapshotError(ValueError):
    """A file is no snapshot that can be read; the message says why, and what to do."""
