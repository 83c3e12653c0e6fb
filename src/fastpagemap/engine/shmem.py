"""Which pages of shared memory are swapped.

The page table forgets a page of shared memory when it is swapped out: its entry then reads like
that of a page never touched. Only the file behind the mapping knows.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache, scan
from .._kernel.descriptor import Descriptor
from .._kernel.failures import is_refusal
from ..model.entry import PAGE_SIZE, REGION_DTYPE
from ..model.errors import tells_of_file
from ..model.mapping import Mapping
from ..model.questions import States, matching
from ..model.runs import State
from ..process.backing import Backings
from ..process.capabilities import categories
from ..process.process import Process
from .shmem_sums import Sums

__all__ = ["SharedMemory", "SwapUse", "unresolved_question"]

Mask = npt.NDArray[np.bool_]

# Pages of shared memory that are resolved at a time.
WINDOW_PAGES = 1 << 18
# Blocks of so many pages without a populated one are not looked at.
_BLOCK_PAGES = 512
# No file is larger.
_FILE_END = (1 << 63) - 1


def unresolved_question(mapping: Mapping) -> str:
    """Return the question to which pages answer yes that only the mapping's file can resolve.

    A private mapping's own copies have swap entries and markers, so their entries are not empty.
    """
    return "not_present" if mapping.shared else "empty"


class SwapUse:
    """Whether nothing on this machine was swapped while entries were read.

    Who may not see swap types cannot tell a marker from a swapped page: then it is a marker.
    """

    def __init__(self) -> None:
        self._none_before = not pagecache.swap_in_use()

    def was_none(self) -> bool:
        """Return whether nothing has been swapped from the beginning until now."""
        return self._none_before and not pagecache.swap_in_use()


class SharedMemory:
    """Finds swapped pages of one process's shared memory in the files behind its mappings.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process, backings: Backings | None = None) -> None:
        self.process = process
        self.backings = backings or Backings(process)
        self._sums = Sums(process, self.backings)

    # ---- parts ----

    def parts(self, mapping: Mapping, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a part of a mapping into windows: start, end, and whether any page may be there.

        In a window with False, neither the page table nor the file has a page to resolve.
        """
        if end - start < _BLOCK_PAGES * PAGE_SIZE:  # to look would cost more
            yield start, end, True
            return
        window = WINDOW_PAGES * PAGE_SIZE
        next_data = self._next_data(mapping)
        if next_data is None or not categories():
            for at in range(start, end, window):
                yield at, min(at + window, end), True
            return
        populated = self._populated(start, end)
        at = start
        while at < end:
            number = np.searchsorted(populated["end"], np.uint64(at), "right")
            mapped = int(populated["start"][number]) if number < len(populated) else end
            there = min(max(at, min(mapped, next_data(at))), end)
            if at < there:
                yield at, there, False
            if there < end:
                yield there, min(there + window, end), True
            at = there + window

    def _populated(self, start: int, end: int) -> npt.NDArray[np.void]:
        """Return the parts of a span where the page table has pages, in blocks."""
        process = self.process
        starts, ends = np.array([[start], [end]], np.uint64)
        found = scan.populated(process.pagemap, process.path, starts, ends, _BLOCK_PAGES)
        return np.frombuffer(found, REGION_DTYPE)

    def _next_data(self, mapping: Mapping) -> Callable[[int], int] | None:
        """Return a function that finds the first address, from one on, with a page in the file.

        The page may be in RAM or in swap. Return None if no file can be asked. The file is closed
        with the function: a generator's `finally` may run where no exception can be raised.
        """
        file = next(self.backings.files.descriptors(mapping), None)
        return None if file is None else functools.partial(_next_data, file, mapping)

    # ---- pages ----

    def resolve(self, mapping: Mapping, start: int, states: States) -> None:
        """Add SWAPPED, SWAPPED_SHARED and UNKNOWN to the states of pages from `start` on."""
        unresolved = matching(states, unresolved_question(mapping))
        swapped = matching(states, "swapped")
        own = np.zeros_like(swapped) if mapping.shared else swapped.copy()
        self.resolve_swapped(mapping, start, swapped, unresolved)
        in_file = np.uint16(State.SWAPPED | State.SWAPPED_SHARED)
        states |= (swapped & ~own) * in_file
        states |= unresolved * np.uint16(State.UNKNOWN)

    def resolve_swapped(
        self, mapping: Mapping, start: int, swapped: Mask, unresolved: Mask
    ) -> None:
        """Find out which unresolved pages are swapped, from the file or else from smaps.

        Parameters
        ----------
        mapping : Mapping
            The mapping of all the pages.
        start : int
            The address of the first page.
        swapped : ndarray of bool
            One element a page, True if its entry says that it is swapped (some kernels have such
            entries for shared memory too). The pages found swapped are added.
        unresolved : ndarray of bool
            One element a page, True if it is asked about. It stays True if nothing tells.
        """
        unresolved &= ~swapped
        if not unresolved.any():
            return
        if not pagecache.swap_in_use() or self.backings.files.is_device(mapping):
            unresolved.fill(False)
            return
        for file in self.backings.files.descriptors(mapping):
            if _resolve_by_file(file.fd, mapping, start, swapped, unresolved):
                return
        with contextlib.suppress(ProcessLookupError):
            self._sums.resolve(mapping, start, swapped, unresolved, unresolved_question(mapping))


def _resolve_by_file(
    fd: int, mapping: Mapping, start: int, swapped: Mask, unresolved: Mask
) -> bool:
    """Resolve pages by asking the file; return whether that worked."""
    page = (mapping.offset + start - mapping.start) // PAGE_SIZE
    for look in (pagecache.by_cachestat, pagecache.by_mincore):
        try:
            look(fd, mapping.path, page, unresolved.view(np.uint8), swapped.view(np.uint8))
        except OSError as error:
            if not tells_of_file(error):
                raise
            continue
        return True
    return False


def _next_data(file: Descriptor, mapping: Mapping, address: int) -> int:
    """Return the first address, from one on, with data in the file, or the mapping's end."""
    where = mapping.offset + address - mapping.start
    if where >= _FILE_END:  # mremap may let a mapping grow beyond it
        return mapping.end
    try:
        at = os.lseek(file.fd, where, os.SEEK_DATA)
    except OSError as error:
        if is_refusal(error):
            return address  # there may be data
        if error.errno != errno.ENXIO:
            raise
        return mapping.end
    return mapping.start + at // PAGE_SIZE * PAGE_SIZE - mapping.offset
