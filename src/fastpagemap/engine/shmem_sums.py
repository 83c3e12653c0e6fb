"""Swapped pages of shared memory by the sums that smaps has, where the file cannot be asked."""

import functools
import os
import re

import numpy as np
import numpy.typing as npt

from .._kernel.sinks import Sink
from .._kernel.walk import walk
from ..model.entry import PAGE_SIZE, decode
from ..model.mapping import Mapping
from ..model.questions import QUESTIONS, mask
from ..process.backing import Backings, kernel_tmpfs
from ..process.mappings import mappings
from ..process.process import Process
from ..process.smaps import size_of, smaps
from .table import Backing, plans

__all__ = ["Sums"]

Mask = npt.NDArray[np.bool_]

_THP = "/sys/kernel/mm/transparent_hugepage"
_HUGE = re.compile(r"\[(always|within_size|advise|force)\]")
# Pages to look at for one that is present, to see whether frame numbers are visible.
_PROBED_PAGES = 64


class Sums:
    """What smaps says of one process's mappings: none of the unresolved pages are swapped, or all.

    The first answer of smaps is kept: to be made anew for every call from outside.
    """

    def __init__(self, process: Process, backings: Backings) -> None:
        self.process = process
        self._backings = backings

    def resolve(
        self, mapping: Mapping, start: int, swapped: Mask, unresolved: Mask, question: str
    ) -> None:
        """Move pages from `unresolved` to `swapped`, or out of it, if the sum allows no doubt."""
        total = self._totals.get(mapping)
        if total is None:
            return
        here = np.empty_like(unresolved)
        all_unresolved, own = self._count(mapping, start, question, here)
        in_file = total // PAGE_SIZE
        if not mapping.shared:
            # its own copies are in the sum too: if they can be told from markers
            if own and not self._types_visible:
                return
            in_file -= own
        if in_file == 0:
            unresolved.fill(False)
        # smaps counts also what is not asked about: pages under the copies of a private mapping
        # that may not be written, and the whole of a huge entry that the mapping begins within
        elif (
            in_file == all_unresolved
            and (mapping.shared or mapping.writable)
            and self._is_uncut(mapping)
            and self._read_totals().get(mapping) == total
        ):
            # A page that is swapped is unresolved, whenever it is looked at. As many unresolved as
            # swapped, while nothing came or went, are the same pages: those that were counted.
            here &= unresolved
            swapped |= here
            unresolved &= ~here

    def _count(self, mapping: Mapping, start: int, question: str, here: Mask) -> tuple[int, int]:
        """Count a mapping's pages, unresolved and swapped, and fill the mask of those at `start`.

        By their entries, each page's of one instant.
        """
        end = start + len(here) * PAGE_SIZE
        totals = np.zeros(2, np.int64)
        for low, high in ((mapping.start, start), (end, mapping.end)):
            sink = Sink((QUESTIONS[question], QUESTIONS["swapped"]))
            self._walk(low, high, question, sink)
            totals += sink.counts()
        own = np.empty_like(here)
        masks = (here.view(np.uint8), own.view(np.uint8))
        sink = Sink((QUESTIONS[question], QUESTIONS["swapped"]), start, masks)
        self._walk(start, end, question, sink)
        return int(totals[0]) + int(here.sum()), int(totals[1]) + int(own.sum())

    def _walk(self, start: int, end: int, question: str, sink: Sink) -> None:
        process = self.process
        starts, ends = np.array([[start], [end]], np.uint64)[:, : int(start < end)]
        kinds = np.full(len(starts), int(Backing.UNKNOWN), np.uint8)
        chosen = plans(frozenset({question, "swapped"}))
        walk(process.pagemap, -1, process.path, starts, ends, kinds, chosen, sink)

    @functools.cached_property
    def _types_visible(self) -> bool:
        """Whether entries show frame numbers and swap types: seen on a page that is present."""
        for mapping in mappings(self.process):
            words = np.zeros(min(mapping.pages, _PROBED_PAGES), np.uint64)
            self.process.read_entries(mapping.start, words)
            found = words[mask(words, "present")]
            if len(found):
                return bool(decode(found)["pfn"][0])
        return False

    def _is_uncut(self, mapping: Mapping) -> bool:
        """Return whether no huge page of the file can reach over the edges of a mapping."""
        size = int(_setting("hpage_pmd_size") or PAGE_SIZE)
        first, last = mapping.offset, mapping.offset + mapping.end - mapping.start
        if first % size == 0 and last % size == 0:
            return True
        if mapping.device == kernel_tmpfs():
            return not _shmem_huge()
        mounts = [m for m in self._backings.files.mounts if m.device == mapping.device]
        return bool(mounts) and not any(b"huge=" in m.options for m in mounts)

    @functools.cached_property
    def _totals(self) -> dict[Mapping, int]:
        return self._read_totals()

    def _read_totals(self) -> dict[Mapping, int]:
        """Return bytes of swap by the mapping they are in, as smaps has them."""
        return {
            mapping: size_of(fields["Swap"])
            for mapping, fields in smaps(self.process, "Swap")
            if "Swap" in fields
        }


def _shmem_huge() -> bool:
    """Return whether the kernel's own tmpfs may have huge pages."""
    names = [name for name in os.listdir(_THP) if name.startswith("hugepages-")]
    settings = ["shmem_enabled", *(f"{name}/shmem_enabled" for name in names)]
    return any(_HUGE.search(_setting(name)) for name in settings)


def _setting(name: str) -> str:
    """Return a setting of transparent huge pages; empty, if this kernel does not have it."""
    try:
        with open(f"{_THP}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""
