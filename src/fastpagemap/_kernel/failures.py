"""Errno to exception, and what an exception tells: of a call, of a file, or of neither."""

import errno
import os
import resource
from types import TracebackType

__all__ = ["IgnoringFileErrors", "exists", "failure", "is_refusal", "tells_of_file", "walk_failure"]

# How a kernel that lacks a call, or a sandbox that forbids it, answers. Any other errno is about
# this one call: the next may succeed.
_REFUSALS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP}
)
# What this process, or this machine, ran out of.
_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# What a signal, or an exception that its handler raised, looks like.
_INTERRUPTIONS = frozenset({None, errno.EINTR, errno.ETIMEDOUT, errno.EPIPE})


def failure(number: int, what: str) -> OSError:
    """Return the OSError of an errno that a system call on `what` gave."""
    text = os.strerror(number)
    if number == errno.ESRCH:  # not said of a pid alone: another program may run with it
        text = "its memory is gone: the process exited or called exec"
    return OSError(number, text + _files_allowed() if number == errno.EMFILE else text, what)


def walk_failure(number: int, path: str) -> Exception:
    """Return the exception for an errno of what collects results: ENOMEM is of their memory."""
    if number == errno.ENOMEM:
        return MemoryError(f"no memory for what is read of {path}")
    return failure(number, path)


def _files_allowed() -> str:
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # a sandbox forbids to ask
        return ""
    return f": raise RLIMIT_NOFILE (ulimit -n), which is {soft}, of {hard} at most"


def is_refusal(error: OSError) -> bool:
    """Return whether an error says that the call is not there, or forbidden to this process."""
    return error.errno in _REFUSALS


def tells_of_file(error: OSError) -> bool:
    """Return whether an error tells about the file that was to be opened, asked or read.

    Only then may another way be tried, or the answer be `unknown`. Other errors must be raised:
    that there was no descriptor or memory left says nothing of the file, and a signal handler's
    TimeoutError is an OSError, too.
    """
    return error.errno not in _RESOURCES and error.errno not in _INTERRUPTIONS


class IgnoringFileErrors:
    """Leaves a block at an OSError that tells about a file; any other exception is raised."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Return whether the exception is ignored."""
        return isinstance(error, OSError) and tells_of_file(error)


def exists(path: str) -> bool:
    """Return whether a file is there, as far as this process may see.

    os.path.exists does not raise what a signal handler raises.
    """
    with IgnoringFileErrors():
        os.stat(path)
        return True
    return False
