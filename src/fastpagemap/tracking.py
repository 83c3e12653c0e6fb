"""Track the writes of this process without soft-dirty: userfaultfd write protection."""

import errno
import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ._kernel import scan, uffd, writes
from ._kernel.failures import tells_of_file
from .engine.regions import known
from .model import entry
from .model.entry import PAGE_SIZE, REGION_DTYPE, Category
from .model.errors import UnsupportedError
from .model.mapping import Mapping
from .model.span import Start, spanned
from .process.limits import affordable
from .process.mappings import within
from .process.process import Process
from .process.smaps import size_of, smaps_at

__all__ = ["WriteTracker"]

Mask = npt.NDArray[np.bool_]

# What a filter of system calls refuses with.
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY)
# Memory that the kernel shows, and no process may write.
_KERNELS = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]")
# Files of devices and of the kernel, whose pages may have no struct page.
_DEVICES = ("/dev/", "/sys/", "/proc/", "anon_inode:", "socket:")


class WriteTracker:
    """Track which pages of a span of its own memory this process writes, without privileges.

    Every page is write-protected. The kernel itself lifts the protection of a page when a thread,
    or a system call, first writes it. The writer does not wait: it pays one fault a page.

    Parameters
    ----------
    start, end : int, or one object with memory
        The span, in bytes: page-aligned, mapped without gaps, and writable. Of an object as
        ``span`` takes it, all pages that it lies on; other objects may have memory on the first and
        the last of them. The tracker does not keep the object alive.

    Raises
    ------
    UnsupportedError
        Linux is older than 6.7, this process may not use userfaultfd, or userfaultfd does not
        support this memory.
    ValueError
        The span is not all mapped, not writable, or begins or ends within a hugetlb page.
    OSError
        EBUSY: part of it is tracked already, here or by another user of userfaultfd. EMFILE: four
        descriptors are needed. ENOMEM: the edges would make more mappings than vm.max_map_count.
    MemoryError
        The page tables for untouched memory would not fit into free memory.

    Notes
    -----
    Tracking ends when the tracker is closed or collected; the memory is then as it was before.
    Memory that is unmapped, mapped anew or moved meanwhile is no longer tracked, and `written`
    raises, also where another tracker has got the addresses. If that happens at the very moment of
    an answer, this tracker may go on with what is there now: all of it is reported as written. So
    close a tracker before its memory is freed. A forked child's copy of the memory is not tracked;
    the child needs a tracker of its own. Many threads may ask one tracker while others write; each
    written page is reported to one of them.

    Some kernels (6.18.15; not 6.12, 6.18.44, 7.3) report an untouched page once as written when it
    is only read.

    Pages that MADV_DONTNEED has emptied count as written: their content has changed. At the first
    write to a transparent huge page the kernel maps it as small pages, and only the written one is
    reported; MADV_COLLAPSE makes it huge again once tracking is over. A hugetlb page is written as
    a whole. Two kinds of writes are not reported: those through another mapping of the same shared
    memory, and those of devices to pages pinned before (io_uring's registered buffers, O_DIRECT
    under way, RDMA).

    Untouched memory gets page tables, which remain until it is unmapped: 8 bytes a page, so 2 MiB
    for each GiB of 4 KiB pages.

    Source: Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst, UFFD_FEATURE_WP_ASYNC and
    PM_SCAN_WP_MATCHING.

    Examples
    --------
    >>> memory = mmap.mmap(-1, 4 * fpm.PAGE_SIZE)
    >>> with fpm.WriteTracker(memory) as tracker:
    ...     memory[2 * fpm.PAGE_SIZE] = 1
    ...     tracker.written()
    array([False, False,  True, False])
    """

    def __init__(self, start: Start, end: int | None = None) -> None:
        self._watch: uffd.Userfaultfd | None = None
        self.start: int
        self.end: int
        self.start, self.end, self._count = spanned(start, end)
        # Reentrant: a signal handler may ask during an answer.
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._process: Process | None = Process()
        try:
            if not writes.is_anonymous_writable(self._process.maps, self.start, self.end):
                _check(self._process, self.start, self.end)
            self._watch = _opened()
            if self._count:
                self._arm(self._process, self._watch)
        except BaseException:
            self.close()
            raise

    def _arm(self, process: Process, watch: uffd.Userfaultfd) -> None:
        _check_tables(process, self.start, self.end)
        try:
            watch.register(self.start, self.end)
        except OSError as error:
            if error.errno is None:  # a signal handler's
                raise
            raise self._refusal(process, error) from None
        try:
            writes.protect(process.pagemap, process.maps, watch, process.path)
        except OSError as error:
            raise self._translated(process, error) from None

    def _refusal(self, process: Process, error: OSError) -> Exception:
        """Return the exception for a span that the kernel refuses to track."""
        where = f"{self.start:#x}-{self.end:#x}"
        if error.errno == errno.EBUSY:
            return OSError(
                errno.EBUSY,
                f"part of {where} is tracked already, by a WriteTracker or another userfaultfd",
            )
        if error.errno == errno.ENOMEM:
            return OSError(
                errno.ENOMEM,
                f"no memory to track {where}, or too many mappings (vm.max_map_count): "
                "an edge within a mapping makes two of it",
            )
        if error.errno == errno.EINVAL and self._cuts_hugetlb(process):
            return ValueError(f"{where} begins or ends within a hugetlb page")
        if error.errno in _REFUSED:
            return _forbidden(error.errno)
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

    def __repr__(self) -> str:
        state = "closed" if self._watch is None else f"{self._count} pages"
        return f"<WriteTracker {self.start:#x}-{self.end:#x}: {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a WriteTracker cannot be copied or pickled: it is this process's")

    def __len__(self) -> int:
        """Return the number of pages."""
        return self._count

    def close(self) -> None:
        """Stop tracking; a second call does nothing."""
        if self._owner != os.getpid():  # a fork may have copied the lock as held
            self._release()
            return
        with self._lock:
            self._release()

    def _release(self) -> None:
        watch, self._watch, self._process = self._watch, None, None
        if watch is not None:
            watch.close()

    def _held(self) -> tuple[Process, uffd.Userfaultfd]:
        """Return the process and the userfaultfd; ValueError if closed or of another process."""
        process, watch = self._process, self._watch
        if process is None or watch is None:
            raise ValueError("this WriteTracker is closed")
        if self._owner != os.getpid():
            raise ValueError(
                f"this WriteTracker is of process {self._owner}, of which this one is forked: "
                "make another here"
            )
        return process, watch

    def _translated(self, process: Process, error: OSError) -> Exception:
        """Return the exception for an answer that failed: is the span tracked no longer?"""
        if error.filename == "UFFDIO_WRITEPROTECT":
            return UnsupportedError(
                error.errno,
                "after an answer was broken off, written() alone can tell what it had found: a "
                "filter of system calls (seccomp) refuses UFFDIO_WRITEPROTECT",
            )
        if error.filename != process.path:  # a signal handler raised it
            return error
        if error.errno == errno.EOPNOTSUPP:
            return _forbidden(error.errno)
        if error.errno not in (errno.EFAULT, errno.EPERM, errno.EBUSY):
            return error
        reason: Exception = error
        if error.errno == errno.EFAULT:
            try:
                _check(process, self.start, self.end, writable=False)
            except ValueError as gap:
                reason = gap
        elif error.errno == errno.EBUSY:
            reason = OSError("another userfaultfd tracks what is there now")
        self._held()  # a signal handler may have closed it
        return OSError(
            errno.EFAULT,
            f"part of {self.start:#x}-{self.end:#x} was unmapped or mapped anew, and is "
            f"not tracked any more ({reason})",
        )

    def written(self, *, reset: bool = True, out: Mask | None = None) -> Mask:
        """Return which pages were written since their last reset, or since tracking began.

        Parameters
        ----------
        reset : bool, optional
            Protect those pages again, each at the instant when it is looked at. So each write is in
            this answer or in the next one. A write under way just then (its fault taken, its byte
            not yet stored) may be in both.
        out : ndarray of bool, optional
            Filled and returned; one element a page.

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

        Notes
        -----
        An exception from here, even a signal handler's, loses no write: pages that were reset
        already count as written again. A handler may also raise in the caller, just after this has
        returned: then the answer is lost, unless it is in `out`. If part of a span is gone,
        ``PageMap().regions(start, end, mask=Category.WPALLOWED | Category.WRITTEN)`` finds the
        writes to the rest.
        """
        zeroed = out is None
        if out is None:
            affordable(self._count, 1)
            # Zeroed memory is not touched where nothing was written; np.empty's would be.
            out = np.zeros(self._count, bool)
        out = entry.output(out, (self._count,), np.dtype(bool))
        self._held()
        answer = None
        try:
            with self._lock:
                process, watch = self._held()
                answer = writes.Answer(watch, process.pagemap, process.maps, process.path)
                try:
                    answer.written(out, reset, zeroed)
                except OSError as error:
                    raise self._translated(process, error) from None
            return out
        except BaseException:
            # Also one that a signal handler raised after the answer was complete.
            if answer is not None:
                answer.give_back()
            raise

    def regions(
        self,
        *,
        reset: bool = False,
        mask: int = Category.WRITTEN,
        anyof: int = 0,
        inverted: int = 0,
        returns: int | None = Category.WRITTEN,
    ) -> npt.NDArray[np.void]:
        """Return the written regions, or those of other categories, as ``PageMap.regions`` does.

        Pages that were not written cost no memory, so this suits large spans.

        Parameters
        ----------
        reset : bool, optional
            Protect the pages of these regions again, as `written` does. Not by default.
        mask, anyof, inverted, returns : Category, optional
            As for ``PageMap.regions``. Here WRITTEN is exact. `returns` of None returns all.

        Returns
        -------
        ndarray of REGION_DTYPE
            Sorted; neighbours of equal categories are merged.

        Raises
        ------
        ValueError
            As for `written`. Or a reset would lose writes: with `reset`, `mask` and `returns` must
            have WRITTEN, and `inverted` must not.
        UnsupportedError
            This kernel does not know a category.
        OSError
            As for `written`.
        """
        asked = (int(mask), int(anyof), int(inverted), known(mask, anyof, inverted, returns))
        if reset and not Category.WRITTEN & asked[0] & asked[3] & ~asked[2]:
            raise ValueError(
                "reset=True would lose writes: mask and returns must have WRITTEN, inverted not"
            )
        self._held()
        answer = None
        try:
            with self._lock:
                process, watch = self._held()
                answer = writes.Answer(watch, process.pagemap, process.maps, process.path)
                try:
                    told = bytearray(answer.regions(asked, reset))
                    found = np.frombuffer(told, REGION_DTYPE)
                except OSError as error:
                    raise self._translated(process, error) from None
            return found
        except BaseException:
            if answer is not None:
                answer.give_back()
            raise


def _opened() -> uffd.Userfaultfd:
    """Open a userfaultfd that protects asynchronously."""
    try:
        return uffd.Userfaultfd()
    except OSError as error:
        if not tells_of_file(error):
            raise
        if error.errno == errno.EINVAL:
            lacking = "it needs Linux 6.7 (UFFD_FEATURE_WP_ASYNC)"
        else:
            lacking = "userfaultfd is not compiled in (CONFIG_USERFAULTFD), or forbidden"
        raise UnsupportedError(
            error.errno, f"no write-tracking here: {lacking}: {error.strerror}"
        ) from None


def _forbidden(number: int | None) -> UnsupportedError:
    """Return the exception where a filter of system calls refuses what tracking needs."""
    return UnsupportedError(
        number,
        "no write-tracking here: a filter of system calls (seccomp) refuses UFFDIO_REGISTER or "
        "PAGEMAP_SCAN, or this kernel is older than Linux 6.7",
    )


def _check(process: Process, start: int, end: int, *, writable: bool = True) -> None:
    """Raise ValueError unless a span is mapped without gaps, and writable."""
    at = start
    for mapping in within(process, start, end):
        if mapping.start > at:
            break
        if writable:
            _check_writable(process, mapping)
        at = mapping.end
    if at < end:
        raise ValueError(f"nothing is mapped at {at:#x}")


def _check_writable(process: Process, mapping: Mapping) -> None:
    where = f"{mapping.start:#x}-{mapping.end:#x}"
    if mapping.path.startswith(_KERNELS):
        raise ValueError(f"{where} is the kernel's {mapping.path}: no one writes there")
    if not mapping.writable:
        raise ValueError(f"{where} may not be written ({mapping.permissions})")
    if mapping.path.startswith(_DEVICES) and b"pf" in _flags(process, mapping):
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"{where} is the memory of {mapping.path}: the kernel does not look at such pages",
        )


def _flags(process: Process, mapping: Mapping) -> list[bytes]:
    """Return the kernel's flags of a mapping, two letters each, from smaps."""
    return smaps_at(process, mapping.start, "VmFlags")["VmFlags"].split()


def _check_tables(process: Process, start: int, end: int) -> None:
    """Raise MemoryError if the page tables that protection needs do not fit into free memory."""
    count = (end - start) // PAGE_SIZE
    try:
        affordable(count, 8)
    except MemoryError:
        # There are page tables already where pages are.
        starts, ends = np.array([[start], [end]], np.uint64)
        found = scan.populated(process.pagemap, process.path, starts, ends, PAGE_SIZE // 8)
        there = np.frombuffer(found, REGION_DTYPE)
        affordable(count - int((there["end"] - there["start"]).sum()) // PAGE_SIZE, 8)


def _page_size(process: Process, address: int) -> int:
    """Return the page size of the mapping at an address, in bytes, from smaps."""
    fields = smaps_at(process, address, "KernelPageSize")
    return size_of(fields["KernelPageSize"]) if fields else PAGE_SIZE
