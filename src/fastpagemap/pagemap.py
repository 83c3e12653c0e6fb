"""PageMap: thin, over the rooms below."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from .engine import masks
from .engine.pages import Mask, Masks, Pages
from .engine.regions import regions
from .engine.residency import residency
from .engine.states import states
from .engine.usage import usage
from .model import entry, hooks
from .model.mapping import Mapping
from .model.runs import Runs
from .model.span import checked
from .process.capabilities import need_soft_dirty, soft_dirty
from .process.limits import affordable
from .process.mappings import mappings
from .process.process import Process, pid_of

if TYPE_CHECKING:
    from .snapshot.snapshot import Snapshot

__all__ = ["PageMap"]

_BOOL = np.dtype(bool)


class PageMap:
    """The page table of a process, page by page.

    Parameters
    ----------
    process : int or object, optional
        A pid, or any object with a ``.pid`` (``psutil.Process``, ``subprocess.Popen``,
        ``multiprocessing.Process``). This process by default; then, after a fork, the child in
        the child.

    Raises
    ------
    ProcessLookupError
        There is no such process, or it has no memory: a zombie, a kernel thread. Every method
        raises it once the process has exited or called exec.
    PermissionError
        The process may not be read: it is another user's and CAP_SYS_PTRACE is missing.
    ValueError, TypeError
        `process` is no pid and has none.

    Notes
    -----
    All methods take page-aligned addresses in bytes, `start` inclusive and `end` exclusive, and
    give one element a page, in address order; pages outside every mapping are False. They never
    fault a page in and change nothing. One object may be used from many threads at once; the GIL is
    released while the kernel works.

    Source: /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
    """

    def __init__(self, process: Any = None) -> None:
        self._follows_fork = process is None
        self._held: Process | None = Process(None if process is None else pid_of(process))

    def __enter__(self) -> Self:
        self._process()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._held is None else f"process {self._held.pid}"
        return f"<PageMap: {state}>"

    def _repr_html_(self) -> str | None:
        """Return the usage of the process, for notebooks; none, if it has ended."""
        try:
            process = self._process()
            name = os.fsdecode(process.read_own("comm").removesuffix(b"\n"))
            spans = self.mappings()
            usage = self.usage(spans)
        except (OSError, ValueError):
            return None
        html: str = hooks.load("notebook").of_usage(process.pid, name, spans, usage)
        return html

    def close(self) -> None:
        """Let go of the process; calls under way in other threads end as if it were open still."""
        self._held = None

    @property
    def pid(self) -> int:
        """The pid of the process."""
        return self._process().pid

    @property
    def uid(self) -> int:
        """The user who started the process, by its number: its real user id, as in its status."""
        return self._process().uid()

    def _process(self) -> Process:
        """Return the process to read from now."""
        held = self._held
        if held is None:
            raise ValueError("this PageMap is closed")
        if self._follows_fork and held.owner != os.getpid():
            held = self._held = Process()
        return held

    def mappings(self) -> list[Mapping]:
        """Return the mappings of the process, in address order, from /proc/PID/maps."""
        return mappings(self._process())

    def read(self, start: int, end: int, *, out: npt.NDArray[np.void] | None = None) -> Pages:
        """Return the entries of a span as the kernel gives them: each page's bits of one instant.

        Parameters
        ----------
        start, end : int
            The span.
        out : ndarray of ENTRY_DTYPE, optional
            Filled and used for the result: no array is allocated.

        Raises
        ------
        MemoryError
            The result would not fit into free memory.
        """
        start, end, count = checked(start, end)
        process = self._process()
        entries = self._output(out, count, entry.ENTRY_DTYPE)
        return Pages(process, start, end, entries)

    def masks(self, start: int, end: int) -> Masks:
        """Return the masks `swapped`, `soft_dirty`, `shared` and `unknown` of a span, in one pass.

        Raises
        ------
        MemoryError
            The result would not fit into free memory.
        """
        start, end, count = checked(start, end)
        names = ["swapped", "shared", "unknown"] + ["soft_dirty"] * soft_dirty()
        affordable(count, len(names))
        found = {name: np.empty(count, bool) for name in names}
        masks.fill(self._process(), start, end, found)
        return Masks(start, end, found)

    def present(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages are mapped in RAM (bit 63).

        PROT_NONE and MADV_FREE'd pages are, as long as they have not been taken away.
        """
        return self._mask("present", start, end, out)

    def swapped(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages are known to be swapped out.

        A page is, when the page table holds a swap entry for it (bit 62, and no guard region,
        marker, migration or poison entry, as far as this user may see), or, for shared memory
        (MAP_SHARED anonymous, memfd, SysV, any tmpfs, mapped shared or private), when the file's
        page cache does: the page table forgets such a page. Per mapping the sum equals ``Swap:``
        in smaps.

        Notes
        -----
        Shared memory is looked up in its file: through /proc/PID/map_files (CAP_SYS_ADMIN or
        CAP_CHECKPOINT_RESTORE), else /proc/PID/fd or its path. With cachestat (Linux 6.5) the
        answer is exact. Before, SEEK_DATA and mincore are asked: a page that is swapped out, but
        still has a copy in the swap cache, is taken for not swapped. Where the file cannot be
        opened, or asked, smaps decides if none or all of a mapping's pages are swapped; what is
        left is in `unknown`.
        """
        return self._mask("swapped", start, end, out)

    def unknown(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages of shared memory are not present, and may or may not be swapped.

        The page table reads the same for both; what the file behind the mapping does not tell
        either is here, and never guessed.
        """
        return self._mask("unknown", start, end, out)

    def shared(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages are present and file pages or shared-anonymous pages (bit 61).

        Before Linux 7.3 the huge zero page is misreported as one.
        """
        return self._mask("shared", start, end, out)

    def exclusive(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages are present and mapped exactly once (bit 56, Linux 4.2 and later).

        Once, not by one process: a page that one process maps twice is not exclusive. Every page
        of a huge page mapped as a whole takes the first one's count, and kernels with
        CONFIG_NO_PAGE_MAPCOUNT only estimate it.
        """
        return self._mask("exclusive", start, end, out)

    def soft_dirty(self, start: int, end: int, *, out: Mask | None = None) -> Mask:
        """Return which pages were written since soft-dirty was cleared, or mapped since (bit 55).

        Raises
        ------
        UnsupportedError
            This kernel keeps no soft-dirty bits: all pages would read clean.

        Notes
        -----
        What it cannot tell, seen on Linux 5.10, 6.1, 6.12, 6.18 and 7.3:

        - Clean, though it was written: a page of a file, or of shared memory, that was written
          and then evicted or swapped out, also when it has come back (a private page keeps its
          bit in swap); a page that MADV_DONTNEED has emptied; a page of a file that was written by
          write(2), or through another mapping of it.
        - Dirty, though it was not: every page of a new mapping, touched or not, and of an old one
          that the kernel merges with a new neighbour; a page that mremap has moved; all of a
          transparent huge page, if one of its pages was written or they were collapsed into it
          (MADV_NOHUGEPAGE before the memory is first touched avoids that); every present page of
          hugetlb, of which the kernel keeps no such bits.

        After fork a child has its parent's bits of private pages, and from then on its own; in
        its shared mappings nothing is dirty. ``WriteTracker`` has none of that, for this process's
        own memory.

        Source: Documentation/admin-guide/mm/soft-dirty.rst.
        """
        need_soft_dirty()
        return self._mask("soft_dirty", start, end, out)

    def clear_soft_dirty(self) -> None:
        """Make all pages of the process clean: writes 4 to /proc/PID/clear_refs.

        For everyone who looks at the process: whoever else tracks it by soft-dirty (CRIU's
        pre-dump) loses what was written until now. And not without cost to the process: each page
        faults once when it is written next.

        Raises
        ------
        UnsupportedError
            This kernel keeps no soft-dirty bits; it would take the request and do nothing.
        PermissionError
            The process is another user's.
        """
        need_soft_dirty()
        self._process().write_own("clear_refs", b"4")

    def regions(
        self,
        start: int = 0,
        end: int | None = None,
        *,
        mask: int = 0,
        anyof: int = 0,
        inverted: int = 0,
        returns: int | None = None,
    ) -> npt.NDArray[np.void]:
        """Return the runs of pages of a span whose categories match: PAGEMAP_SCAN's question.

        Parameters
        ----------
        start, end : int
            The span; the whole address space by default. What is not mapped has no regions, nor
            have mappings that the kernel does not walk (device memory, ``[vvar]``).
        mask : Category
            Pages that have all of these match.
        anyof : Category
            Pages that have any of these match; 0 for no such condition.
        inverted : Category
            Those of `mask` and `anyof` whose absence counts, in place of their presence.
        returns : Category, optional
            The categories told of each region: pages that differ in no other are one region. All
            that this kernel knows by default; FILE is what makes a scan slow.

        Returns
        -------
        ndarray of REGION_DTYPE
            ``start``, ``end`` and ``categories``, sorted, without duplicates, neighbours of equal
            categories merged.

        Raises
        ------
        UnsupportedError
            A category is unknown to this kernel, or (before Linux 6.7, which has no such call)
            cannot be told from entries. SOFT_DIRTY: the kernel keeps no such bits.

        Notes
        -----
        SWAPPED is what the kernel says: guard regions, markers and migration entries as well, but
        no swapped pages of shared memory; `swapped` tells those. WRITTEN means nothing of pages
        without WPALLOWED.

        Source: ioctl PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst.
        """
        return regions(self._process(), start, end, mask, anyof, inverted, returns)

    def usage(
        self,
        mappings: Iterable[Mapping] | None = None,
        *,
        fields: Iterable[str] | None = None,
    ) -> npt.NDArray[np.void]:
        """Return how much of each mapping is present, swapped, shared and so on, in bytes.

        Parameters
        ----------
        mappings : iterable of Mapping, optional
            All mappings of the process by default. One that is not there any more counts 0.
        fields : iterable of str, optional
            The columns wanted, in their order; only what is asked for is paid for. By default all
            that this kernel can fill.

        Returns
        -------
        ndarray
            Structured, all uint64, one row a mapping: ``start``, ``end``, ``size``, ``present``,
            ``swapped``, ``swapped_shared`` (the part of ``swapped`` in shared memory),
            ``unknown``, ``shared``, ``exclusive``, ``soft_dirty``, ``huge`` (mapped as huge
            pages; the huge zero page is none).

        Raises
        ------
        UnsupportedError
            A column asked for by name is one that this kernel cannot fill.
        ValueError
            There is no such column.
        """
        return usage(self._process(), mappings, fields)

    def states(self, mappings: Iterable[Mapping] | None = None) -> Runs:
        """Return the runs of pages in the same state: all that can be known, at once.

        Parameters
        ----------
        mappings : iterable of Mapping, optional
            All mappings of the process by default.

        Returns
        -------
        ndarray of RUN_DTYPE
            ``start``, ``end`` and ``state``, a ``State``; never 0: what is not in it is nothing.
            Sorted, without duplicates; a run never crosses a mapping's border, and neighbours in
            the same mapping differ. Memory that is reserved, but never touched, costs nothing.

        Notes
        -----
        HUGE and ZERO are told by PAGEMAP_SCAN alone (Linux 6.7), GUARD since Linux 6.15, and
        SOFT_DIRTY where the kernel keeps such bits: elsewhere no page has them. The process goes on
        living meanwhile: the bits of one page are of one instant, but for HUGE and ZERO and, of
        shared memory, whether it is swapped; different pages are of different instants.

        Source: ioctl PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst.
        """
        return states(self._process(), mappings)

    def snapshot(self) -> Snapshot:
        """Return the mappings and the states of all pages, to be kept, saved and compared.

        The process goes on living meanwhile: mappings and pages are of different instants, and a
        page that comes, goes or moves while it is looked at may be missed. If the process exits
        or calls exec, there is no snapshot, but a ``ProcessLookupError``.
        """
        from .snapshot.snapshot import take

        return take(self._process())

    def residency(
        self,
        addresses: npt.ArrayLike,
        sizes: npt.ArrayLike,
        *,
        out: npt.NDArray[np.void] | None = None,
    ) -> npt.NDArray[np.void]:
        """Return how much of each of many allocations is present, swapped, shared, exclusive.

        Parameters
        ----------
        addresses, sizes : array_like of int, 1-d
            Where each allocation begins and how many bytes it has: in any order, of any size, on
            the same pages or over one another.
        out : ndarray of RESIDENCY_DTYPE, optional
            Filled and returned.

        Returns
        -------
        ndarray of RESIDENCY_DTYPE
            One row an allocation, all uint64, in bytes of the allocation itself: ``present``,
            ``swapped``, ``shared``, ``exclusive``, each what the mask of that name says of the
            pages it lies on. 100 bytes on a page that is present count 100. What is not mapped
            (any more) counts in none.

        Raises
        ------
        ValueError
            The arrays are not of one dimension, not of integers, of unequal length, or there is a
            negative number or an end beyond 2**64 - 1 in them.

        Notes
        -----
        Each page is looked at once, however many allocations lie on it, and none that has no
        allocation close to it. The cost is that of the four masks of the memory they lie on, and
        some 20 ns an allocation. Memory needed: a byte for each page with anything in it.
        """
        return residency(self._process(), addresses, sizes, out)

    def _mask(self, question: str, start: int, end: int, out: Mask | None) -> Mask:
        start, end, count = checked(start, end)
        out = self._output(out, count, _BOOL)
        masks.fill(self._process(), start, end, {question: out})
        return out

    @staticmethod
    def _output(out: npt.NDArray[Any] | None, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if out is None:
            affordable(count, dtype.itemsize)
        return entry.output(out, (count,), dtype)
