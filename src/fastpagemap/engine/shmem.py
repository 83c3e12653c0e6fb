"""Which pages of shared memory are swapped.

The page table forgets a page of shared memory when it is swapped out: its entry then reads like
that of a page never touched. Only the file behind the mapping knows.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache, scan
from .._kernel.failures import tells_of_file
from ..model.entry import PAGE_SIZE, REGION_DTYPE
from ..model.mapping import Mapping
from ..model.questions import Mask, States, matching
from ..model.runs import (
    Runs,
    Spans,
    State,
    edges_of,
    in_spans,
    runs_of,
    states_at,
)
from ..process.backing import Backings
from ..process.probes import categories
from ..process.process import Process
from .parts import Part, cut, windows
from .shmem_runs import FileRuns
from .shmem_sums import Sums

__all__ = ["SharedMemory", "SwapUse", "unresolved_question"]


# Blocks of so many pages without a populated one are not looked at.
_BLOCK_PAGES = 512
# Populated blocks with so few others between them may be in one part with many pages.
_MAX_GAP_PAGES = 16 * _BLOCK_PAGES
# Blocks that are resolved at a time as runs: these need 24 bytes a page at worst.
_MAX_RUN_BLOCKS = 1 << 11


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
        self.backings: Backings = backings or Backings(process)
        self.sums: Sums = Sums(process)
        self._runs = FileRuns(self.backings.files)

    # ---- parts ----

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Cut a part of a mapping into parts; see `cut`."""
        if end - start < _BLOCK_PAGES * PAGE_SIZE or not categories():
            return windows(start, end)
        found = self._populated(start, end)
        # Rests of few blocks, each of which has a page table: so runs take less than that.
        borders = found["start"][::_MAX_RUN_BLOCKS][1:]
        return cut(start, end, (found["start"], found["end"]), borders, _MAX_GAP_PAGES * PAGE_SIZE)

    def _populated(self, start: int, end: int) -> npt.NDArray[np.void]:
        """Return the parts of a span where the page table has pages, in blocks."""
        process = self.process
        starts, ends = np.array([[start], [end]], np.uint64)
        found = scan.populated(process.pagemap, process.path, starts, ends, _BLOCK_PAGES)
        return np.frombuffer(found, REGION_DTYPE)

    # ---- runs ----

    def resolve_runs(self, mapping: Mapping, start: int, end: int, runs: Runs) -> Runs:
        """Return the runs of a part of a mapping with what `resolve` adds to the states of pages.

        Runs have MARKER; see ``Sink``.
        """
        swapped, unknown = self._swapped_spans(mapping, start, end)
        if not (unknown or len(swapped[0])):
            return runs
        span = np.array([start, end], np.uint64)
        edges = edges_of(span, runs["start"], runs["end"], *swapped)
        states = states_at(runs, edges[:-1])
        unresolved = matching(states, unresolved_question(mapping))
        unresolved &= ~matching(states, "swapped")
        here = unresolved & in_spans(edges[:-1], *swapped)
        states[here] |= np.uint64(int(State.SWAPPED | State.SWAPPED_SHARED))
        if unknown:
            states[unresolved] |= np.uint64(int(State.UNKNOWN))
        there = states != 0
        return runs_of(edges[:-1][there], edges[1:][there], states[there])

    def _swapped_spans(self, mapping: Mapping, start: int, end: int) -> tuple[Spans, bool]:
        """Return what is swapped in the file, and whether that cannot be known."""
        nothing = np.empty(0, np.uint64), np.empty(0, np.uint64)
        if not pagecache.swap_in_use() or self.backings.files.is_device(mapping):
            return nothing, False
        swapped = self._runs.swapped(mapping, start, end)
        if swapped is not None:
            return swapped, False
        answer = self.sums.all_or_none(mapping)
        if answer:
            return (np.array([start], np.uint64), np.array([end], np.uint64)), False
        return nothing, answer is None

    # ---- pages ----

    def resolve(self, mapping: Mapping, start: int, states: States) -> None:
        """Add SWAPPED, SWAPPED_SHARED and UNKNOWN to the states of pages from `start` on."""
        unresolved = matching(states, unresolved_question(mapping))
        swapped = matching(states, "swapped")
        own = np.zeros_like(swapped) if mapping.shared else swapped.copy()
        self.resolve_swapped(mapping, start, swapped, unresolved)
        in_file = np.uint16(int(State.SWAPPED | State.SWAPPED_SHARED))
        states |= (swapped & ~own) * in_file
        states |= unresolved * np.uint16(int(State.UNKNOWN))

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
        answer = self.sums.all_or_none(mapping)
        if answer:
            swapped |= unresolved
        if answer is not None:
            unresolved.fill(False)


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
