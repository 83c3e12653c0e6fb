"""The writes of this process itself, without soft-dirty: userfaultfd write protection."""

import contextlib
import errno
import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from . import entry, scan, uffd
from .entry import PAGE_SIZE
from .errors import UnsupportedError
from .mapping import Mapping, within
from .process import Process
from .regions import regions
from .span import affordable, checked

__all__ = ["WriteTracker"]

Mask = npt.NDArray[np.bool_]

# memory that the kernel shows: no one writes it
_KERNELS = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]")


class WriteTracker:
    """Which pages of a span this process has written; of its own memory, without privileges.

    Every page is write-protected, and the kernel lifts that by itself when one is first written:
    by any thread, or by a system call into it. The writer is not stopped and notices nothing but
    one fault a page.

    Parameters
    ----------
    start, end : int
        The span: mapped without gaps, and writable. ``WriteTracker(*span(array))`` for an array;
        others may have memory on its first and last page.

    Raises
    ------
    UnsupportedError
        Linux is older than 6.7, or userfaultfd is not allowed, or not on this memory.
    ValueError
        The span is not all mapped, not writable, or begins or ends within a hugetlb page.
    OSError
        EBUSY: part of it is tracked already, here or by another user of userfaultfd. EMFILE: four
        descriptors are needed.

    Notes
    -----
    Tracked until it is closed, or collected; the memory is then as it was before. Memory that is
    unmapped, mapped anew or moved meanwhile is tracked no more, and `written` says so. A child
    after fork has a copy of the memory that is not tracked, and needs a tracker of its own.

    Pages that MADV_DONTNEED has emptied count as written: their content has changed. The first
    write to a transparent huge page has the kernel map it as small pages from then on, and only the
    page written is told; a page of hugetlb is written as a whole. Writes through another mapping of
    the same shared memory are not told.

    Source: Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst, UFFD_FEATURE_WP_ASYNC and
    PM_SCAN_WP_MATCHING.
    """

    def __init__(self, start: int, end: int) -> None:
        self._fd: int | None = None
        self.start, self.end, self._count = checked(start, end)
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: Process | None = Process()
        try:
            _check(self._process, self.start, self.end)
            self._fd = _opened()
            if self._count:
                self._arm()
        except BaseException:
            self.close()
            raise

    def _arm(self) -> None:
        assert self._fd is not None
        assert self._process is not None
        try:
            uffd.register(self._fd, self.start, self.end)
        except OSError as error:
            raise self._refusal(self._process, error) from None
        scan.protect(self._process.pagemap, self._process.path, self.start, self.end)

    def _refusal(self, process: Process, error: OSError) -> Exception:
        """Return the exception for a span that the kernel does not take."""
        where = f"{self.start:#x}-{self.end:#x}"
        if error.errno == errno.EBUSY:
            return OSError(
                errno.EBUSY,
                f"part of {where} is tracked already, by a WriteTracker or another userfaultfd",
            )
        if error.errno == errno.EINVAL and self._cuts_hugetlb(process):
            return ValueError(f"{where} begins or ends within a hugetlb page")
        return UnsupportedError(
            error.errno,
            f"the kernel does not track writes to memory like that of {where}: {error.strerror}",
        )

    def _cuts_hugetlb(self, process: Process) -> bool:
        """Return whether an edge of the span is within a page larger than usual."""
        return any(
            edge % _page_size(process, inside)
            for edge, inside in ((self.start, self.start), (self.end, self.end - 1))
        )

    def __enter__(self) -> Self:
        self._held()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            self._release()

    def __repr__(self) -> str:
        state = "closed" if self._fd is None else f"{self._count} pages"
        return f"<WriteTracker {self.start:#x}-{self.end:#x}: {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a WriteTracker cannot be copied or pickled: it is this process's")

    def __len__(self) -> int:
        """Return the number of pages."""
        return self._count

    def close(self) -> None:
        """Stop tracking; twice is once."""
        if self._owner != os.getpid():  # its lock may have been held when it was forked
            self._release()
            return
        with self._lock:
            self._release()

    def _release(self) -> None:
        fd, self._fd, self._process = self._fd, None, None
        if fd is None:
            return
        # A child has a descriptor of its parent's memory: that is the parent's to let go.
        if self._owner == os.getpid() and self._count:
            # without it the memory is let go with the last descriptor, which a child may have
            with contextlib.suppress(OSError):
                uffd.unregister(fd, self.start, self.end)
        os.close(fd)

    def _held(self) -> Process:
        """Return the process to read from, or raise ValueError if nothing is tracked by it here."""
        process = self._process
        if process is None:
            raise ValueError("this WriteTracker is closed")
        if self._owner != os.getpid():
            raise ValueError(
                f"this WriteTracker is of process {self._owner}, of which this one is forked: "
                "make another here"
            )
        return process

    def written(self, *, reset: bool = True, out: Mask | None = None) -> Mask:
        """Return which pages were written since they were last reset, or tracking began.

        Parameters
        ----------
        reset : bool, optional
            Protect those pages again. That is done for each page at the instant at which it is
            looked at: a write is in this answer or in the next one, in one of them alone.
        out : ndarray of bool, optional
            Filled and returned.

        Returns
        -------
        ndarray of bool
            One element a page, in address order.

        Raises
        ------
        ValueError
            The tracker is closed, or another process's.
        OSError
            EFAULT: part of the span was unmapped or mapped anew, and is not tracked any more.
        """
        if out is None:
            affordable(self._count, 1)
        out = entry.output(out, (self._count,), np.dtype(bool))
        self._held()
        with self._lock:
            process = self._held()
            if not self._count:
                return out
            try:
                _check(process, self.start, self.end, writable=False)
                scan.written(
                    process.pagemap, process.path, self.start, self.end, out.view(np.uint8), reset
                )
            except (ValueError, PermissionError) as error:
                raise OSError(
                    errno.EFAULT,
                    f"part of {self.start:#x}-{self.end:#x} was unmapped or mapped anew, and is "
                    f"not tracked any more ({error})",
                ) from None
        return out

    def regions(
        self, *, mask: int = 0, anyof: int = 0, inverted: int = 0, returns: int | None = None
    ) -> npt.NDArray[np.void]:
        """Return the regions of the span: as ``PageMap.regions``, and WRITTEN means what it says.

        Nothing is reset.
        """
        return regions(self._held(), self.start, self.end, mask, anyof, inverted, returns)


def _opened() -> int:
    """Return a userfaultfd that protects asynchronously."""
    try:
        return uffd.open_async()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        if error.errno == errno.EINVAL:
            lacking = "it needs Linux 6.7 (UFFD_FEATURE_WP_ASYNC)"
        else:
            lacking = "userfaultfd is not compiled in (CONFIG_USERFAULTFD), or forbidden"
        raise UnsupportedError(
            error.errno, f"no write-tracking here: {lacking}: {error.strerror}"
        ) from None


def _check(process: Process, start: int, end: int, *, writable: bool = True) -> None:
    """Raise ValueError unless a span is mapped without gaps, and may be written."""
    at = start
    for mapping in within(process, start, end):
        if mapping.start > at:
            break
        if writable:
            _check_writable(mapping)
        at = mapping.end
    if at < end:
        raise ValueError(f"nothing is mapped at {at:#x}")


def _check_writable(mapping: Mapping) -> None:
    where = f"{mapping.start:#x}-{mapping.end:#x}"
    if mapping.path.startswith(_KERNELS):
        raise ValueError(f"{where} is the kernel's {mapping.path}: no one writes there")
    if not mapping.writable:
        raise ValueError(f"{where} may not be written ({mapping.permissions})")


def _page_size(process: Process, address: int) -> int:
    """Return the size of the pages of the mapping at an address, as smaps has it."""
    at = None
    for line in process.read_own("smaps").splitlines():
        first, _, rest = line.partition(b" ")
        if b"-" in first:
            low, high = (int(bound, 16) for bound in first.split(b"-"))
            at = low <= address < high
        elif at and first == b"KernelPageSize:":
            return int(rest.split()[0]) * 1024
    return PAGE_SIZE
