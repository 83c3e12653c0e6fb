"""The processes of this machine, as /proc lists them."""

from __future__ import annotations

import functools
import os
import pwd

from fastpagemap.process import stat
from fastpagemap.process.namespaces import directory_of, is_foreign, pids


def processes() -> list[int]:
    """Return the pids of all processes, in order.

    Raises
    ------
    UnsupportedError
        /proc does not show this process: it is not mounted.
    """
    return pids()


def hides_parents() -> bool:
    """Return whether /proc does not show whose children the processes of other users are."""
    try:
        with open("/proc/1/stat", "rb"):
            return False
    except OSError:
        return True


def name_of(pid: int) -> str:
    """Return the name of a process as ps shows it; empty where it cannot be read."""
    try:
        fd = os.open(f"{directory_of(pid)}/comm", os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(fd, 256)).removesuffix("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)


def command_of(pid: int) -> str:
    """Return the beginning of a command line. It is memory of the process, which may be locked."""
    where = directory_of(pid)
    text = _command_line(where)
    if not text:  # A main thread that has ended shows none, while the others go on.
        threads = (f"{where}/task/{thread}" for thread in os.listdir(f"{where}/task"))
        text = next(filter(None, map(_command_line, threads)), b"")
    return os.fsdecode(text).replace("\0", " ").strip()


def _command_line(where: str) -> bytes:
    with open(f"{where}/cmdline", "rb") as file:
        return file.read(4096)


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it has none, or has ended, or cannot be told.

    Where /proc is that of another pid namespace, the number in it is a stranger's here.
    """
    its = None if is_foreign() else stat.read(pid)
    return max(its.parent, 0) if its else 0


def user_of(pid: int) -> str:
    """Return the name of the user that a process runs as, as ps shows it; empty if it has ended."""
    try:
        return user_name(os.stat(directory_of(pid)).st_uid)
    except OSError:
        return ""


@functools.cache
def user_name(uid: int) -> str:
    """Return the name of a user; the number, where there is no name, or one with blanks in it."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if name.isprintable() and " " not in name else str(uid)


def user_given(text: str) -> str:
    """Return the name of a user that was given by name or by number."""
    return user_name(int(text)) if text.isdecimal() and len(text) < 10 else text


def has_memory(pid: int) -> bool:
    """Return whether a process is neither a kernel thread nor a zombie."""
    try:
        where = directory_of(pid)
        # A main thread that has ended has none, while the others go on.
        return _shows_memory(where) or any(
            _shows_memory(f"{where}/task/{thread}") for thread in os.listdir(f"{where}/task")
        )
    except OSError:
        return False


def _shows_memory(where: str) -> bool:
    with open(f"{where}/statm", "rb") as file:
        return file.read(2) != b"0 "
