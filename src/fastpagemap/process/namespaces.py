"""Which directory of /proc a process has, where /proc may show another pid namespace than this one.

A container may have the /proc of the machine. There the pids of this process and of its children
are the numbers of strangers.
"""

import errno
import os
import re

from .._kernel.descriptor import Descriptor, open_file, open_pidfd
from .._kernel.failures import is_refusal
from .._kernel.lines import read_all
from .._kernel.own_files import own_file
from ..model.errors import UnsupportedError

__all__ = ["directory_of", "hides_others", "is_foreign", "open_directory", "own_number", "pids"]
__all__ += ["shows_all"]

_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO
_PID = re.compile(rb"^Pid:\t(-?\d+)", re.MULTILINE)
_NUMBERS = re.compile(rb"^NSpid:\t(.*)", re.MULTILINE)


def is_foreign() -> bool:
    """Return whether the numbers in /proc are those of another pid namespace.

    Raises
    ------
    UnsupportedError
        /proc does not show this process at all.
    """
    try:
        shown = os.readlink("/proc/self")
    except FileNotFoundError:
        raise _no_proc() from None
    except OSError as error:
        if not is_refusal(error):
            raise
        # This process may not read links. Its number is in a file as well.
        stat = open_file("/proc/self/stat", os.O_RDONLY)
        shown = read_all(stat.fd, "/proc/self/stat").split(b" ", 1)[0].decode()
    return shown != str(os.getpid())


def hides_others() -> bool:
    """Return whether /proc does not list the processes of other users (the option hidepid)."""
    return not os.path.exists("/proc/1")


def shows_all() -> bool:
    """Return whether `pids` returns all processes of the machine.

    It does not in a container, or where /proc hides processes.
    """
    try:
        is_first = os.stat(own_file("ns/pid")).st_ino == _FIRST_PID_NAMESPACE
    except FileNotFoundError:  # a kernel without pid namespaces
        is_first = True
    except OSError as error:
        if not is_refusal(error):
            raise
        is_first = False
    return is_first and not hides_others()


def open_directory(pid: int) -> Descriptor:
    """Open the directory in /proc of a process, given its pid as this process's system calls do.

    Raises
    ------
    FileNotFoundError, ProcessLookupError
        There is no such process.
    UnsupportedError
        /proc shows another pid namespace, and which process this is there cannot be found out.
    """
    if pid == os.getpid():
        try:
            return open_file("/proc/self", _FLAGS)
        except FileNotFoundError:
            raise _no_proc() from None
    if not is_foreign():
        return open_file(f"/proc/{pid}", _FLAGS)
    held = _open_process(pid)
    directory = open_file(f"/proc/{_number(held, pid)}", _FLAGS)
    # The number was still this process's when its directory was opened.
    _number(held, pid)
    return directory


def directory_of(pid: int) -> str:
    """Return the path of a process's directory in /proc; raise as `open_directory` does."""
    return f"/proc/{_number(_open_process(pid), pid) if is_foreign() else pid}"


def own_number(pid: int) -> int:
    """Return the pid that a process has in its own pid namespace: what os.getpid() is there."""
    numbers = _numbers(os.path.basename(directory_of(pid)))
    return numbers[-1] if numbers else pid


def pids() -> list[int]:
    """Return the pids of all processes, in order; of those in /proc that system calls can name."""
    listed = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    if is_foreign():
        level = len(_numbers("self"))
        listed = [pid for number in listed if (pid := _pid_at(number, level))]
    return sorted(listed)


def _numbers(name: str) -> list[int]:
    """Return the pids of a process in its own pid namespace and in each one around it."""
    status = open_file(f"/proc/{name}/status", os.O_RDONLY)
    found = _NUMBERS.search(read_all(status.fd, "status"))
    return [int(number) for number in found[1].split()] if found else []


def _pid_at(number: int, level: int) -> int:
    """Return the pid of a process in this pid namespace; 0 if it is not in there."""
    try:
        numbers = _numbers(str(number))
        pid = numbers[level - 1] if len(numbers) >= level else 0
        # Another namespace as deep as this one may have given it that pid.
        return pid if pid and _number(_open_process(pid), pid) == number else 0
    except (FileNotFoundError, ProcessLookupError, UnsupportedError):
        return 0


def _open_process(pid: int) -> Descriptor:
    try:
        return open_pidfd(pid)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL):
            raise
        raise _not_shown(pid, error.strerror) from None


def _number(held: Descriptor, pid: int) -> int:
    """Return the number in /proc of a process that is held open; raise if it has ended."""
    fd = open_file(own_file(f"fdinfo/{held.fd}"), os.O_RDONLY)
    found = _PID.search(read_all(fd.fd, "fdinfo"))
    number = int(found[1]) if found else 0
    if number < 0:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"process {pid}")
    if number == 0:
        raise _not_shown(pid, "it is not there")
    return number


def _not_shown(pid: int, why: str | None) -> UnsupportedError:
    return UnsupportedError(
        errno.EOPNOTSUPP,
        f"/proc shows another pid namespace, in which process {pid} cannot be found ({why}): "
        "mount the /proc of this one, as unshare --mount-proc does",
    )


def _no_proc() -> UnsupportedError:
    return UnsupportedError(
        errno.EOPNOTSUPP,
        "/proc does not show this process: it is not mounted, or shows another pid namespace",
    )
