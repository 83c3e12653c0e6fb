"""What PageMap returns: the masks and the entries of a span."""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from ..model import entry, hooks
from ..model.mapping import Mapping
from ..model.questions import Mask, mask
from ..process.limits import affordable
from ..process.probes import need_soft_dirty
from ..process.process import Process
from .masks import huge_zero, read
from .shmem import SharedMemory, SwapUse, unresolved_question
from .survey import RESOLVED, Segments, no_segments, survey
from .walk import pages_of

__all__ = ["Masks", "Pages"]


class Masks:
    """The masks of a span, from ``PageMap.masks``.

    Attributes
    ----------
    start, end : int
        The span, addresses in bytes.
    swapped, shared, unknown : ndarray of bool
        One element a page, as ``PageMap``'s method of that name returns it.

    Examples
    --------
    >>> memory = mmap.mmap(-1, 4 * fpm.PAGE_SIZE)
    >>> memory[0] = 1
    >>> fpm.PageMap().masks(memory).shared
    array([ True, False, False, False])
    """

    __slots__ = ("_soft_dirty", "end", "shared", "start", "swapped", "unknown")

    def __init__(self, start: int, end: int, masks: dict[str, Mask]) -> None:
        self.start: int = start
        self.end: int = end
        self.swapped: Mask = masks["swapped"]
        self.shared: Mask = masks["shared"]
        self.unknown: Mask = masks["unknown"]
        self._soft_dirty = masks.get("soft_dirty")

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.swapped)

    def __repr__(self) -> str:
        return f"<Masks of {len(self)} pages, {self.start:#x}-{self.end:#x}>"

    def _repr_html_(self) -> str:
        """Return a table of how many pages are in each mask, for notebooks."""
        html: str = hooks.load("notebook").of_masks(self)
        return html

    @property
    def soft_dirty(self) -> Mask:
        """As ``PageMap.soft_dirty``: ``UnsupportedError`` on a kernel without it."""
        if self._soft_dirty is None:
            need_soft_dirty()
        assert self._soft_dirty is not None
        return self._soft_dirty


class Pages:
    """The entries of a span as the kernel gave them, from ``PageMap.read``.

    All other attributes are computed from the entries on first use. Entries do not show which pages
    of shared memory are swapped. For these, `swapped` and `unknown` ask the files behind the
    mappings, also on first use.

    Attributes
    ----------
    start, end : int
        The span, addresses in bytes.
    entries : ndarray of ENTRY_DTYPE
        One element a page, in address order.

    Examples
    --------
    >>> pages = fpm.PageMap().read(np.ones(100_000))
    >>> bool(pages.present.all()), bool(pages.addresses[0] % fpm.PAGE_SIZE)
    (True, False)
    """

    def __init__(
        self, process: Process, start: int, end: int, entries: npt.NDArray[np.void]
    ) -> None:
        self.start = start
        self.end = end
        self.entries = entries
        # Find shared memory now: it may be unmapped when `swapped` is first used.
        self._memory = SharedMemory(process)
        before = self._survey()
        swap = SwapUse()
        read(process, start, entries.view(np.uint64))
        self._nothing_swapped = swap.was_none()
        self._segments = self._survey()
        # Entries are of a segment's mapping only if it was there before and after.
        there = set(before.mappings)
        self._unsure = np.array([m not in there for m in self._segments.mappings], bool)

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Pages: {len(self)}, {self.start:#x}-{self.end:#x}>"

    def _repr_html_(self) -> str:
        """Return a table of how many pages are in each mask, for notebooks."""
        html: str = hooks.load("notebook").of_masks(self)
        return html

    @functools.cached_property
    def addresses(self) -> npt.NDArray[np.uint64]:
        """The address of each page, uint64."""
        affordable(len(self), 16)
        count = np.arange(len(self), dtype=np.uint64)
        return count * np.uint64(entry.PAGE_SIZE) + np.uint64(self.start)

    @functools.cached_property
    def present(self) -> Mask:
        """The page is mapped in RAM (bit 63)."""
        return self._mask("present")

    @functools.cached_property
    def shared(self) -> Mask:
        """The page is present and a file page or shared-anonymous page (bit 61).

        Before Linux 7.3 the huge zero page has the bit, too. It is left out, where it is mapped at
        the first use of this attribute.
        """
        shared = self._mask("shared")
        pages = np.flatnonzero(shared & ~self.exclusive)
        if len(pages):
            first, end = int(pages[0]), int(pages[-1]) + 1
            size, process = entry.PAGE_SIZE, self._memory.process
            with contextlib.suppress(ProcessLookupError):
                for span in huge_zero(process, self.start + first * size, self.start + end * size):
                    shared[pages_of(self.start, *span)] = False
        return shared

    @functools.cached_property
    def exclusive(self) -> Mask:
        """The page is present and mapped exactly once (bit 56)."""
        return self._mask("exclusive")

    @functools.cached_property
    def uffd_wp(self) -> Mask:
        """The page is write-protected through userfaultfd (bit 57)."""
        return self._mask("uffd_wp")

    @functools.cached_property
    def guard(self) -> Mask:
        """The page is a guard region (bit 58, Linux 6.15 and later)."""
        return self._mask("guard")

    @functools.cached_property
    def soft_dirty(self) -> Mask:
        """The page was written since soft-dirty was cleared (bit 55 alone).

        Raises ``UnsupportedError`` on a kernel without soft-dirty bits. Once it is cleared, hugetlb
        pages never have the bit again. ``PageMap.soft_dirty`` calls them all dirty instead.
        """
        need_soft_dirty()
        return self._mask("soft_dirty")

    @property
    def swapped(self) -> Mask:
        """As ``PageMap.swapped``; shared memory is looked up on first use."""
        return self._resolved[0]

    @property
    def unknown(self) -> Mask:
        """As ``PageMap.unknown``, on first use of this or of `swapped`.

        If the process is gone by then, all pages of shared memory that are not present are unknown.
        """
        return self._resolved[1]

    def _survey(self) -> Segments:
        """Return the segments of the span, if any page on this machine is swapped."""
        if not pagecache.swap_in_use():
            return no_segments()
        return survey(self._memory.backings, [(self.start, self.end)], RESOLVED)

    @functools.cached_property
    def _resolved(self) -> tuple[Mask, Mask]:
        affordable(len(self), 3)
        unknown = np.zeros(len(self), bool)
        if self._nothing_swapped:
            return unknown.copy(), unknown
        swapped = mask(self.entries, "swapped")
        resolved = self._segments.resolved
        shared, unsure = self._segments.part(resolved), self._unsure[resolved]
        for start, part, mapping in self._parts(shared):
            self._mark_unresolved(mapping, part, unknown)
            self._memory.resolve_swapped(mapping, start, swapped[part], unknown[part])
        # A file's answer is not about these pages if their mapping has changed meanwhile.
        changed = np.ones(len(shared), bool)
        with contextlib.suppress(ProcessLookupError):
            changed = shared.changed(self._memory.process) | unsure
        for _, part, mapping in self._parts(shared.part(changed)):
            mask(self.entries[part], "swapped", swapped[part])
            self._mark_unresolved(mapping, part, unknown)
            unknown[part] &= ~swapped[part]
        return swapped, unknown

    def _mask(self, question: str) -> Mask:
        affordable(len(self), 1)
        return mask(self.entries, question)

    def _parts(self, segments: Segments) -> Iterator[tuple[int, slice, Mapping]]:
        """Yield the start, the slice of pages and the mapping of each segment."""
        spans = zip(segments.starts.tolist(), segments.ends.tolist(), strict=True)
        for (start, end), mapping in zip(spans, segments.mappings, strict=True):
            yield start, pages_of(self.start, start, end), mapping

    def _mark_unresolved(self, mapping: Mapping, part: slice, unresolved: Mask) -> None:
        """Mark the pages of a mapping that only its file can answer for."""
        mask(self.entries[part], unresolved_question(mapping), unresolved[part])

    @functools.cached_property
    def _decoded(self) -> npt.NDArray[np.void]:
        affordable(len(self), entry.PAGE_DTYPE.itemsize)
        return entry.decode(self.entries)

    @property
    def pfn(self) -> npt.NDArray[np.uint64]:
        """Page frame numbers, uint64; 0 where not present, and everywhere without CAP_SYS_ADMIN."""
        return self._decoded["pfn"]

    @functools.cached_property
    def swap_type(self) -> npt.NDArray[np.uint64]:
        """Swap types, uint64: bits 0-4 where bit 62 is set; 0 elsewhere and without CAP_SYS_ADMIN.

        A type above the number of swap areas is a marker, not swap.
        """
        affordable(len(self), 8)
        return self._decoded["swap_type"].astype(np.uint64)

    @property
    def swap_offset(self) -> npt.NDArray[np.uint64]:
        """Offsets in the swap area, uint64, where bit 62 is set.

        They are 0 elsewhere and without CAP_SYS_ADMIN.
        """
        return self._decoded["swap_offset"]
