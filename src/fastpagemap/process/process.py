"""A process, held by its directory in /proc: all reads about it go through here."""

import contextlib
import errno
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._kernel import reading
from .._kernel.descriptor import Descriptor, open_file, read_short
from .._kernel.failures import tells_of_file
from .._kernel.lines import Lines, read_all
from ..model.span import Start, is_memory, spanned
from .identity import check_running, pid_of
from .missing import check_uncovered, hidden_process, missing_file
from .namespaces import open_directory

__all__ = ["Process", "open_process"]

_Answer = TypeVar("_Answer")

# What is about memory. Once the main thread has ended, only the other threads show it.
_OF_MEMORY = frozenset({"maps", "pagemap", "smaps", "smaps_rollup", "statm"})
# What the main thread shows even then, and other threads show of themselves.
_OF_MAIN_THREAD = frozenset({"comm", "stat", "status"})
_NO_MEMORY = b"0 0 0 0 0 0 0\n"
# Threads that are tried, one after the other, if each ends before it can be read.
_MAX_THREADS = 16


def open_process(process: Any = None, *, briefly: bool = False) -> "Process":
    """Open the process that an int or an object means; this process for None; see `Process`."""
    if process is None:
        return Process(briefly=briefly)
    held = Process(pid_of(process), briefly=briefly)
    check_running(process)
    return held


class Process:
    """/proc/PID, opened once.

    The descriptors stay with the process they were opened for. So a reused pid is never read by
    mistake, and after an exec the old pagemap and maps read as empty.

    The descriptors are closed with the last reference. So no thread reads, in the middle of a call,
    from a number that another thread has closed and a third one has got for another file.

    Once its main thread has ended, a process is read through one of its other threads.

    `briefly`: maps is only opened when it is needed. So it must be needed at once, if at all: the
    process may become one that this user may not read.
    """

    owner: int
    pid: int
    path: str
    directory: int
    pagemap: int

    __slots__ = ("_held", "_maps", "_thread", "directory", "owner", "pagemap", "path", "pid")

    def __init__(self, pid: int | None = None, *, briefly: bool = False) -> None:
        # The process that opened them: a forked child inherits them, and they show the parent.
        self.owner = os.getpid()
        self.pid = self.owner if pid is None else pid
        self.path = f"/proc/{self.pid}"
        self._thread = ""
        try:
            directory = open_directory(self.pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # EPERM: hidepid=1
            raise hidden_process(self.pid) or self.gone() from None
        check_uncovered(directory, self.path)
        self.directory = directory.fd
        try:
            pagemap, maps = self._through_threads(lambda: self._open_memory(briefly))
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"{os.strerror(error.errno or errno.EACCES)} (another user's process, or one that "
                "may not be dumped: needs the same user, or CAP_SYS_PTRACE and "
                "CAP_DAC_READ_SEARCH)",
                error.filename,
            ) from None
        self.pagemap = pagemap.fd
        # What owns the descriptors, which are kept as plain ints for speed.
        self._held = (directory, pagemap)
        self._maps = maps

    @property
    def maps(self) -> int:
        """The descriptor of maps."""
        if self._maps is None:  # opened briefly, and so by this thread alone
            opened = self._through_threads(lambda: self.open("maps"))
            # After an exec it shows the new program.
            self.check_alive()
            self._maps = opened
        return self._maps.fd

    @property
    def is_this(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == self.owner == os.getpid()

    def span(self, start: Start, end: int | None, last: int | None = None) -> tuple[int, int, int]:
        """Return the start, the end and the number of pages of a span; see `spanned`."""
        if end is None and is_memory(start) and not self.is_this:
            raise ValueError(
                f"the memory of an object is this process's, not process {self.pid}'s; for what a "
                "forked child has at the same addresses give these: *fastpagemap.span(object)"
            )
        return spanned(start, end, last)

    def _open_memory(self, briefly: bool) -> tuple[Descriptor, Descriptor | None] | None:
        """Open pagemap, and maps if not `briefly`; return None if there is no memory any more."""
        pagemap, maps = self.open("pagemap"), None if briefly else self.open("maps")
        return (pagemap, maps) if self._first_entry(pagemap.fd) else None

    def _first_entry(self, pagemap: int) -> bytes:
        """Return the entry of address 0; empty if there is no memory, or no more."""
        try:
            return os.pread(pagemap, 8, 0)
        except OSError as error:
            error.filename = f"{self.path}/pagemap"
            raise

    def _through_threads(self, ask: Callable[[], _Answer | None]) -> _Answer:
        """Return what a function returns, through a thread where that is something."""
        for _ in range(_MAX_THREADS):
            try:
                answer = ask()
            except ProcessLookupError:  # the thread has ended
                answer = None
            if answer:
                return answer
            self._choose_thread()
        raise self.gone()

    def _choose_thread(self) -> None:
        """Read through another thread from now on; raise if none has memory."""
        try:
            tasks = open_file("task", os.O_RDONLY | os.O_DIRECTORY, self.directory)
            names = os.listdir(tasks.fd)
        except (FileNotFoundError, ProcessLookupError):
            raise self.gone() from None
        # The main thread first, as a read may have failed only once: it alone has map_files.
        for thread in ("", *(f"task/{name}/" for name in names)):
            try:
                statm = open_file(f"{thread}statm", os.O_RDONLY, self.directory)
                if read_all(statm.fd, self.path) == _NO_MEMORY:
                    continue
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            self._thread = thread
            return
        raise self.gone()

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

    @property
    def thread(self) -> int:
        """The id of the thread that the process is read through; that of the main thread is pid."""
        return int(self._thread.split("/")[1]) if self._thread else self.pid

    def where(self, name: str) -> str:
        """Return the path, from `directory` on, of a file that is below /proc/PID for others."""
        return name if name in _OF_MAIN_THREAD else self._thread + name

    def open(self, name: str, flags: int = os.O_RDONLY) -> Descriptor:
        """Open a file below /proc/PID."""
        try:
            file = open_file(self.where(name), flags, self.directory)
        except (FileNotFoundError, ProcessLookupError) as error:
            if name in _OF_MEMORY:
                lacking = None
                if error.errno == errno.ENOENT:  # ESRCH: the file is there, the memory is not
                    lacking = missing_file(self.directory, self._thread, f"{self.path}/{name}")
                raise lacking or self.gone() from None
            raise
        except OSError as error:
            # A thread that has ended has no memory, and so its files are root's.
            if isinstance(error, PermissionError) and name != "statm" and self._has_no_memory():
                raise self.gone() from None
            error.filename = f"{self.path}/{name}"
            raise
        if name in _OF_MEMORY:
            check_uncovered(file, f"{self.path}/{name}")
        return file

    def _has_no_memory(self) -> bool:
        """Return whether the thread to read through is known to have none."""
        try:
            return self._read("statm") == _NO_MEMORY
        except PermissionError:  # a sandbox refuses that, too
            return False

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return the content of a file below /proc/PID, or its first `most` bytes.

        Raises MemoryError if all of it is wanted and comes to more than 32 MiB.
        """
        # An empty file of memory does not say that nothing is mapped: the thread has ended.
        if name in _OF_MEMORY:
            return self._through_threads(functools.partial(self._read, name, most))
        return self._read(name, most)

    def _read(self, name: str, most: int | None = None) -> bytes:
        file = self.open(name)
        return read_all(file.fd, f"{self.path}/{name}", most)

    def read_short(self, name: str) -> bytes:
        """Return the content of a file of a line or two: a third of what `read` costs."""
        return read_short(self.where(name), self.directory)

    def lines(self, name: str) -> Iterator[bytes]:
        """Return an iterator over a file below /proc/PID: many whole lines at a time.

        Raises MemoryError, when iterated, if lines longer than 32 KiB come to more than 32 MiB.
        Signals are handled in between. `check_alive()` at the end tells whether it was about the
        memory that ``pagemap`` shows.
        """
        if name not in _OF_MEMORY:
            return Lines(self.open(name), f"{self.path}/{name}")
        first, rest = self._through_threads(functools.partial(self._begin, name))
        return itertools.chain((first,), rest)

    def _begin(self, name: str) -> tuple[bytes, Lines] | None:
        """Read the first lines of a file about memory; return None if there are none."""
        rest = Lines(self.open(name), f"{self.path}/{name}")
        first = next(rest, None)
        return None if first is None else (first, rest)

    def readlink(self, name: str) -> bytes:
        """Return the target of a link below /proc/PID."""
        return os.readlink(os.fsencode(self.where(name)), dir_fd=self.directory)

    def name(self) -> str:
        """Return the name, as ps shows it."""
        return os.fsdecode(self.read("comm").removesuffix(b"\n"))

    def uid(self) -> int:
        """Return the real user id: who started it, even if it runs as another user (set-uid)."""
        with self.outlived():
            found = re.search(rb"^Uid:\t(\d+)", self.read_own("status"), re.MULTILINE)
        if found is None:
            raise self.gone()
        return int(found[1])

    def read_own(self, name: str, most: int | None = None) -> bytes:
        """Return a file's content, if it is still about the memory that ``pagemap`` shows."""
        text = self.read(name, most)
        # After an exec the directory shows the new program, and the pagemap reads as empty.
        self.check_alive()
        return text

    def write_own(self, name: str, content: bytes) -> None:
        """Write to a file, if it is still about the memory that ``pagemap`` shows."""

        def write() -> bool:
            fd = self.open(name, os.O_WRONLY)
            # After an exec the file is the new program's.
            self.check_alive()
            os.write(fd.fd, content)
            # Written through a thread that has ended, it is accepted and does nothing.
            return self._read("statm") != _NO_MEMORY

        self._through_threads(write)

    @contextlib.contextmanager
    def outlived(self) -> Iterator[None]:
        """Turn an OSError in the block into ProcessLookupError if the process is gone."""
        try:
            yield
        except OSError as error:
            if tells_of_file(error):
                self.check_alive()
            raise

    def read_entries(self, start: int, entries: npt.NDArray[np.uint64]) -> None:
        """Read one pagemap entry a page, from `start` on, until `entries` is full."""
        reading.read(self.pagemap, self.path, start, entries)

    def check_alive(self) -> None:
        """Raise ProcessLookupError if the memory that ``pagemap`` was opened for is gone."""
        if not self._first_entry(self.pagemap):
            raise self.gone()
