"""Which process an int or an object means, and whether the object knows that it has ended."""

import errno
import operator
import os
import select
import sys
from collections.abc import Iterable
from typing import Any

from ..model.errors import UnsupportedError
from .namespaces import is_foreign

__all__ = ["check_running", "each", "pid_of"]


def pid_of(process: Any) -> int:
    """Return the pid of an int, or of any object with a ``.pid``; 0 stands for no process.

    Raises
    ------
    TypeError
        It is neither.
    ValueError
        The pid is not a positive number.
    ProcessLookupError
        The object knows itself that its process has ended, so that its pid may be another's.
    UnsupportedError
        It is psutil's, and /proc shows another pid namespace: psutil looks up strangers there.
    """
    pid = getattr(process, "pid", process)
    if isinstance(pid, bool):
        raise TypeError(f"a pid is an int, not {pid!r}")
    try:
        pid = operator.index(pid)
    except TypeError:
        raise TypeError(
            "process must be a pid, or an object with a .pid (of a process that was started), "
            f"not {process!r}"
        ) from None
    if pid <= 0:
        raise ValueError(f"pid {pid}: a pid is a positive number")
    check_running(process)
    return pid


def each(processes: Any) -> Iterable[Any]:
    """Return some processes, or the one that was given alone."""
    # pexpect's are lines of output, too.
    alone = hasattr(processes, "pid") or not isinstance(processes, Iterable)
    return [processes] if alone else processes


def check_running(process: Any) -> None:
    """Raise ProcessLookupError if an object knows that its process has ended; an int never does.

    Asked before and after /proc/PID is opened: in between the pid may be given to another process.
    """
    if isinstance(process, int):
        return
    # A PageMap holds the process itself open.
    check_own = getattr(process, "_check_running", None)
    if check_own is not None:
        check_own()
        return
    is_running = getattr(process, "is_running", None)
    if is_running is not None and is_foreign():
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"/proc shows another pid namespace, so which process {process!r} means is not known: "
            "give the pid itself",
        )
    if _knows_its_end(process) or _sees_its_end(process) or _is_no_child(process):
        raise ProcessLookupError(errno.ESRCH, f"{process!r} has ended")
    # psutil.Process sees another start time under its pid.
    if is_running is not None and not is_running():
        raise ProcessLookupError(errno.ESRCH, f"{process!r} has ended")


def _knows_its_end(process: Any) -> bool:
    """Return whether the process was waited for: by subprocess, asyncio; multiprocessing; pexpect.

    What these processes leave behind until then keeps their pid from being another's.
    """
    return (
        getattr(process, "returncode", None) is not None
        or getattr(process, "exitcode", None) is not None
        or getattr(process, "terminated", None) is True
    )


def _sees_its_end(process: Any) -> bool:
    """Return whether the sentinel of a multiprocessing.Process says that it has ended."""
    try:
        sentinel = getattr(process, "sentinel", None)
    except ValueError:  # the main process has none
        return False
    if not isinstance(sentinel, int):
        return False
    poll = select.poll()
    poll.register(sentinel, select.POLLIN)
    return any(events & (select.POLLIN | select.POLLHUP) for _, events in poll.poll(0))


def _is_no_child(process: Any) -> bool:
    """Return whether a process that this one has started was waited for behind its object's back.

    Others may wait for any child, or SIGCHLD may be ignored; asyncio tells its object late.
    """
    for module, name in (("subprocess", "Popen"), ("asyncio.subprocess", "Process")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(process, kind):
            try:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                    raise
    return False
