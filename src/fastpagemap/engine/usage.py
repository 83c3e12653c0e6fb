"""How many bytes of each mapping are present, swapped, shared and so on."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from ..model.entry import PAGE_SIZE
from ..model.kinds import LABELS, kinds, labelled
from ..model.mapping import Mapping, listed
from ..model.runs import bounds
from ..model.span import checked
from ..process.backing import Backings
from ..process.mappings import mappings
from ..process.probes import asks_again, categories, need_scan, need_soft_dirty, soft_dirty
from ..process.process import Process
from .cached import CACHE_COLUMNS, count_cached
from .shares import SHARE_COLUMNS, count_shares
from .survey import RESOLVED, Segments, SpanList
from .table import SCANNED
from .walk import Walker, ask, new_sink

__all__ = [
    "COLUMNS",
    "checked_rows",
    "fillable",
    "listed_names",
    "rows_and_usage",
    "usage",
]

# Columns that the mapping itself fills, and columns that are counted in pages.
_RANGE = ("start", "end", "size")
_COUNTED = (
    "present",
    "swapped",
    "swapped_shared",
    "unknown",
    "shared",
    "exclusive",
    "soft_dirty",
    "huge",
    "zero",
)
COLUMNS = (*_RANGE, *_COUNTED)
_MAX_END = (1 << 64) - 1


def usage(
    process: Process, spans: Iterable[Mapping] | None, fields: Iterable[str] | None
) -> npt.NDArray[np.void]:
    """Return one row for each mapping; see ``PageMap.usage``."""
    return rows_and_usage(process, spans, fields)[1]


def rows_and_usage(
    process: Process, spans: Iterable[Mapping] | None, fields: Iterable[str] | None
) -> tuple[list[Mapping], npt.NDArray[np.void]]:
    """Return the mappings, all by default, and one row for each."""
    # Lists: what can be gone through only once would be gone when it is asked about again.
    chosen = None if spans is None else checked_rows(spans)
    names = listed_names(fields)
    if names is None or not any(name in LABELS for name in names):
        return _usage(process, chosen, names)
    rows, sizes = _usage(process, chosen, [name for name in names if name not in LABELS])
    current = rows if chosen is None else mappings(process)
    is_shmem = Backings(process).is_shmem
    return rows, labelled(names, rows, sizes, lambda: kinds(rows, is_shmem, current))


def checked_rows(mappings: Iterable[Mapping], page_size: int = PAGE_SIZE) -> list[Mapping]:
    """Return mappings as a list; raise for what has no row."""
    rows = listed(mappings)
    for row in rows:
        checked(row.start, row.end, page_size)
        if row.end > _MAX_END:
            raise ValueError(
                "a mapping that ends at 2**64 has no row: its end does not fit 64 bits, and "
                "nothing is ever mapped on the last page"
            )
    return rows


def listed_names(fields: Iterable[str] | None) -> list[str] | None:
    """Return the names of columns as a list; one name is meant as a list of it."""
    return [fields] if isinstance(fields, str) else None if fields is None else list(fields)


@asks_again
def _usage(
    process: Process, spans: list[Mapping] | None, fields: list[str] | None
) -> tuple[list[Mapping], npt.NDArray[np.void]]:
    columns = fillable(fields)
    of_share = [name for name in columns if name in SHARE_COLUMNS]
    shares = None
    if of_share and spans != []:
        rows, shares = count_shares(process, spans)
    else:
        rows = mappings(process) if spans is None else spans
    table = np.zeros((len(rows), len(columns)), np.uint64)
    starts, ends = bounds(rows)
    for name, values in (("start", starts), ("end", ends), ("size", ends - starts)):
        if name in columns:
            table[:, columns.index(name)] = values
    of_cache = [name for name in columns if name in CACHE_COLUMNS]
    if of_cache and rows:
        found = count_cached(process, rows, spans is None, of_cache)
        for name in of_cache:
            table[:, columns.index(name)] = found[:, CACHE_COLUMNS.index(name)]
    if shares is not None:
        for name in of_share:
            table[:, columns.index(name)] = shares[:, SHARE_COLUMNS.index(name)]
    counted = [name for name in columns if name in _COUNTED]
    if not RESOLVED.isdisjoint(counted) and not pagecache.swap_in_use():
        counted = [name for name in counted if name not in RESOLVED]
    if counted and rows:
        counts = _count(process, rows, spans is None, counted)
        filled = [columns.index(name) for name in counted]
        table[:, filled] = counts[:, : len(rows)].T * np.uint64(PAGE_SIZE)
    else:
        process.check_alive()
    if not columns:
        return rows, np.zeros(len(rows), _dtype(()))
    return rows, table.view(_dtype(tuple(columns)))[:, 0]


@functools.cache
def _dtype(columns: tuple[str, ...]) -> np.dtype[np.void]:
    return np.dtype([(name, np.uint64) for name in columns])


def fillable(columns: list[str] | None) -> list[str]:
    """Return the columns to fill, all by default; raise if there is no such column or question."""
    if columns is None:
        scans = bool(categories())
        can = {"soft_dirty": soft_dirty(), "huge": scans, "zero": scans}
        return [name for name in COLUMNS if can.get(name, True)]
    for name in columns:
        if name not in COLUMNS + SHARE_COLUMNS + CACHE_COLUMNS:
            known = ", ".join(COLUMNS + SHARE_COLUMNS + CACHE_COLUMNS + LABELS)
            raise ValueError(f"no column {name!r}: there are {known}")
    if "soft_dirty" in columns:
        need_soft_dirty()
    for name, what in SCANNED.items():
        if name in columns:
            need_scan(what)
    return columns


def _count(
    process: Process, rows: list[Mapping], fresh: bool, questions: list[str]
) -> npt.NDArray[np.uint64]:
    """Count the pages of each row that answer each question with yes."""
    asked = tuple(questions)
    if not RESOLVED.isdisjoint(questions):
        # Needed to see which mappings are not told page by page.
        asked += tuple(name for name in ("swapped", "unknown") if name not in questions)

    def put(walker: Walker, segments: Segments, _: SpanList | None) -> npt.NDArray[np.uint64]:
        counts = np.zeros((len(asked), max(1, len(segments))), np.uint64)
        walker.walk(segments, new_sink(asked), counts)
        if "unknown" in asked:
            _take_sums(walker, segments, dict(zip(asked, counts, strict=True)))
        return counts

    spans = None if fresh else rows
    totals = np.zeros((len(questions), len(rows)), np.uint64)
    for segments, kept, counts in ask(
        process, spans, frozenset(asked), put, rows if fresh else None
    ):
        if len(segments) == len(rows) and fresh and kept.all():
            only: npt.NDArray[np.uint64] = counts[: len(questions)]
            return only
        for total, pages in zip(totals, counts, strict=False):
            np.add.at(total, segments.rows[kept], pages[: len(segments)][kept])
    return totals


def _take_sums(
    walker: Walker, segments: Segments, counts: dict[str, npt.NDArray[np.uint64]]
) -> None:
    """Take the sums of smaps for whole mappings of which it is unknown which pages are swapped.

    Swap entries of shared memory are markers, or what no kernel but a patched one makes: the sum
    would not fit the other columns.
    """
    if not segments.stable:
        return
    unsure = segments.resolved & ~segments.clipped
    for name, wanted in (("unknown", True), ("swapped", False)):
        unsure &= (counts[name][: len(segments)] > 0) == wanted
    for number in np.flatnonzero(unsure).tolist():
        count = walker.memory.sums.count(segments.mappings[number])
        if count is not None:
            # The sum is a moment older or younger than the entries.
            count = min(count, int(counts["unknown"][number]))
            counts["unknown"][number] = 0
            counts["swapped"][number] = count
            if "swapped_shared" in counts:
                counts["swapped_shared"][number] = count
