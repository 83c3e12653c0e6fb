"""Why /proc does not show what a process needs for being read: in words, and never "it exited"."""

import errno
import os

from .._kernel import lookup
from .._kernel.descriptor import Descriptor
from .._kernel.failures import IgnoringFileErrors, tells_of_file
from ..model.errors import UnsupportedError

__all__ = ["check_uncovered", "hidden_process", "missing_file"]


def check_uncovered(file: Descriptor, path: str) -> None:
    """Raise UnsupportedError if a file or directory in /proc has another one mounted over it.

    So processes are hidden: what is there is another one's, or nobody's.
    """
    covered = False
    with IgnoringFileErrors():  # a sandbox forbids to ask
        covered = lookup.is_mount_root(file.fd)
    if covered:
        raise UnsupportedError(
            errno.EOPNOTSUPP, "something else is mounted over it (see mountinfo): unmount it", path
        )


def hidden_process(pid: int) -> OSError | None:
    """Return why /proc does not show a process that is running; None if there is none."""
    if not _is_running(pid):
        return None
    return PermissionError(
        errno.EACCES,
        f"{os.strerror(errno.EACCES)} (it is running, but this /proc does not show it: "
        "mounted with hidepid, it needs the same user or CAP_SYS_PTRACE)",
        f"/proc/{pid}",
    )


def missing_file(directory: int, thread: str, path: str) -> OSError | None:
    """Return why /proc/PID, held open, lacks a file; None if the process or thread is gone."""
    try:
        os.stat(f"{thread}comm", dir_fd=directory)
    except OSError as error:
        if not tells_of_file(error):
            raise
        return None
    return UnsupportedError(
        errno.EOPNOTSUPP,
        f"this /proc has no {os.path.basename(path)}: gVisor has none, and neither has a kernel "
        "built without CONFIG_PROC_PAGE_MONITOR; the process itself is running",
        path,
    )


def _is_running(pid: int) -> bool:
    """Return whether a process is known to be running, whoever owns it."""
    try:
        os.kill(os.getpid(), 0)  # a sandbox that forbids this forbids the next as well
    except OSError as error:
        if not tells_of_file(error):
            raise
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
