"""PageMap: each method hands its question to the engine below."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._kernel.failures import tells_of_file
from .engine import masks, physical
from .engine.cached import fill_cached
from .engine.pages import Masks, Pages
from .engine.regions import regions
from .engine.residency import residency
from .engine.states import states
from .engine.usage import usage
from .model import entry, hooks
from .model.closing import Closing
from .model.layout import Memory
from .model.mapping import Mapping
from .model.questions import Mask
from .model.runs import Runs
from .model.span import Start
from .process.limits import affordable, output
from .process.mappings import mappings
from .process.probes import need_soft_dirty, soft_dirty
from .process.process import Process, open_process

if TYPE_CHECKING:
    from .snapshot.snapshot import Snapshot

__all__ = ["PageMap"]

_BOOL, _U32, _I16 = np.dtype(bool), np.dtype(np.uint32), np.dtype(np.int16)


class PageMap(Closing[Process]):
    """The page table of a process, page by page.

    Parameters
    ----------
    process : int or object, optional
        A pid as this process's system calls take it, or any object with a ``.pid``
        (``psutil.Process``, ``subprocess.Popen``, ``multiprocessing.Process``). This process by
        default; then a forked child's copy of the object shows the child.

    Raises
    ------
    ProcessLookupError
        There is no such process, or it has no memory (a zombie, a kernel thread), or the object
        knows that its process has ended. Every method raises this once the process has exited or
        called exec. If only its main thread has ended, the process is still read.
    PermissionError
        This user may not read the process: it is another user's, which takes CAP_SYS_PTRACE and
        CAP_DAC_READ_SEARCH, both. Or /proc does not show it (hidepid).
    UnsupportedError
        /proc is that of another pid namespace, and does not show which process is meant. Or it is
        not mounted, or has no pagemap files, as in gVisor. Or something is mounted over the files
        of the process in /proc, which hides it.
    ValueError
        `process` is no positive number. Methods: the ``PageMap`` is closed, an address is not
        page-aligned, `end` is below `start`, or `out` does not fit. Or an object with memory is
        given to the ``PageMap`` of another process.
    TypeError
        `process` is neither a pid nor an object that has one. Methods: a span is neither two
        integers nor one object with memory.
    MemoryError
        Methods: the result would not fit into free memory, or below the memory limit of a cgroup.

    Notes
    -----
    All methods take page-aligned addresses in bytes, `start` inclusive and `end` exclusive. For
    this process, they also take one object with memory instead (an array, a buffer, whatever
    ``span`` takes), and answer for all pages that it lies on. Masks have one element a page, in
    address order. Pages outside every mapping are False. Only `clear_soft_dirty` changes anything,
    and no method faults a page in. Many threads may use one ``PageMap`` at once. The GIL is
    released while the kernel works.

    Source: /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.

    Examples
    --------
    >>> memory = mmap.mmap(-1, 4 * fpm.PAGE_SIZE)
    >>> memory[fpm.PAGE_SIZE] = 1
    >>> pm = fpm.PageMap()

    Masks have one bool a page, of an object or of a span:

    >>> pm.present(memory)
    array([False,  True, False, False])
    >>> start, end = fpm.span(memory)
    >>> int(pm.present(start, end).sum()) * fpm.PAGE_SIZE == fpm.resident(memory)
    True

    The same as runs, by the kernel's categories or with all that is known:

    >>> regions = pm.regions(memory, mask=fpm.Category.PRESENT)
    >>> (regions["start"] - start == fpm.PAGE_SIZE).tolist()
    [True]
    >>> states = pm.states(memory)["state"]
    >>> int((states & fpm.State.PRESENT != 0).sum())
    1

    Bytes by mapping, and by allocation:

    >>> usage = pm.usage(fields=["size", "present"])
    >>> bool((usage["present"] <= usage["size"]).all())
    True
    >>> pm.residency([start, start + fpm.PAGE_SIZE], [100, 100])["present"].tolist()
    [0, 100]

    The entries themselves, as the kernel gives them:

    >>> pm.read(memory).entries["flags"].shape
    (4,)
    """

    def __init__(self, process: Any = None) -> None:
        self._follows_fork = process is None
        self._held = open_process(process)

    def __repr__(self) -> str:
        if self._held is None:
            return "<PageMap: closed>"
        return f"<PageMap: process {os.getpid() if self._follows_fork else self._held.pid}>"

    def _repr_html_(self) -> str | None:
        """Return a table of the process's usage, for notebooks; None if it has ended."""
        try:
            process = self._process()
            name = os.fsdecode(process.read_own("comm").removesuffix(b"\n"))
            spans = self.mappings()
            usage = self.usage(spans)
        except ValueError:
            return None
        except OSError as error:
            if not tells_of_file(error):
                raise
            return None
        html: str = hooks.load("notebook").of_usage(process.pid, name, spans, usage)
        return html

    @property
    def pid(self) -> int:
        """The pid of the process."""
        return self._process().pid

    @property
    def uid(self) -> int:
        """The real user id of the process: the number of the user who started it."""
        return self._process().uid()

    def _check_running(self) -> None:
        """Raise ProcessLookupError if the pid may be another process's by now."""
        self._process().check_alive()

    def _process(self) -> Process:
        """Return the process to read from now."""
        held = self._need_open()
        if self._follows_fork and held.owner != os.getpid():
            held = self._held = Process()
        return held

    def mappings(self) -> list[Mapping]:
        """Return the mappings of the process, in address order, from /proc/PID/maps.

        Returns
        -------
        list of Mapping

        Raises
        ------
        MemoryError
            The paths come to more than 64 MiB, or those of more than 32 KiB to more than 32 MiB.
        """
        return mappings(self._process())

    def read(
        self, start: Start, end: int | None = None, *, out: npt.NDArray[np.void] | None = None
    ) -> Pages:
        """Return the entries of a span as the kernel gives them, all bits of a page at one instant.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span.
        out : ndarray of ENTRY_DTYPE, optional
            Filled, and used for the result in place of a new array.

        Returns
        -------
        Pages
        """
        process = self._process()
        start, end, count = process.span(start, end)
        entries = output(out, (count,), entry.ENTRY_DTYPE)
        return Pages(process, start, end, entries)

    def masks(self, start: Start, end: int | None = None) -> Masks:
        """Return the masks `swapped`, `soft_dirty`, `shared` and `unknown` of a span, in one pass.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span.

        Returns
        -------
        Masks
        """
        process = self._process()
        start, end, count = process.span(start, end)
        names = ["swapped", "shared", "unknown"] + ["soft_dirty"] * soft_dirty()
        affordable(count, len(names))
        found = {name: np.empty(count, bool) for name in names}
        masks.fill(process, start, end, found)
        return Masks(start, end, found)

    def present(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are mapped in RAM (bit 63).

        Pages that lost their access rights (PROT_NONE) or were given up by MADV_FREE are present
        until the kernel has reclaimed them.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span.
        out : ndarray of bool, optional
            Filled and returned, in place of a new array; one element a page.

        Returns
        -------
        ndarray of bool
            One element a page, in address order. All other masks take and return the same.
        """
        return self._mask("present", start, end, out)

    def swapped(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are known to be swapped out.

        A page is swapped if the page table holds a swap entry for it (bit 62, but no guard region,
        marker, migration or poison entry, as far as this user may see). The page table forgets a
        swapped page of shared memory (MAP_SHARED anonymous, memfd, SysV, any tmpfs, mapped shared
        or private): such a page is swapped if the file's page cache holds a swap entry for it. The
        sum for each mapping equals ``Swap:`` in smaps.

        Notes
        -----
        Shared memory is looked up in its file, opened through /proc/PID/map_files (CAP_SYS_ADMIN or
        CAP_CHECKPOINT_RESTORE), else through /proc/PID/fd or by its path. With cachestat (Linux
        6.5) the answer is exact. Before, SEEK_DATA and mincore are asked: they take a swapped page
        with a copy in the swap cache for not swapped. If the file cannot be opened or asked, the
        sums of smaps are taken where they prove that no page of the file is swapped, or that all
        pages of a mapping are. All other pages are in `unknown`.
        """
        return self._mask("swapped", start, end, out)

    def unknown(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages of shared memory are not present, and may or may not be swapped.

        The page table reads the same for both. A page is unknown if the file behind the mapping
        does not tell either; nothing is guessed.
        """
        return self._mask("unknown", start, end, out)

    def shared(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are present and file pages or shared-anonymous pages (bit 61).

        The zero page is not one of them, nor is the huge zero page, though its entry has the bit
        before Linux 7.3. Before Linux 6.7 it is told by its mapping, which has no file; in a
        private mapping of /dev/zero it is misreported there.
        """
        return self._mask("shared", start, end, out)

    def exclusive(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are present and mapped exactly once (bit 56, Linux 4.2 and later).

        A page that one process maps twice is not exclusive. If a huge page is mapped as a whole,
        all its pages have the first one's count. Kernels with CONFIG_NO_PAGE_MAPCOUNT only estimate
        the count.
        """
        return self._mask("exclusive", start, end, out)

    def huge(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are mapped as part of a huge page, transparent or of hugetlb.

        The huge zero page does not count. A huge page that is mapped page by page, or in part, does
        not count either.

        Raises
        ------
        UnsupportedError
            There is no PAGEMAP_SCAN (Linux 6.7), or a sandbox forbids it: entries do not tell.
        """
        return self._mask("huge", start, end, out)

    def zero(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages are present and map the zero page, or the huge zero page.

        The whole machine shares one zero page. It stands for private memory that was read but never
        written, or that userfaultfd has filled with zeros. Holes of files do not map it, except on
        a DAX file system.

        Raises
        ------
        UnsupportedError
            There is no PAGEMAP_SCAN (Linux 6.7), or a sandbox forbids it: entries do not tell.
        """
        return self._mask("zero", start, end, out)

    def cached(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages of the files that are mapped there are in the page cache.

        A page counts if the file's page is in the page cache, whether it is mapped here or not, and
        also if a private mapping has its own copy. False are memory without a file, device files,
        pages beyond the end of a file, and shared memory that is swapped out.

        Raises
        ------
        UnsupportedError
            A file cannot be asked; the message says which one, and why: it cannot be opened, or
            this user neither owns it nor may write it, or it is on a file system that would ask a
            server (FUSE, a network), or on hugetlbfs.

        Notes
        -----
        The file is opened, if opening it cannot wait and has no side effects. Then cachestat (Linux
        6.5) is asked, which counts pages that are still being read from the disk. Older kernels are
        asked by mincore. For a file on an overlay, its layer is asked, if it is certain which layer
        that is. If a file cannot be opened, but this process has mapped it, the mapping is asked.
        Nothing is faulted in or read, and access times stay as they are.
        """
        process = self._process()
        start, end, count = process.span(start, end)
        out = output(out, (count,), _BOOL)
        fill_cached(process, start, end, out)
        return out

    def soft_dirty(self, start: Start, end: int | None = None, *, out: Mask | None = None) -> Mask:
        """Return which pages were written, or newly mapped, since soft-dirty was cleared (bit 55).

        Raises
        ------
        UnsupportedError
            This kernel keeps no soft-dirty bits: all pages would read clean.

        Notes
        -----
        Some answers are wrong, as seen on Linux 5.10, 6.1, 6.12, 6.18 and 7.3.

        These pages are clean, although they were written:

        - A page of a file, or of shared memory, that was written and then evicted or swapped out,
          even after it has come back. A private page keeps its bit in swap.
        - A page that MADV_DONTNEED has emptied.
        - A page of a file that was written by write(2) or through another mapping.

        These pages are dirty, although they were not written:

        - Every page of a new mapping, touched or not, and of an old mapping that the kernel merges
          with a new neighbour.
        - A page that mremap has moved.
        - All pages of a transparent huge page, if one of them was written, or if the kernel
          collapsed small pages into it. MADV_NOHUGEPAGE before the first touch avoids that.
        - Every present page of hugetlb, for which the kernel keeps no soft-dirty bits.

        A forked child inherits its parent's bits of private pages, and has its own from then on; in
        its shared mappings no page is dirty. ``WriteTracker`` makes no such errors about this
        process's own writes.

        Source: Documentation/admin-guide/mm/soft-dirty.rst.
        """
        need_soft_dirty()
        return self._mask("soft_dirty", start, end, out)

    def clear_soft_dirty(self) -> None:
        """Make all pages of the process clean: write 4 to /proc/PID/clear_refs.

        The bits are cleared for all observers: whoever else tracks the process by soft-dirty
        (CRIU's pre-dump) loses the writes until now. The process pays one page fault for each page
        at its next write.

        Raises
        ------
        UnsupportedError
            This kernel keeps no soft-dirty bits: it would accept the request and do nothing.
        PermissionError
            The process is another user's.
        """
        need_soft_dirty()
        self._process().write_own("clear_refs", b"4")

    def regions(
        self,
        start: Start = 0,
        end: int | None = None,
        *,
        mask: int = 0,
        anyof: int = 0,
        inverted: int = 0,
        returns: int | None = None,
    ) -> npt.NDArray[np.void]:
        """Return the runs of pages in a span whose categories match: PAGEMAP_SCAN's own question.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span; the whole address space by default. Unmapped pages are in no region, and
            neither are mappings that the kernel does not walk (device memory, ``[vvar]``).
        mask : Category
            A page matches if it has all of these.
        anyof : Category
            A page matches if it has any of these; 0 for no such condition.
        inverted : Category
            Categories of `mask` and `anyof` that must be absent, not present.
        returns : Category, optional
            The categories to return. Neighbours that differ only in others are one region. By
            default all that this kernel knows; FILE makes a scan slow.

        Returns
        -------
        ndarray of REGION_DTYPE
            ``start``, ``end`` and ``categories``, sorted, without duplicates, neighbours of equal
            categories merged.

        Raises
        ------
        UnsupportedError
            This kernel does not know a category. Before Linux 6.7, which has no such call: entries
            do not show it. SOFT_DIRTY: the kernel keeps no such bits.

        Notes
        -----
        SWAPPED has the kernel's meaning. It includes guard regions, markers and migration entries,
        but not the swapped pages of shared memory, which `swapped` finds. WRITTEN means nothing on
        pages without WPALLOWED.

        Source: ioctl PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst.
        """
        process = self._process()
        start, end, _ = process.span(start, end, 1 << 64)
        return regions(process, start, end, mask, anyof, inverted, returns)

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
            All mappings of the process by default. A mapping that is gone counts 0.
        fields : iterable of str, optional
            The columns wanted, in their order. Fewer columns cost less. By default, those of the
            first list below that this kernel can fill.

        Returns
        -------
        ndarray
            Structured, one row for each mapping. Sizes are uint64, in bytes:

            - ``start``, ``end``, ``size``: of the mapping
            - ``present``: in RAM
            - ``swapped``: in swap; ``swapped_shared``: the part of it in shared memory
            - ``unknown``: in swap or never touched
            - ``shared``: the part of present that is a file's page or shared memory's
            - ``exclusive``: the part of present that is mapped nowhere else
            - ``soft_dirty``: see `soft_dirty`
            - ``huge``: mapped as huge pages, without the huge zero page
            - ``zero``: the part of present that is the zero page or the huge zero page

            These columns cost more, so they are there only if `fields` names them:

            - ``pss``: present, each page divided by how often it is mapped
            - ``uss``: the part of present that no other process maps
            - ``cached``: the part of the mapped file that is in the page cache; 0 without a file
            - ``cache_dirty``, ``cache_writeback``: the parts of cached that are not written to the
              disk yet, and that are being written (Linux 6.5)

            So are these, which describe the mapping:

            - ``path``, ``permissions``, ``kind``: dtype object. A kind is heap, stack, anonymous,
              shared memory, executable, file, device or kernel.
            - ``offset``, ``device``, ``inode``: numbers, as in ``Mapping``

        Raises
        ------
        UnsupportedError
            This kernel cannot fill a column that `fields` names, or a file cannot be asked for
            ``cached``; see `cached`. Or ``pss`` or ``uss`` is asked for a part of a mapping, and
            frame numbers are hidden (CAP_SYS_ADMIN) or /proc/kpagecount is: smaps has sums of whole
            mappings alone. A mapping that has grown since `mappings` was read is such a part.
        ValueError
            There is no such column, or a mapping ends at 2**64.

        Notes
        -----
        If the file behind a mapping cannot be asked which pages are swapped, ``swapped`` and
        ``swapped_shared`` come from smaps, provided that its sum is about no other pages.

        ``pss`` and ``uss`` have hugetlb pages, and no zero pages. Without frame numbers they come
        from smaps; then ``pss`` lacks hugetlb pages that others map.
        """
        return usage(self._process(), mappings, fields)

    def states(self, mappings: Iterable[Mapping] | Memory | None = None) -> Runs:
        """Return all that is known of each page, as runs of pages in the same state.

        Parameters
        ----------
        mappings : iterable of Mapping, or one object with memory, optional
            All mappings of the process by default.

        Returns
        -------
        ndarray of RUN_DTYPE
            ``start``, ``end`` and ``state``, a ``State``. Pages in no run have the state 0. Runs
            are sorted and do not overlap. A run never crosses the edge of a mapping, and neighbours
            in the same mapping differ. Memory that is reserved, but never touched, costs nothing.

        Notes
        -----
        HUGE and ZERO need PAGEMAP_SCAN (Linux 6.7), GUARD needs Linux 6.15, and SOFT_DIRTY needs a
        kernel that keeps such bits. Elsewhere no page has them. The process runs on meanwhile, so
        different pages are of different instants. The bits of one page are of one instant, except
        HUGE, ZERO, and whether a page of shared memory is swapped.

        Source: ioctl PAGEMAP_SCAN, Documentation/admin-guide/mm/pagemap.rst.
        """
        return states(self._process(), mappings)

    def snapshot(self) -> Snapshot:
        """Return the mappings and the states of all pages, to keep, save and compare.

        The process runs on meanwhile. So mappings and pages are of different instants, and a page
        that comes, goes or moves may be missed. Memory that is mapped meanwhile is left out: each
        run lies in one of the mappings. If the process exits or calls exec, this raises
        ``ProcessLookupError``.

        Returns
        -------
        Snapshot
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
        """Return how much of each of many allocations is present, swapped and so on.

        Parameters
        ----------
        addresses, sizes : array_like of int, 1-d
            The address and the size of each allocation, in bytes. In any order; allocations may
            share pages and overlap.
        out : ndarray of RESIDENCY_DTYPE, optional
            Filled and returned.

        Returns
        -------
        ndarray of RESIDENCY_DTYPE
            One row for each allocation, all uint64: how many of its bytes lie on pages in the masks
            ``present``, ``swapped``, ``shared``, ``exclusive`` and ``unknown``. An allocation of
            100 bytes on a present page counts 100. Bytes that are not mapped count nowhere.

        Raises
        ------
        ValueError
            The arrays are not one-dimensional, not of integers or not of equal length, or they
            have a negative number or an end beyond 2**64 - 1.

        Notes
        -----
        Each page is looked at once, however many allocations lie on it. Pages without an allocation
        close to them are not looked at. The cost is that of the four masks of this memory, plus
        some 20 ns for each allocation. The memory needed is a byte for each populated page.
        """
        return residency(self._process(), addresses, sizes, out)

    def mapcounts(
        self, start: Start, end: int | None = None, *, out: npt.NDArray[np.uint32] | None = None
    ) -> npt.NDArray[np.uint32]:
        """Return how often each present page is mapped, by all processes together.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span.
        out : ndarray of uint32, optional
            Filled and returned.

        Returns
        -------
        ndarray of uint32
            One element a page; 0 if the page is not present, and for zero pages, which the kernel
            does not count. Each page of a huge page has its own count. If the huge page is mapped
            as a whole, that counts for all its pages.

        Raises
        ------
        PermissionError
            Frame numbers were hidden when the PageMap was made (CAP_SYS_ADMIN), or this user may
            not read /proc/kpagecount.
        UnsupportedError
            /proc has no kpagecount: see ``Frames``.

        Notes
        -----
        Kernels with CONFIG_NO_PAGE_MAPCOUNT give the average of a large folio's pages:
        ``capabilities().page_mapcounts`` tells. A page that moves between the reading of its entry
        and of its count has the count of its old frame.

        Source: /proc/kpagecount, Documentation/admin-guide/mm/pagemap.rst.
        """
        process = self._process()
        start, end, count = process.span(start, end)
        if out is None:
            affordable(count, _U32.itemsize)
            counts = np.zeros(count, _U32)
        else:
            counts = output(out, (count,), _U32)
        physical.fill_mapcounts(process, start, end, counts, zeroed=out is None)
        return counts

    def nodes(
        self, start: Start, end: int | None = None, *, out: npt.NDArray[np.int16] | None = None
    ) -> npt.NDArray[np.int16]:
        """Return on which NUMA node each present page lies.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span.
        out : ndarray of int16, optional
            Filled and returned.

        Returns
        -------
        ndarray of int16
            One element a page; -1 if the page is not present or is a zero page, which belongs to no
            process (numa_maps does not count it either). On a machine without NUMA, nodes are 0.

        Raises
        ------
        PermissionError
            The process is another user's (it takes CAP_SYS_PTRACE), or a sandbox forbids it.
        UnsupportedError
            move_pages(2) is missing or forbidden, and frame numbers are hidden.

        Notes
        -----
        This asks move_pages(2), which needs no privilege for a user's own processes and moves
        nothing if it is given no nodes. If that is refused, frame numbers are looked up, if this
        user sees them (see ``Frames.nodes``).

        Source: Documentation/admin-guide/mm/numa_memory_policy.rst, move_pages(2).
        """
        process = self._process()
        start, end, count = process.span(start, end)
        found = output(out, (count,), _I16)
        physical.fill_nodes(process, start, end, found)
        return found

    def folios(self, start: Start = 0, end: int | None = None) -> npt.NDArray[np.void]:
        """Return the folios that are mapped in a span: small pages, and huge ones of any order.

        Parameters
        ----------
        start, end : int, or one object with memory
            The span; the whole address space by default.

        Returns
        -------
        ndarray of FOLIO_DTYPE
            One row for each stretch of addresses that maps consecutive pages of one folio, in
            address order: ``start``, ``end``, ``pfn`` (the frame at ``start``), ``order`` (the
            folio has ``2**order`` pages) and ``flags`` (``KPF`` flags of the folio's first frame).
            A small page is a folio of order 0. A folio that is mapped in part has a shorter
            stretch, and one that is mapped in pieces has several rows. The first frame of the
            folio, mapped or not, is ``pfn >> order << order``.

        Raises
        ------
        PermissionError
            Frame numbers were hidden when the PageMap was made (CAP_SYS_ADMIN), or this user may
            not read /proc/kpageflags.
        UnsupportedError
            /proc has no kpageflags: see ``Frames``.
        MemoryError
            The result, 40 bytes a folio, would not fit into free memory.

        Notes
        -----
        Entries are read before and after the flags of their frames, a thousand pages at a time. If
        an entry has changed, or a folio was split meanwhile, they are read again, four times at
        most. After that, a page whose folio is still uncertain has order 0.

        Source: /proc/kpageflags, Documentation/admin-guide/mm/pagemap.rst, transhuge.rst.
        """
        process = self._process()
        start, end, _ = process.span(start, end, 1 << 64)
        return physical.folios(process, start, end)

    def _mask(self, question: str, start: Start, end: int | None, out: Mask | None) -> Mask:
        process = self._process()
        start, end, count = process.span(start, end)
        out = output(out, (count,), _BOOL)
        masks.fill(process, start, end, {question: out})
        return out
