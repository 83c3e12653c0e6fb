"""How many bytes of a whole process are present, swapped, shared and so on.

Sums need no object for each mapping, and what lies close together can be scanned together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .._kernel import walk as kernel
from .._kernel.failures import IgnoringFileErrors
from .._kernel.ranges import Ranges
from ..model.entry import PAGE_SIZE
from ..process.mappings import ranges, within
from ..process.probes import address_end, asks_again, categories, version
from ..process.process import Process
from ..process.smaps import rollup
from .cached import CACHE_COLUMNS
from .shares import SHARE_COLUMNS
from .survey import RESOLVED, files_matter
from .table import Backing, plans
from .usage import COLUMNS, fillable, listed_names, usage
from .walk import new_sink

__all__ = ["SUMMED", "Sums", "summed_columns", "sums_of"]

SUMMED = tuple(name for name in COLUMNS if name not in ("start", "end"))
"""The columns of usage that make sense as a sum, without those that cost more."""

_ALL = frozenset(SUMMED)
# What a scan tells of neighbours that are scanned together, with the gaps between them.
_SCANNED = frozenset({"present", "swapped", "huge", "zero"})
# Of so many mappings it costs less to ask each file than to have the kernel sum the process up.
_MAX_APART = 4
# A process that has mapped no more pages is scanned in one go: a touched page costs 3 ns.
_MAX_LITTLE_PAGES = 1 << 16
# To sum up more pages, the kernel would hold the process's lock for longer than 1 ms.
_MAX_ROLLUP_PAGES = 1 << 13


class Sums(NamedTuple):
    """How many mappings a process has, and the sum of each column over them, in bytes."""

    mappings: int
    sizes: list[int]


def summed_columns(fields: Iterable[str] | None) -> tuple[str, ...]:
    """Return the columns to sum, by default all of `SUMMED` that this kernel can fill.

    Raises
    ------
    ValueError
        There is no such column.
    UnsupportedError
        This kernel cannot fill it.
    """
    names = listed_names(fields)
    known = (*SUMMED, *SHARE_COLUMNS, *CACHE_COLUMNS)
    for name in names or ():
        if name not in known:
            raise ValueError(f"no column {name!r}: of a process there are {', '.join(known)}")
    return tuple(name for name in fillable(names) if name in known)


@asks_again
def sums_of(process: Process, columns: tuple[str, ...], *, counted: bool = True) -> Sums:
    """Return the sums of some columns over all mappings of a process.

    No other thread may read the process meanwhile. Without `counted`, it does not matter how many
    mappings there are, and the number may be wrong.
    """
    # Before Linux 6.7 only the mapping tells the huge zero page from pages of files.
    if _ALL.issuperset(columns) and ("shared" not in columns or categories()):
        found = _of_page_table(process, columns, counted)
        if found is not None:
            return found
    table = usage(process, None, columns)
    return Sums(len(table), [int(table[name].sum()) for name in columns])


def _of_page_table(process: Process, columns: tuple[str, ...], counted: bool) -> Sums | None:
    """Return what the page table tells, and few files; None if many files matter."""
    questions = frozenset(columns) - {"size"}
    resolving, hugetlb = files_matter(questions)
    asked = questions - RESOLVED
    if resolving:
        asked |= {"swapped"}
    sums = dict.fromkeys((*columns, "swapped"), 0)
    needs_list = counted or resolving or hugetlb or "size" in columns
    if not needs_list and _scan_tells(asked) and _has_little(process):
        _scan_all(process, tuple(asked), sums)
        return Sums(0, [sums[name] for name in columns])
    found = ranges(process, listed=counted or "size" in columns)
    files = found.diskless if resolving or hugetlb else []
    # Before Linux 6.11 all of maps is read to look one mapping up.
    apart = 0 < len(files) <= _MAX_APART and version() >= (6, 11)
    if files and not apart and (hugetlb or not _is_small(process, files)):
        return None
    if "size" in columns:
        sums["size"] = found.size
    _count(process, found, tuple(asked), sums, diskless=not apart)
    if apart:
        _add_files(process, files, questions, sums)
    # The kernel's sum has what files have in swap as well. If it is the same, they have nothing.
    elif files and _swap_of(process) != sums["swapped"]:
        return None
    return Sums(len(found), [sums[name] for name in columns])


def _add_files(
    process: Process, spans: list[tuple[int, int]], questions: frozenset[str], sums: dict[str, int]
) -> None:
    """Add what the mappings of some spans have; whatever else they have grown to is not theirs."""
    rows = [
        found._replace(start=max(start, found.start), end=min(end, found.end))
        for start, end in spans
        for found in within(process, start, end)
    ]
    table = usage(process, rows, questions)
    for name in questions:
        sums[name] += int(table[name].sum())


def _is_small(process: Process, spans: list[tuple[int, int]]) -> bool:
    """Return whether the kernel sums a process up in little time, with what its files have."""
    with IgnoringFileErrors():
        resident = int(process.read_short("statm").split()[1])
        return resident + sum(end - start for start, end in spans) // PAGE_SIZE < _MAX_ROLLUP_PAGES
    return False


def _swap_of(process: Process) -> int | None:
    """Return the kernel's own sum of what is swapped; None if it cannot be had."""
    with IgnoringFileErrors():
        return rollup(process).get("Swap")
    return None


def _count(
    process: Process,
    found: Ranges,
    asked: tuple[str, ...],
    sums: dict[str, int],
    *,
    diskless: bool,
) -> None:
    """Add up what the page table tells of ranges, in bytes; of `Ranges.diskless` if wanted."""
    together = _scan_tells(asked)
    if together and diskless and found.size <= _MAX_LITTLE_PAGES * PAGE_SIZE:
        _scan_all(process, asked, sums)
        return
    # Where all is read, or the answer is to depend on no mapping, their kind does not matter.
    kind = Backing.ANONYMOUS if together else Backing.UNKNOWN
    starts, ends, kinds = found.segments(int(kind), together, diskless)
    if not asked or not kinds:
        process.check_alive()
        return
    sink = new_sink(asked)
    kernel.walk(
        process.pagemap,
        process.maps,
        process.path,
        np.frombuffer(starts, np.uint64),
        np.frombuffer(ends, np.uint64),
        np.frombuffer(kinds, np.uint8),
        plans(frozenset(asked)),
        sink,
    )
    for name, pages in zip(asked, sink.counts(), strict=True):
        sums[name] += pages * PAGE_SIZE


def _scan_tells(asked: Iterable[str]) -> bool:
    """Return whether a scan answers some questions, whatever is mapped."""
    return bool(categories()) and _SCANNED.issuperset(asked)


def _has_little(process: Process) -> bool:
    """Return whether a process is known to have little mapped."""
    with IgnoringFileErrors():
        return 0 < int(process.read_short("statm").split()[0]) <= _MAX_LITTLE_PAGES
    return False


def _scan_all(process: Process, asked: tuple[str, ...], sums: dict[str, int]) -> None:
    """Add up what a scan tells of a process that has little mapped, in bytes."""
    if not asked:
        process.check_alive()
        return
    sink = new_sink(asked)
    plan = plans(frozenset(asked))[Backing.UNKNOWN]
    kernel.scan_little(process.pagemap, process.path, address_end(), plan, sink)
    for name, pages in zip(asked, sink.counts(), strict=True):
        sums[name] += pages * PAGE_SIZE
