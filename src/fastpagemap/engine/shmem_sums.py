"""Find swapped pages of shared memory by the sums of smaps, if the file cannot be asked."""

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
# Pages of a mapping among which a present one is looked for, to see its frame number.
_PROBED_PAGES = 64


class Sums:
    """Resolves a mapping's pages if, by the sum in smaps, all or none of them are swapped.

    It caches the first answer of smaps: make a new one for each public call.
    """

    def __init__(self, process: Process, backings: Backings) -> None:
        self.process = process
        self._backings = backings

    def resolve(
        self, mapping: Mapping, start: int, swapped: Mask, unresolved: Mask, question: str
    ) -> None:
        """Move pages from `unresolved` to `swapped`, or clear them, if the sum leaves no doubt."""
        total = self._totals.get(mapping)
        if total is None:
            return
        here = np.empty_like(unresolved)
        all_unresolved, own = self._count(mapping, start, question, here)
        in_file = total // PAGE_SIZE
        if not mapping.shared:
            # The sum includes the mapping's own copies, which need to be told from markers.
            if own and not self._types_visible:
                return
            in_file -= own
        if in_file == 0:
            unresolved.fill(False)
        # smaps counts other pages too: those under the copies of a private mapping that may not be
        # written, and all of a huge page in which the mapping begins.
        elif (
            in_file == all_unresolved
            and (mapping.shared or mapping.writable)
            and self._is_uncut(mapping)
            and self._read_totals().get(mapping) == total
        ):
            # A swapped page is always unresolved. So if as many pages are unresolved as swapped,
            # and no page came or went meanwhile, they are the same pages.
            here &= unresolved
            swapped |= here
            unresolved &= ~here

    def _count(self, mapping: Mapping, start: int, question: str, here: Mask) -> tuple[int, int]:
        """Count a mapping's unresolved and swapped pages by their entries; fill the mask `here`.

        `here` is the mask of unresolved pages from `start` on.
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
        """Whether entries show frame numbers and swap types, probed on a present page."""
        for mapping in mappings(self.process):
            words = np.zeros(min(mapping.pages, _PROBED_PAGES), np.uint64)
            self.process.read_entries(mapping.start, words)
            found = words[mask(words, "present")]
            if len(found):
                return bool(decode(found)["pfn"][0])
        return False

    def _is_uncut(self, mapping: Mapping) -> bool:
        """Return whether no huge page of the file can cross an edge of a mapping."""
        size = int(_setting("hpage_pmd_size") or PAGE_SIZE)
        first, last = mapping.offset, mapping.offset + mapping.end - mapping.start
        if first % size == 0 and last % size == 0:
            return True
        if mapping.device == kernel_tmpfs():
            return not _shmem_huge()
        mounts = self._backings.files.mounts.get(mapping.device, [])
        return bool(mounts) and not any(b"huge=" in m.options for m in mounts)

    @functools.cached_property
    def _totals(self) -> dict[Mapping, int]:
        return self._read_totals()

    def _read_totals(self) -> dict[Mapping, int]:
        """Return each mapping's bytes of swap, from smaps."""
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
    """Return a setting of transparent huge pages; empty if this kernel does not have it."""
    try:
        with open(f"{_THP}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""
