"""What the sums of smaps tell of swapped pages of shared memory, if the file cannot be asked.

How the kernel makes ``Swap:`` (fs/proc/task_mmu.c, smap_gather_stats; mm/shmem.c, shmem_swap_usage
and shmem_partial_swap_usage). It adds up to two numbers:

- `own`, the swap entries in the page table, those of a private mapping's own pages. Only these
  count in ``SwapPss:``, each divided by the number of its users.
- `in_file`, the swapped pages of the file. Of a shared or a read-only mapping:

  1. None, if no page of the file is swapped, at any offset.
  2. All of the file, if the mapping begins with the file and is as long: also pages fallocated
     beyond the end of the file, which lie beyond the mapping.
  3. Else those in the mapping's part of the file. A huge page that was swapped out whole is one
     entry of the file, and counts whole even if an edge of the mapping cuts it.

  Of a private writable mapping, those under each page that the page table lacks, by rule 3 for that
  page alone: a huge entry counts once for each of them.

What follows from that:

- ``Swap:`` equal to ``SwapPss:`` proves `in_file` 0, as `own` is not below ``SwapPss:``. Every rule
  counts each swapped page in the mapping at least once. So none is swapped.
- A sum of a shared mapping is its number of swapped pages if nothing else is counted: rule 2 cannot
  apply, or its file has no page beyond its end; and no entry crosses an edge. An entry lies at
  a multiple of its size, a power of two. If it crosses an edge at page `e` of the file, it has at
  least twice as many pages as the largest power of two that divides `e`; a smaller sum excludes
  it. So does an edge at a multiple of the largest huge page. The settings of today prove nothing:
  an entry may be older than they are.
- That number tells which pages are swapped only if it is that of all pages of the mapping. Any
  other number may come from other pages than the ones that the page table lacked a moment before.
"""

import contextlib
import functools
import os

from .._kernel.failures import exists, tells_of_file
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..process.backing import kernel_tmpfs
from ..process.process import Process
from ..process.smaps import size_of, smaps

__all__ = ["Sums"]

_THP = "/sys/kernel/mm/transparent_hugepage"
# Pages of the largest huge page that a file of shared memory can have: those of a page table.
_MAX_HUGE_PAGES = PAGE_SIZE // 8
# Files that no descriptor is ever of, so nobody can give them pages beyond their end.
_WITHOUT_DESCRIPTOR = ("/dev/zero (deleted)", "/SYSV")


class Sums:
    """Tells whether all or none of a mapping's pages are swapped, and how many are.

    It reads smaps once, when first asked: make a new one for each public call.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        # By mapping: what `all_or_none` answered.
        self._answered: dict[Mapping, bool] = {}

    def all_or_none(self, mapping: Mapping) -> bool | None:
        """Return True if all pages are swapped, False if none is in the file; else None."""
        answer = _all_or_none(mapping, self._sums.get(mapping))
        if answer is not None:
            self._answered[mapping] = answer
        return answer

    def count(self, mapping: Mapping) -> int | None:
        """Return how many pages of a mapping are swapped; None if the sum does not prove it."""
        return _count(mapping, self._sums.get(mapping))

    def changed(self) -> set[Mapping]:
        """Read smaps again; return the mappings of which `all_or_none` was true no more."""
        if not self._answered:
            return set()
        now = self._read()
        return {m for m, answer in self._answered.items() if _all_or_none(m, now.get(m)) != answer}

    @functools.cached_property
    def _sums(self) -> dict[Mapping, tuple[int, int]]:
        return self._read()

    def _read(self) -> dict[Mapping, tuple[int, int]]:
        """Return each mapping's bytes of ``Swap:``, and how many the file may have of these."""
        found = {}
        with contextlib.suppress(ProcessLookupError):
            for mapping, fields in smaps(self.process, "Swap", "SwapPss"):
                if "Swap" in fields:
                    total = size_of(fields["Swap"])
                    own = size_of(fields["SwapPss"]) if "SwapPss" in fields else 0
                    found[mapping] = total, total - own
        return found


def _all_or_none(mapping: Mapping, sums: tuple[int, int] | None) -> bool | None:
    """Return what `Sums.all_or_none` does, by a mapping's two sums."""
    if sums is None:
        return None
    if sums[1] == 0:
        return False
    return True if _count(mapping, sums) == mapping.pages else None


def _count(mapping: Mapping, sums: tuple[int, int] | None) -> int | None:
    """Return what `Sums.count` does, by a mapping's two sums."""
    if sums is None or not mapping.shared:
        return None
    count = sums[0] // PAGE_SIZE
    if count == 0:
        return 0
    if not mapping.offset and not _has_no_pages_beyond(mapping):
        return None
    first = mapping.offset // PAGE_SIZE
    edges = (first, first + mapping.pages)
    if count > mapping.pages or (_may_be_huge() and any(_cuts(edge, count) for edge in edges)):
        return None
    return count


def _cuts(edge: int, count: int) -> bool:
    """Return whether an edge, a page number in the file, may cut one of `count` swapped pages."""
    return edge % _MAX_HUGE_PAGES != 0 and count >= 2 * (edge & -edge)


def _has_no_pages_beyond(mapping: Mapping) -> bool:
    """Return whether a mapping's file cannot have pages beyond its end."""
    return mapping.device == kernel_tmpfs() and mapping.path.startswith(_WITHOUT_DESCRIPTOR)


def _may_be_huge() -> bool:
    """Return whether this kernel may swap a huge page of shared memory out as one entry.

    Kernels that do (Linux 6.12) have a setting for each size of such pages (6.11).
    """
    try:
        names = os.listdir(_THP)
    except FileNotFoundError:
        # Built without huge pages, unless a sandbox hides all such files.
        return not exists(os.path.dirname(_THP))
    except OSError as error:
        if not tells_of_file(error):
            raise
        return True
    sizes = [name for name in names if name.startswith("hugepages-")]
    return any(exists(f"{_THP}/{name}/shmem_enabled") for name in sizes)
