"""The exceptions this package adds."""

import errno

__all__ = ["SnapshotError", "UnsupportedError", "tells_of_file"]

# What this process, or this machine, ran out of.
_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
# What a signal, or an exception that its handler raised, looks like.
_INTERRUPTIONS = (None, errno.EINTR, errno.ETIMEDOUT, errno.EPIPE)


class UnsupportedError(OSError):
    """The kernel cannot answer the question, or this user may not ask it.

    The message says what is missing and what would provide it. ``errno`` is ``EOPNOTSUPP``
    unless the kernel gave a number of its own.
    """


class SnapshotError(ValueError):
    """A file cannot be read as a snapshot; the message says why, and what to do."""


def tells_of_file(error: OSError) -> bool:
    """Return whether an error tells about the file that was to be opened, asked or read.

    Only then may another way be tried, or the answer be `unknown`. Other errors must be raised:
    that there was no descriptor or memory left says nothing of the file, and a signal handler's
    TimeoutError is an OSError, too.
    """
    return error.errno not in _RESOURCES and error.errno not in _INTERRUPTIONS
