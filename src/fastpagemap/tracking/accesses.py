"""Track which pages this process reads or writes: userfaultfd read-write protection."""

import errno

import numpy as np
import numpy.typing as npt

from .._kernel import uffd
from ..model.entry import Category
from ..model.mapping import Mapping
from ..model.questions import Mask
from ..process.process import Process
from .spans import check_file_writable
from .tracker import Tracker

__all__ = ["AccessTracker"]


class AccessTracker(Tracker):
    """Track which pages of a span of its own memory this process reads or writes.

    It takes no privileges. Every page is protected from reads and writes. When a thread or a system
    call first accesses a page, the kernel lifts its protection and remembers that. Whoever accesses
    a page does not wait, and pays one fault a page.

    Parameters
    ----------
    start, end : int, or one object with memory
        The span, in bytes: page-aligned, and mapped without gaps. For an object (whatever ``span``
        takes), all pages that it lies on; the first and the last page may hold memory of other
        objects, too. The tracker does not keep the object alive.

    Raises
    ------
    UnsupportedError
        Linux is older than 7.3, this process may not use userfaultfd, or the kernel does not track
        accesses to this memory. It does for private anonymous memory, shared anonymous memory,
        memfd, tmpfs and hugetlb pages, but not for other files, System V's shared memory, and
        shared mappings of what may not be written.
    ValueError
        The span is not all mapped, may not be accessed, or begins or ends within a hugetlb page.
    TypeError
        The span is neither two integers nor one object with memory.
    OSError
        EBUSY: part of it is tracked already, by a tracker of either kind or another user of
        userfaultfd. EMFILE: four descriptors are needed. ENOMEM: the edges would make more mappings
        than vm.max_map_count.

    Notes
    -----
    Tracking ends when the tracker is closed or collected. The memory is then as it was before.
    Memory that is unmapped, mapped anew or moved meanwhile is no longer tracked, and `accessed`
    raises, also if another tracker has the addresses now. If that happens at the very moment of an
    answer, this tracker may go on with the new memory at its addresses; then all populated pages of
    it are reported as accessed, also by another tracker that has these addresses now. So close a
    tracker before its memory is freed.

    A forked child's copy of the memory is not tracked; the child needs its own tracker. Many
    threads may ask one tracker while others use the memory; each accessed page is reported to one
    of them.

    Reported as accessed:

    - Whatever this process reads or writes through this mapping, and what other processes read of
      it (``process_vm_readv``, a debugger).
    - Pages that mlock locks.
    - All pages of a huge page, transparent or hugetlb, if one of them is accessed. MADV_COLLAPSE is
      refused during tracking.

    Reported, although nothing was accessed: pages with MADV_GUARD_INSTALL, and pages that the
    kernel has merged with others of the same content (KSM). An access that is under way at the
    moment of an answer may be in the next answer, too.

    Not reported:

    - Accesses to pages that the kernel took away before the answer: by MADV_DONTNEED, MADV_REMOVE,
      a hole in the file, truncation, or swapping out of shared memory or of a file's page. A
      private page is reported even if it was swapped out.
    - Accesses through another mapping of the same memory.
    - Accesses of devices to pages that were pinned before (io_uring's registered buffers, O_DIRECT
      under way, RDMA).

    Source: Documentation/admin-guide/mm/userfaultfd.rst, Read-Write Protection, and pagemap.rst,
    PAGE_IS_ACCESSED.

    Examples
    --------
    >>> memory = mmap.mmap(-1, 4 * fpm.PAGE_SIZE)
    >>> with fpm.AccessTracker(memory) as tracker:
    ...     byte = memory[2 * fpm.PAGE_SIZE]
    ...     tracker.accessed()
    array([False, False,  True, False])
    """

    _what, _whats = "access", "accesses"
    _category, _method = Category.ACCESSED, "accessed"
    _rights = "rwx"
    _needs, _request = "Linux 7.3 (UFFD_FEATURE_RWP_ASYNC)", "UFFDIO_RWPROTECT"

    def _open(self) -> uffd.Userfaultfd:
        return uffd.Userfaultfd(accesses=True)

    def _check(self, process: Process, mapping: Mapping) -> None:
        if not any(right in mapping.permissions for right in self._rights):
            where = f"{mapping.start:#x}-{mapping.end:#x}"
            raise ValueError(f"{where} may not be accessed ({mapping.permissions})")

    def _refusal(self, process: Process, error: OSError) -> Exception:
        if error.errno == errno.EPERM:
            check_file_writable(process, self.start, self.end)
        return super()._refusal(process, error)

    def accessed(self, *, reset: bool = True, out: Mask | None = None) -> Mask:
        """Return which pages were accessed since their last reset, or since tracking began.

        Parameters
        ----------
        reset : bool, optional
            Protect those pages again, and no others, just after they were looked at. So each access
            is in this answer or in the next one. One that is under way at that moment may be in
            both.
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
        An exception in this call, even a signal handler's, loses no access: pages that were already
        reset count as accessed again. A handler may also raise just after this call has returned.
        Then the answer is lost, unless it is in `out`. If part of a span is gone,
        ``PageMap().regions(start, end, mask=Category.ACCESSED)`` finds the accesses to the rest.
        """
        answer = self._answer()
        try:
            told = self._mask(answer, reset, out)
        except BaseException:
            # Also one that a signal handler raised after the answer was complete.
            answer.give_back()
            raise
        return told

    def regions(
        self,
        *,
        reset: bool = False,
        mask: int = Category.ACCESSED,
        anyof: int = 0,
        inverted: int = 0,
        returns: int | None = Category.ACCESSED,
    ) -> npt.NDArray[np.void]:
        """Return the accessed regions, or those of other categories, as ``PageMap.regions`` does.

        Pages that were not accessed cost no memory, so this suits large spans.

        Parameters
        ----------
        reset : bool, optional
            Protect the pages of these regions again, as `accessed` does. Not by default.
        mask, anyof, inverted, returns : Category, optional
            As for ``PageMap.regions``. Here ACCESSED is exact. `returns` of None returns all.

        Returns
        -------
        ndarray of REGION_DTYPE
            Sorted; neighbours of equal categories are merged.

        Raises
        ------
        ValueError
            As for `accessed`. Or a reset would lose accesses: with `reset`, `mask` and `returns`
            must have ACCESSED, and `inverted` must not.
        UnsupportedError
            This kernel does not know a category.
        OSError
            As for `accessed`.
        """
        asked = self._asked(mask, anyof, inverted, returns, reset)
        answer = self._answer()
        try:
            told = self._regions(answer, asked, reset)
        except BaseException:
            answer.give_back()
            raise
        return told
