"""Track the writes of this process without soft-dirty: userfaultfd write protection."""

import numpy as np
import numpy.typing as npt

from .._kernel import uffd
from .._kernel.failures import is_refusal
from ..model.entry import PAGE_SIZE, Category
from ..model.mapping import KERNEL_PATHS, Mapping
from ..model.questions import Mask
from ..process.process import Process
from .emptied import Emptied, add_regions, asks_for_emptied
from .files import check_file
from .spans import check_device, check_tables
from .tracker import Tracker

__all__ = ["WriteTracker"]


class WriteTracker(Tracker):
    """Track which pages of a span of its own memory this process writes, without privileges.

    Every page is write-protected. When a thread or a system call first writes to a page, the kernel
    lifts its protection and remembers that. The writer does not wait; it pays one fault a page.

    Parameters
    ----------
    start, end : int, or one object with memory
        The span, in bytes: page-aligned, mapped without gaps, and writable. For an object (whatever
        ``span`` takes), all pages that it lies on; the first and the last page may hold memory of
        other objects, too. The tracker does not keep the object alive.

    Raises
    ------
    UnsupportedError
        Linux is older than 6.7, this process may not use userfaultfd, userfaultfd does not support
        this memory, or it is a file's: see Notes.
    ValueError
        The span is not all mapped, not writable, or begins or ends within a hugetlb page.
    TypeError
        The span is neither two integers nor one object with memory.
    OSError
        EBUSY: part of it is tracked already, here or by another user of userfaultfd. EMFILE: four
        descriptors are needed, one for each mapping of shared memory, and one more for a moment.
        ENOMEM: the edges would make more mappings than vm.max_map_count.
    MemoryError
        The page tables for untouched memory would not fit into free memory.

    Notes
    -----
    Tracking ends when the tracker is closed or collected. The memory is then as it was before.
    Memory that is unmapped, mapped anew or moved meanwhile is no longer tracked, and `written`
    raises, also if another tracker has the addresses now. If that happens at the very moment of an
    answer, this tracker may go on with the new memory at its addresses; then all of that memory is
    reported as written, also by another tracker that has these addresses now. So close a tracker
    before its memory is freed.

    A forked child's copy of the memory is not tracked; the child needs its own tracker. Many
    threads may ask one tracker while others write; each written page is reported to one of them.

    Reported as written:

    - Whatever any thread or process writes through this mapping, by stores or system calls.
    - For a transparent huge page, only the written small pages: at the first write the kernel maps
      it as small pages. MADV_COLLAPSE makes it huge again once tracking is over. A hugetlb page is
      reported as a whole.
    - Pages that were emptied, because their content has changed: by MADV_DONTNEED; in shared memory
      also by MADV_REMOVE, a hole punched into the file, or ftruncate. A hugetlb page is not
      reported if it is read before the answer, or was not present (bit 63) before it was emptied.

    Reported, although the content is as before:

    - Pages that are prepared for writing, by MADV_POPULATE_WRITE, or by mlock(2) of private memory.
    - Pages that the kernel has merged with equal ones (KSM, MADV_MERGEABLE).
    - Pages of shared hugetlb after MADV_DONTNEED.
    - Pages that the kernel was just moving to other frames (compaction) when they were protected.
    - On some kernels (6.18.15; not 6.12, 6.18.44, 7.3), untouched pages, once, when one of them or
      of those near it (of one page table, 2 MiB) is first used, also if it is only read.

    Shared memory can also change past this mapping: by write(2), splice(2) and the like to its
    file, or by stores through another mapping. The kernel then only updates the file's time of
    modification. If that has changed, and nothing else has to be reported, all pages of the file
    are reported. The same happens if pages were emptied, and then read before the answer; and if
    this mapping was written during the answer before, and not since.

    Not reported:

    - Changes past this mapping, and pages that were emptied and then read, if the same answer has
      anything else to report: written pages, or emptied ones. So not a page that a hole or the new
      end of the file cuts, beside emptied pages.
    - Changes past this mapping within a tick of the clock (1 to 10 ms) after the last change that
      was reported, if the kernel's times are so coarse (seen on Linux 6.12, not 6.18).
    - Changes past this mapping, if the file's time is set back after them (utimensat, ``cp -p``).
    - Stores to pages to which the other mapping had written before.
    - Changes past this mapping of shared memory without a descriptor or a path (SysV, MAP_SHARED |
      MAP_ANONYMOUS), unless this process is root or has CAP_CHECKPOINT_RESTORE.
    - Writes through other mappings of hugetlb.
    - Writes of devices to pages that were pinned before (io_uring's registered buffers, O_DIRECT
      under way, RDMA).
    - Writes to pages that others protect again before the answer: a userfaultfd of this process, or
      a scan of its pagemap with PM_SCAN_WP_MATCHING, also by another process.

    Files: only hugetlb and shared memory are tracked (memfd, any tmpfs, SysV, MAP_SHARED |
    MAP_ANONYMOUS), and shared memory only if it is mapped MAP_SHARED. In a private mapping, the
    kernel would not tell what MADV_DONTNEED takes away. Other files, such as those of np.memmap,
    are refused: once a protected page has left the page cache, mlock(2) of it loops in the kernel
    for ever, and only SIGKILL ends that (seen on Linux 6.12, 6.18 and 7.3). SysV segments and
    memory of devices are refused before Linux 6.18, because older kernels may crash when their
    tracking ends (seen on 6.12).

    MADV_GUARD_INSTALL on tracked shared memory does not return: the kernel (6.15 and newer) tries
    again for ever. `close` from another thread ends that, and so does SIGKILL.

    Tracking makes page tables for untouched memory, which remain until it is unmapped: 8 bytes a
    page, so 2 MiB for each GiB of 4 KiB pages.

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

    _what, _whats = "write", "writes"
    _category, _method = Category.WRITTEN, "written"
    _rights = "w"
    _needs, _request = "Linux 6.7 (UFFD_FEATURE_WP_ASYNC)", "UFFDIO_WRITEPROTECT"
    _has_files = False
    _emptied: Emptied | None = None

    def _open(self) -> uffd.Userfaultfd:
        return uffd.Userfaultfd()

    def _check(self, process: Process, mapping: Mapping) -> None:
        where = f"{mapping.start:#x}-{mapping.end:#x}"
        if mapping.path.startswith(KERNEL_PATHS):
            raise ValueError(f"{where} is the kernel's {mapping.path}: no one writes there")
        if not mapping.writable:
            raise ValueError(f"{where} may not be written ({mapping.permissions})")
        check_device(process, mapping)
        check_file(process, mapping)
        self._has_files |= not mapping.anonymous

    def _arm(self, process: Process, watch: uffd.Userfaultfd) -> None:
        check_tables(process, self.start, self.end)
        super()._arm(process, watch)
        if self._has_files:
            self._emptied = Emptied(process, self.start, self.end)

    def _find_emptied(self) -> set[tuple[int, int]]:
        """Find what was emptied; return what of it the answer has to tell by itself."""
        if self._emptied is None:
            return set()
        process, watch = self._need_open()
        try:
            self._emptied.find(process, watch)
        except OSError as error:
            if error.filename != process.path or not is_refusal(error):
                raise
            raise self._forbidden(error.errno) from None
        return self._emptied.pending

    def written(self, *, reset: bool = True, out: Mask | None = None) -> Mask:
        """Return which pages were written since their last reset, or since tracking began.

        Parameters
        ----------
        reset : bool, optional
            Protect those pages again, each at the instant when it is looked at. So each write is in
            this answer or in the next one. A write that is under way at that instant (its fault
            taken, its byte not yet stored) may be in both.
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
        An exception in this call, even a signal handler's, loses no write: pages that were already
        reset count as written again. A handler may also raise just after this call has returned.
        Then the answer is lost, unless it is in `out`. If part of a span is gone,
        ``PageMap().regions(start, end, mask=Category.WPALLOWED | Category.WRITTEN)`` finds the
        writes to the rest.
        """
        answer = self._answer()
        pending: set[tuple[int, int]] = set()
        again = False
        try:
            if self._emptied is None:  # by far the most: each call costs short answers a part
                told = self._mask(answer, reset, out)
            else:
                with self._lock:
                    pending = self._find_emptied()
                    told = self._mask(answer, reset, out)
                    for start, end in pending:
                        first, last = start - self.start, end - self.start
                        told[first // PAGE_SIZE : last // PAGE_SIZE] = True
                    again = self._asks_again(pending, reset, told)
        except BaseException:
            # Also one that a signal handler raised after the answer was complete.
            answer.give_back()
            self._give_back(pending)
            raise
        return self.written(reset=reset, out=told) if again else told

    def _release(self) -> None:
        self._emptied = None
        super()._release()

    def _asks_again(
        self,
        pending: set[tuple[int, int]],
        reset: bool,
        told: npt.NDArray[np.generic],
        everything: bool = True,
    ) -> bool:
        """Note what an answer has told; return whether files have changed though that is nothing.

        Then all that is mapped of them counts as written. `everything`: if pages had been written,
        the answer would have them.
        """
        if self._emptied is None:
            return False
        if not (told.any() if told.dtype == bool else len(told)):
            return everything and self._emptied.changed(*self._need_open())
        if reset:
            self._emptied.pending = self._emptied.pending - pending
            self._emptied.explain()
        return False

    def _give_back(self, pending: set[tuple[int, int]]) -> None:
        if pending and self._emptied is not None:
            with self._lock:
                self._emptied.pending = self._emptied.pending | pending

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
        asked = self._asked(mask, anyof, inverted, returns, reset)
        answer = self._answer()
        pending: set[tuple[int, int]] = set()
        plain = asked[:3] == (Category.WRITTEN, 0, 0)
        try:
            with self._lock:
                pending = self._find_emptied()
                told = self._regions(answer, asked, reset)
                pending = pending if asks_for_emptied(*asked[:3]) else set()
                told = add_regions(told, pending, asked[3])
                again = self._asks_again(pending, reset, told, plain)
        except BaseException:
            answer.give_back()
            self._give_back(pending)
            raise
        return self.regions(reset=reset, mask=mask, returns=returns) if again else told
