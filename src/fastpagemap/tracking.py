"""The writes of this process itself, without soft-dirty: userfaultfd write protection."""

import errno
import os
import threading
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ._kernel import uffd, writes
from .engine.regions import known
from .model import entry
from .model.entry import PAGE_SIZE, REGION_DTYPE, Category
from .model.errors import UnsupportedError
from .model.mapping import Mapping
from .model.span import checked
from .process.limits import affordable
from .process.mappings import within
from .process.process import Process
from .process.smaps import size_of, smaps_at

__all__ = ["WriteTracker"]

Mask = npt.NDArray[np.bool_]

# memory that the kernel shows: no one writes it
_KERNELS = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]")
# what may be mapped of devices and of the kernel's own files, and have no struct page
_DEVICES = ("/dev/", "/sys/", "/proc/", "anon_inode:", "socket:")


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
        descriptors are needed. ENOMEM: the edges would make more mappings than vm.max_map_count.
    MemoryError
        The page tables for memory not touched yet would not fit.

    Notes
    -----
    Tracked until it is closed, or collected; the memory is then as it was before. Memory that is
    unmapped, mapped anew or moved meanwhile is tracked no more, and `written` says so. A child
    after fork has a copy of the memory that is not tracked, and needs a tracker of its own. Many
    threads may ask one tracker, while others write; each page written is told to one of them.

    Of memory never touched before, some kernels (6.18.15; not 6.12, 6.18.44, 7.3) tell a page once
    as written that was only read.

    Pages that MADV_DONTNEED has emptied count as written: their content has changed. The first
    write to a transparent huge page has the kernel map it as small pages from then on, and only the
    page written is told; MADV_COLLAPSE makes it huge again once tracking is over. A page of hugetlb
    is written as a whole. Not told are writes through another mapping of the same shared memory,
    and those of devices to pages that were pinned before (io_uring's registered buffers, O_DIRECT
    on its way, RDMA).

    Memory never touched gets page tables by it, which remain until it is unmapped: 8 bytes a page,
    2 MiB for each GiB of 4 KiB pages.

    Source: Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst, UFFD_FEATURE_WP_ASYNC and
    PM_SCAN_WP_MATCHING.
    """

    def __init__(self, start: int, end: int) -> None:
        self._watch: uffd.Userfaultfd | None = None
        self.start, self.end, self._count = checked(start, end)
        # a signal's handler may ask, too, in the middle of an answer
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
        _check_tables(process, self._count)
        try:
            watch.register(self.start, self.end)
        except OSError as error:
            raise self._refusal(process, error) from None
        writes.protect(process.pagemap, process.path, self.start, self.end)

    def _refusal(self, process: Process, error: OSError) -> Exception:
        """Return the exception for a span that the kernel does not take."""
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
        """Stop tracking; twice is once."""
        if self._owner != os.getpid():  # its lock may have been held when it was forked
            self._release()
            return
        with self._lock:
            self._release()

    def _release(self) -> None:
        watch, self._watch, self._process = self._watch, None, None
        if watch is not None:
            watch.close()

    def _held(self) -> tuple[Process, uffd.Userfaultfd]:
        """Return what to ask, or raise ValueError if nothing is tracked by it here."""
        process, watch = self._process, self._watch
        if process is None or watch is None:
            raise ValueError("this WriteTracker is closed")
        if self._owner != os.getpid():
            raise ValueError(
                f"this WriteTracker is of process {self._owner}, of which this one is forked: "
                "make another here"
            )
        return process, watch

    def _check_mapped(self, process: Process) -> None:
        """Raise ValueError if part of the span is not mapped any more: a scan passes over it."""
        if not writes.is_all_mapped(process.maps, self.start, self.end):
            _check(process, self.start, self.end, writable=False)

    def _lost(self, error: Exception) -> OSError:
        """Return the exception for a span of which part is refused now."""
        self._held()  # a signal's handler may have closed it
        return OSError(
            errno.EFAULT,
            f"part of {self.start:#x}-{self.end:#x} was unmapped or mapped anew, and is "
            f"not tracked any more ({error})",
        )

    def written(self, *, reset: bool = True, out: Mask | None = None) -> Mask:
        """Return which pages were written since they were last reset, or tracking began.

        Parameters
        ----------
        reset : bool, optional
            Protect those pages again. That is done for each page at the instant at which it is
            looked at: a write is in this answer or in the next one; one that is under way just then
            (its fault taken, its byte not yet there) may be in both.
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

        Notes
        -----
        Where it raises, a signal's exception included, nothing is lost: what was reset already
        counts as written again. What was written in the rest of a span of which part is gone, is
        told by ``PageMap().regions(start, end, mask=Category.WPALLOWED | Category.WRITTEN)``.
        """
        zeroed = out is None
        if out is None:
            affordable(self._count, 1)
            # not np.empty: where nothing was written the result's own pages are not touched
            out = np.zeros(self._count, bool)
        out = entry.output(out, (self._count,), np.dtype(bool))
        self._held()
        with self._lock:
            process, watch = self._held()
            try:
                self._check_mapped(process)
                writes.written(
                    process.pagemap, watch, process.path, self.start, out.view(np.uint8), reset,
                    zeroed,
                )  # fmt: skip
            except (ValueError, PermissionError) as error:
                raise self._lost(error) from None
        return out

    def regions(
        self,
        *,
        reset: bool = False,
        mask: int = Category.WRITTEN,
        anyof: int = 0,
        inverted: int = 0,
        returns: int | None = Category.WRITTEN,
    ) -> npt.NDArray[np.void]:
        """Return the regions written, or those of other categories, as ``PageMap.regions`` does.

        It costs no memory for what was not written: the better way for large spans.

        Parameters
        ----------
        reset : bool, optional
            Protect the pages of these regions again, as `written` does; only looked at by default.
        mask, anyof, inverted, returns : Category, optional
            As for ``PageMap.regions``. WRITTEN means what it says here. None `returns` all.

        Returns
        -------
        ndarray of REGION_DTYPE
            Sorted; neighbours of equal categories are merged.

        Raises
        ------
        ValueError
            As for `written`; or pages would be reset that are not told to be written: `mask` and
            `returns` must have WRITTEN, and `inverted` must not.
        UnsupportedError
            A category is asked for that this kernel does not tell.
        OSError
            As for `written`.
        """
        asked = (int(mask), int(anyof), int(inverted), known(mask, anyof, inverted, returns))
        if reset and not Category.WRITTEN & asked[0] & asked[3] & ~asked[2]:
            raise ValueError(
                "reset=True would lose writes: mask and returns must have WRITTEN, inverted not"
            )
        self._held()
        with self._lock:
            process, watch = self._held()
            try:
                self._check_mapped(process)
                found = writes.regions(
                    process.pagemap, watch, process.path, self.start, self.end, asked, reset
                )
            except (ValueError, PermissionError) as error:
                raise self._lost(error) from None
        return np.frombuffer(bytearray(found), REGION_DTYPE)


def _opened() -> uffd.Userfaultfd:
    """Return a userfaultfd that protects asynchronously."""
    try:
        return uffd.Userfaultfd()
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
    """Return the kernel's flags of a mapping, two letters each, as smaps has them."""
    return smaps_at(process, mapping.start, "VmFlags")["VmFlags"].split()


def _check_tables(process: Process, count: int) -> None:
    """Raise MemoryError if the page tables that protection needs do not fit into free memory."""
    if count * 8 < 1 << 26:
        return
    status = process.read("status").split()
    affordable(count - (int(status[status.index(b"VmPTE:") + 1]) << 7), 8)


def _page_size(process: Process, address: int) -> int:
    """Return the size of the pages of the mapping at an address, as smaps has it."""
    fields = smaps_at(process, address, "KernelPageSize")
    return size_of(fields["KernelPageSize"]) if fields else PAGE_SIZE
