"""A process, held by its directory in /proc: all reads about it go through here."""

import contextlib
import errno
import operator
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import procmaps, reading

__all__ = ["Process", "pid_of"]


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
    """
    pid = getattr(process, "pid", process)
    if isinstance(pid, bool):
        raise TypeError(f"a pid is an int, not {pid!r}")
    try:
        pid = operator.index(pid)
    except TypeError:
        raise TypeError(
            f"process must be a pid, an object with a .pid (of a process that was started), "
            f"or None for this process, not {process!r}"
        ) from None
    if pid <= 0:
        raise ValueError(f"pid {pid}: a pid is a positive number")
    # subprocess.Popen has reaped it, or psutil.Process sees another start time under its pid
    ended = getattr(process, "returncode", None) is not None
    is_running = getattr(process, "is_running", None)
    if ended or (is_running is not None and not is_running()):
        raise ProcessLookupError(errno.ESRCH, f"{process!r} has ended")
    return pid


class Process:
    """/proc/PID, opened once.

    The descriptors stay with the process they were opened for. So a reused pid is never read by
    mistake, and after an exec the old pagemap and maps read as empty.

    The descriptors are closed with the last reference. So no thread reads, in the middle of a call,
    from a number that another thread has closed and a third one has got for another file.
    """

    __slots__ = ("directory", "maps", "owner", "pagemap", "path", "pid")

    def __init__(self, pid: int | None = None) -> None:
        self.directory = self.pagemap = self.maps = -1
        # The process that opened them: a forked child inherits them, and they show the parent.
        self.owner = os.getpid()
        self.pid = self.owner if pid is None else pid
        self.path = f"/proc/{self.pid}"
        try:
            self.directory = os.open(
                "/proc/self" if pid is None else self.path, os.O_RDONLY | os.O_DIRECTORY
            )
        except FileNotFoundError:
            raise self.gone() from None
        try:
            self.pagemap = self.open("pagemap")
            self.maps = self.open("maps")
        except PermissionError as error:
            if self.read("statm") == b"0 0 0 0 0 0 0\n":
                raise self.gone() from None
            raise PermissionError(
                error.errno,
                f"{os.strerror(error.errno or errno.EACCES)} (another user's process, or one that "
                "may not be dumped: needs the same user or CAP_SYS_PTRACE)",
                error.filename,
            ) from None
        self.check_alive()

    def __del__(self) -> None:
        for fd in (self.pagemap, self.maps, self.directory):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def __reduce__(self) -> str:
        raise TypeError("a process's descriptors cannot be copied or pickled: open it anew")

    def gone(self) -> ProcessLookupError:
        """Return the exception for a process that is gone."""
        return ProcessLookupError(
            errno.ESRCH,
            "no such process, or one without memory: it exited, called exec, is a zombie or a "
            "kernel thread",
            self.path,
        )

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a file below /proc/PID; the caller closes it."""
        try:
            return os.open(name, flags, dir_fd=self.directory)
        except (FileNotFoundError, ProcessLookupError):
            if name in ("pagemap", "maps", "statm"):
                raise self.gone() from None
            raise
        except OSError as error:
            error.filename = f"{self.path}/{name}"
            raise

    def read(self, name: str) -> bytes:
        """Return the whole content of a file below /proc/PID."""
        fd = self.open(name)
        try:
            return procmaps.read_all(fd, f"{self.path}/{name}")
        finally:
            os.close(fd)

    def readlink(self, name: str) -> bytes:
        """Return the target of a link below /proc/PID."""
        return os.readlink(os.fsencode(name), dir_fd=self.directory)

    def uid(self) -> int:
        """Return the real user id: who started it, even if it runs as another user (set-uid)."""
        with self.outlived():
            found = re.search(rb"^Uid:\t(\d+)", self.read_own("status"), re.MULTILINE)
        if found is None:
            raise self.gone()
        return int(found[1])

    def read_own(self, name: str) -> bytes:
        """Return a file's content, if it is still about the memory that ``pagemap`` shows."""
        text = self.read(name)
        # After an exec the directory shows the new program, and the pagemap reads as empty.
        self.check_alive()
        return text

    def write_own(self, name: str, content: bytes) -> None:
        """Write to a file, if it is still about the memory that ``pagemap`` shows."""
        fd = self.open(name, os.O_WRONLY)
        try:
            # After an exec the file is the new program's.
            self.check_alive()
            os.write(fd, content)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def outlived(self) -> Iterator[None]:
        """Turn an OSError in the block into ProcessLookupError if the process is gone."""
        try:
            yield
        except OSError:
            self.check_alive()
            raise

    def read_entries(self, start: int, entries: npt.NDArray[np.uint64]) -> None:
        """Read one pagemap entry a page, from `start` on, until `entries` is full."""
        reading.read(self.pagemap, self.path, start, entries)

    def check_alive(self) -> None:
        """Raise ProcessLookupError if the memory that ``pagemap`` was opened for is gone."""
        if not os.pread(self.pagemap, 8, 0):
            raise self.gone()
