"""Which process an open /proc/PID/pagemap is of."""

import errno
import os
import re
from typing import NamedTuple

from .._kernel.failures import IgnoringFileErrors
from .._kernel.own_files import own_file
from .opening import is_proc
from .process import Process

__all__ = ["LiveFile", "live_file", "open_live"]

_PATH = re.compile(r".*?/([0-9]{1,9})/((?:task/[0-9]+/)?pagemap)(?: \(deleted\))?", re.DOTALL)


class LiveFile(NamedTuple):
    """A pagemap in /proc: its process, its path below /proc/PID, its device and inode."""

    pid: int
    name: str
    file: tuple[int, int]


def live_file(fd: int) -> LiveFile | None:
    """Return which pagemap in /proc a descriptor is of, also one of O_PATH; None for other files.

    The process is not asked, so that its locks are not waited for.
    """
    with IgnoringFileErrors():  # no /proc: then the file is not in it
        if is_proc(fd):
            found = _PATH.fullmatch(os.readlink(own_file(f"fd/{fd}")))
            if found:
                about = os.fstat(fd)
                return LiveFile(int(found[1]), found[2], (about.st_dev, about.st_ino))
    return None


def open_live(found: LiveFile) -> Process:
    """Open the process that a pagemap is of, while a descriptor of that file is still open.

    Raises
    ------
    ProcessLookupError
        It has ended, though another one may have its pid by now; or the file is of another /proc.
    """
    held = Process(found.pid)
    # The kernel gives no other file this inode, as long as the descriptor is open.
    about = os.stat(found.name, dir_fd=held.directory)
    if (about.st_dev, about.st_ino) != found.file:
        raise ProcessLookupError(
            errno.ESRCH,
            "it is of a process that has ended, or of another /proc",
            f"{held.path}/{found.name}",
        )
    return held
