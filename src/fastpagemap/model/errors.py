"""The exceptions this package adds."""

__all__ = ["SnapshotError", "UnsupportedError"]


class UnsupportedError(OSError):
    """The kernel cannot answer the question, or this user may not ask it.

    The message says what is missing and what would provide it. ``errno`` is ``EOPNOTSUPP``
    unless the kernel gave a number of its own.
    """


class SnapshotError(ValueError):
    """A file cannot be read as a snapshot; the message says why, and what to do."""
