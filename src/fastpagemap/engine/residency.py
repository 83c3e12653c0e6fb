"""How much of each of many allocations is present, swapped, shared, exclusive, unknown."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import allocations, scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE, output
from ..model.mapping import KERNEL_HALF
from ..model.questions import States, matching
from ..model.runs import Addresses, Spans, State, bounds, close_gaps, union
from ..process.capabilities import categories
from ..process.limits import affordable
from ..process.mappings import mappings
from ..process.probes import asks_again
from ..process.process import Process
from .masks import fill_states
from .shmem import SharedMemory
from .survey import survey

__all__ = ["RESIDENCY_DTYPE", "residency"]

_COLUMNS = ("present", "swapped", "shared", "exclusive", "unknown")
RESIDENCY_DTYPE = np.dtype([(name, "=u8") for name in _COLUMNS])
"""The row of an allocation: its bytes on pages of each mask."""

_BLOCK_BYTES = 1 << allocations.BLOCK_SHIFT
# Memory whose states are filled at a time.
_WINDOW_BYTES = (1 << 18) * PAGE_SIZE
# To look at so many blocks between marked ones costs less than another call.
_MAX_GAP_BLOCKS = 8
_NO_BARRIERS = np.empty(0, np.uint64)


def residency(
    process: Process,
    addresses: npt.ArrayLike,
    sizes: npt.ArrayLike,
    out: npt.NDArray[np.void] | None,
) -> npt.NDArray[np.void]:
    """Return a row for each allocation; see ``PageMap.residency``."""
    where, size = _checked(addresses, "addresses"), _checked(sizes, "sizes")
    if len(where) != len(size):
        raise ValueError(f"{len(where)} addresses, but {len(size)} sizes")
    beyond = size > np.uint64((1 << 64) - 1) - where
    if beyond.any():
        row = int(np.argmax(beyond))
        raise ValueError(
            f"allocation {row}: {size[row]} bytes at {where[row]:#x} go beyond 2**64 - 1, "
            "the last address there is"
        )
    if out is None:
        affordable(len(where), RESIDENCY_DTYPE.itemsize, "allocations")
    out = output(out, where.shape, RESIDENCY_DTYPE)
    rows = out.view(np.uint64).reshape(-1, len(_COLUMNS))
    extents, unknown = _looked_up(process, where, size)
    process.check_alive()
    allocations.sum_allocations(where, size, *extents.arrays(), rows)
    if unknown:
        affordable(len(where), RESIDENCY_DTYPE.itemsize, "allocations")
        only = np.empty((len(where), allocations.MASK_COUNT), np.uint64)
        allocations.sum_allocations(where, size, *unknown.arrays(), only)
        rows[:, _COLUMNS.index("unknown")] = only[:, 0]
    return out


@asks_again
def _looked_up(process: Process, where: Addresses, size: Addresses) -> tuple[_Extents, _Extents]:
    """Return the extents of memory that is present and so on, and of memory that is unknown.

    Pages that are unknown are rare: the others need not pay for a fifth mask.
    """
    extents, unknown = _Extents(), _Extents()
    buffer = np.empty(0, np.uint16)
    for start, end in _marked(process, where, size):
        for low, high in _populated(process, start, end):
            pages = (high - low) // PAGE_SIZE
            if len(buffer) < pages:
                buffer = np.empty(pages, np.uint16)
            states = buffer[:pages]
            fill_states(process, low, high, frozenset(_COLUMNS), states)
            extents.add(low, high, states)
            of_unknown = matching(states, "unknown")
            if of_unknown.any():
                unknown.add(low, high, of_unknown * np.uint16(State.PRESENT))
    return extents, unknown


def _checked(values: Any, name: str) -> Addresses:
    """Return addresses or sizes as contiguous uint64; raise ValueError if they are wrong."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} of shape {array.shape}: one dimension is needed")
    if not array.size:
        return np.empty(0, np.uint64)
    if array.dtype.kind in "fO" and not isinstance(values, np.ndarray):
        # numpy makes floats of ints if some do not fit int64, and others do not fit uint64.
        with contextlib.suppress(TypeError, OverflowError):
            array = np.fromiter(map(operator.index, values), np.uint64)
    if array.dtype.kind not in "ui":
        raise ValueError(f"{name} of dtype {array.dtype}: integers are needed")
    if not array.flags.c_contiguous or array.dtype != np.uint64:
        affordable(len(array), 8, name)
    if array.dtype.kind == "i" and (least := array.min()) < 0:
        raise ValueError(f"{name}[{int(np.argmin(array))}] is {least}: it cannot be negative")
    return np.ascontiguousarray(array, np.uint64)


# ---- which pages -------------------------------------------------------------------------------


def _blocks_of(starts: Addresses, ends: Addresses) -> Spans:
    """Return the whole blocks that some spans lie on, as sorted and disjoint spans."""
    return union(starts // _BLOCK_BYTES * _BLOCK_BYTES, -(-ends // _BLOCK_BYTES) * _BLOCK_BYTES)


def _areas(process: Process) -> Spans:
    """Return all mapped memory, as disjoint areas of whole blocks."""
    mapped = [mapping for mapping in mappings(process) if mapping.start < KERNEL_HALF]
    starts, ends = _blocks_of(*bounds(mapped))
    return np.ascontiguousarray(starts), np.ascontiguousarray(ends)


def _marked(process: Process, where: Addresses, size: Addresses) -> Iterator[tuple[int, int]]:
    """Yield the spans of mapped memory with an allocation on them or close to them."""
    starts, ends = _areas(process)
    blocks = (ends - starts) >> np.uint64(allocations.BLOCK_SHIFT)
    words = (blocks + np.uint64(63)) >> np.uint64(6)
    first = np.cumsum(words, dtype=np.uint64) - words
    affordable(int(words.sum()), 8, "words")
    marked = np.zeros(int(words.sum()), np.uint64)
    allocations.mark(where, size, starts, ends, first, marked)
    for area, word, count in zip(starts.tolist(), first.tolist(), blocks.tolist(), strict=True):
        for low, high in allocations.runs(marked, word, count, _MAX_GAP_BLOCKS):
            yield area + low * _BLOCK_BYTES, area + high * _BLOCK_BYTES


def _populated(process: Process, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the windows of a span, in whole blocks; of a large span, only those with any pages.

    Memory that is reserved but untouched costs less to scan than to fill states for.
    """
    if end - start <= _WINDOW_BYTES or not categories():
        yield from _windows(start, end)
        return
    first, last = np.array([[start], [end]], np.uint64)
    found = scan.populated(process.pagemap, process.path, first, last, allocations.BLOCK_PAGES)
    regions = np.frombuffer(found, REGION_DTYPE)
    # A scan does not report swapped pages of shared memory.
    shared = list(_in_files(process, start, end))
    lows = np.concatenate([regions["start"], np.array([low for low, _ in shared], np.uint64)])
    highs = np.concatenate([regions["end"], np.array([high for _, high in shared], np.uint64)])
    gap = (_MAX_GAP_BLOCKS + 1) * _BLOCK_BYTES
    lows, highs = close_gaps(*_blocks_of(lows, highs), gap, _NO_BARRIERS)
    for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
        yield from _windows(low, high)


def _in_files(process: Process, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of shared memory in a span with pages in the page table or the file."""
    memory = SharedMemory(process)
    segments = survey(memory.backings, [(start, end)], frozenset({"swapped"}))
    for number in np.flatnonzero(segments.resolved).tolist():
        low, high = int(segments.starts[number]), int(segments.ends[number])
        for at, stop, there in memory.parts(segments.mappings[number], low, high):
            if there:
                yield at, stop


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, _WINDOW_BYTES):
        yield at, min(at + _WINDOW_BYTES, end)


# ---- their blocks ------------------------------------------------------------------------------


class _Extents:
    """Spans with any page in a mask, and their blocks, in address order."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, int]] = []
        self._blocks: list[npt.NDArray[np.uint64]] = []
        self._count = 0
        self._totals = np.zeros(allocations.MASK_COUNT, np.uint64)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, start: int, end: int, states: States) -> None:
        """Fill the blocks of a span, and keep them if any page is in a mask."""
        before = self._totals.copy()
        count = -(-len(states) // allocations.BLOCK_PAGES)
        blocks = np.empty((count, 2 * allocations.MASK_COUNT), np.uint64)
        allocations.pack(states, self._totals, blocks)
        if (self._totals != before).any():
            # Twice: they are put together at the end.
            affordable(self._count + count, 2 * blocks.strides[0], "blocks of pages")
            self._spans.append((start, end, self._count))
            self._blocks.append(blocks)
            self._count += count

    def arrays(self) -> tuple[Addresses, Addresses, Addresses, Addresses, Addresses]:
        """Return starts, ends and first blocks of the spans, all blocks, and each mask's total."""
        starts, ends, first = np.array(self._spans, np.uint64).reshape(-1, 3).T
        empty = np.empty((0, 2 * allocations.MASK_COUNT), np.uint64)
        blocks = np.concatenate([empty, *self._blocks])
        starts, ends, first = map(np.ascontiguousarray, (starts, ends, first))
        return starts, ends, first, blocks, self._totals
