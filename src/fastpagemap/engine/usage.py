"""How much of each mapping is present, swapped, shared and so on."""

import errno
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from ..model.entry import PAGE_SIZE
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.runs import bounds
from ..model.span import checked
from ..process.capabilities import categories, need_soft_dirty, soft_dirty
from ..process.mappings import mappings, within
from ..process.process import Process
from . import plans
from .plans import Kind, Piece
from .shmem import SharedMemory

__all__ = ["COLUMNS", "usage"]

# columns the mapping itself fills, and those counted in pages
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
)
_OF_SHARED_MEMORY = frozenset({"swapped_shared", "unknown"})
_SETTLED = _OF_SHARED_MEMORY | {"swapped"}
COLUMNS = (*_RANGE, *_COUNTED)
# mappings looked up one by one, before reading all is cheaper
_FEW = 64

Addresses = npt.NDArray[np.uint64]


def usage(
    process: Process, spans: Iterable[Mapping] | None, fields: Iterable[str] | None
) -> npt.NDArray[np.void]:
    """Return one row of columns a mapping; see ``PageMap.usage``."""
    columns = _wanted(fields)
    rows = mappings(process) if spans is None else list(spans)
    for row in rows:
        checked(row.start, row.end)
    table = np.zeros(len(rows), [(name, np.uint64) for name in columns])
    starts, ends = bounds(rows)
    for name, values in (("start", starts), ("end", ends), ("size", ends - starts)):
        if name in columns:
            table[name] = values
    _count(process, rows, spans is None, table)
    return table


def _wanted(fields: Iterable[str] | None) -> list[str]:
    """Return the columns to fill."""
    if fields is None:
        with_huge = bool(categories())
        can = {"soft_dirty": soft_dirty(), "huge": with_huge}
        return [name for name in COLUMNS if can.get(name, True)]
    columns = [fields] if isinstance(fields, str) else list(fields)
    for name in columns:
        if name not in COLUMNS:
            raise ValueError(f"no column {name!r}: there are {', '.join(COLUMNS)}")
    if "soft_dirty" in columns:
        need_soft_dirty()
    if "huge" in columns and not categories():
        raise UnsupportedError(
            errno.EOPNOTSUPP, "entries do not tell huge pages: it needs PAGEMAP_SCAN (Linux 6.7)"
        )
    return columns


def _count(
    process: Process, spans: list[Mapping], fresh: bool, table: npt.NDArray[np.void]
) -> None:
    """Fill the columns that are counted: each kind of memory in its own way."""
    columns = [name for name in table.dtype.names or () if name in _COUNTED]
    if not _SETTLED.isdisjoint(columns) and not pagecache.swap_in_use():
        columns = [name for name in columns if name not in _SETTLED]
    if not columns:
        process.check_alive()
        return
    memory = SharedMemory(process)
    pieces = list(_pieces(memory, spans, fresh, not _SETTLED.isdisjoint(columns)))
    plain = tuple(name for name in columns if name not in _OF_SHARED_MEMORY and name != "huge")
    groups: list[tuple[Kind, tuple[str, ...], list[tuple[int, Piece]]]] = [
        (kind, plain, [(row, p) for row, p in pieces if p.kind is kind and p.shared is None])
        for kind in Kind
    ]
    if "huge" in columns:  # whatever kind it is
        groups.append((Kind.OTHER, ("huge",), [(row, p) for row, p in pieces if p.kind]))
    for kind, questions, chosen in groups:
        rows = [row for row, _ in chosen]
        starts, ends = bounds([piece for _, piece in chosen])
        counts = plans.count(process, kind, starts, ends, questions)
        for name, pages in zip(questions, counts, strict=True):
            np.add.at(table[name], rows, pages * np.uint64(PAGE_SIZE))
    questions = tuple(name for name in columns if name != "huge")
    for row, piece in pieces:
        if piece.shared is not None:
            for name, found in plans.count_shared(memory, piece, questions).items():
                table[name][row] += np.uint64(found * PAGE_SIZE)
    if "soft_dirty" in columns:
        _count_hugetlb(memory, spans, table["soft_dirty"])


def _count_hugetlb(memory: SharedMemory, spans: list[Mapping], written: Addresses) -> None:
    """Count soft-dirty pages of hugetlb anew: of these the kernel does not tell by itself."""
    for row, span in enumerate(spans):
        if memory.is_hugetlb(span):
            mask = np.empty(span.pages, bool)
            plans.fill(memory.process, span.start, span.end, {"soft_dirty": mask})
            written[row] = np.count_nonzero(mask) * PAGE_SIZE


def _pieces(
    memory: SharedMemory, spans: list[Mapping], fresh: bool, settling: bool
) -> Iterator[tuple[int, Piece]]:
    """Yield which pieces each row is made of: one, if the mapping is still as it was."""
    known: set[Mapping] = set()
    if not fresh and len(spans) > _FEW:
        known = set(mappings(memory.process))
    for row, span in enumerate(spans):
        if not fresh and span not in known:
            current = within(memory.process, span.start, span.end)
            if current != [span]:
                for piece in plans.pieces(memory, span.start, span.end, settling):
                    yield row, piece
                continue
        shared = span if settling and memory.holds(span) else None
        yield row, Piece(span.start, span.end, plans.kind_of(memory, span), shared)
