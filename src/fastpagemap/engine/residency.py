"""How much of each of many allocations is in RAM, swapped, shared."""

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import allocations, scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE, output
from ..model.mapping import KERNEL_HALF
from ..model.runs import Addresses, Spans, bounds, close_gaps, union
from ..process.capabilities import categories
from ..process.mappings import mappings
from ..process.process import Process
from .masks import fill_states
from .shmem import SharedMemory
from .survey import survey

__all__ = ["RESIDENCY_DTYPE", "residency"]

_COLUMNS = ("present", "swapped", "shared", "exclusive")
RESIDENCY_DTYPE = np.dtype([(name, "=u8") for name in _COLUMNS])
"""The row of an allocation, in bytes."""

_BLOCK = 1 << allocations.BLOCK_SHIFT
# bytes looked at together
_WINDOW = (1 << 18) * PAGE_SIZE
# blocks between marked ones that cost less to look at than a further call does
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
    out = output(out, where.shape, RESIDENCY_DTYPE)
    rows = out.view(np.uint64).reshape(-1, allocations.MASK_COUNT)
    extents = _Extents()
    for start, end in _marked(process, where, size):
        for low, high in _populated(process, start, end):
            extents.add(process, low, high)
    process.check_alive()
    allocations.sum_allocations(where, size, *extents.arrays(), rows)
    return out


def _checked(values: Any, name: str) -> Addresses:
    """Return addresses or sizes as contiguous uint64; say what is wrong with them."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} of shape {array.shape}: one dimension is needed")
    if not array.size:
        return np.empty(0, np.uint64)
    if array.dtype.kind in "fO" and not isinstance(values, np.ndarray):
        # numpy makes floats of ints of which some fit int64 alone and some uint64 alone
        with contextlib.suppress(TypeError, OverflowError):
            array = np.fromiter(map(operator.index, values), np.uint64)
    if array.dtype.kind not in "ui":
        raise ValueError(f"{name} of dtype {array.dtype}: integers are needed")
    if array.dtype.kind == "i" and (least := array.min()) < 0:
        raise ValueError(f"{name}[{int(np.argmin(array))}] is {least}: it cannot be negative")
    return np.ascontiguousarray(array, np.uint64)


# ---- which pages -------------------------------------------------------------------------------


def _blocks_of(starts: Addresses, ends: Addresses) -> Spans:
    """Return the whole blocks that some spans lie on, as spans that are sorted and apart."""
    return union(starts // _BLOCK * _BLOCK, -(-ends // _BLOCK) * _BLOCK)


def _areas(process: Process) -> Spans:
    """Return what is mapped, as areas of whole blocks that lie apart."""
    mapped = [mapping for mapping in mappings(process) if mapping.start < KERNEL_HALF]
    starts, ends = _blocks_of(*bounds(mapped))
    return np.ascontiguousarray(starts), np.ascontiguousarray(ends)


def _marked(process: Process, where: Addresses, size: Addresses) -> Iterator[tuple[int, int]]:
    """Yield the spans of mapped memory that any allocation lies on, or close to it."""
    starts, ends = _areas(process)
    blocks = (ends - starts) >> np.uint64(allocations.BLOCK_SHIFT)
    words = (blocks + np.uint64(63)) >> np.uint64(6)
    first = np.cumsum(words, dtype=np.uint64) - words
    marked = np.zeros(int(words.sum()), np.uint64)
    allocations.mark(where, size, starts, ends, first, marked)
    for area, word, count in zip(starts.tolist(), first.tolist(), blocks.tolist(), strict=True):
        for low, high in allocations.runs(marked, word, count, _MAX_GAP_BLOCKS):
            yield area + low * _BLOCK, area + high * _BLOCK


def _populated(process: Process, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the windows of a span, whole blocks each; of a large one, those with anything in them.

    What is reserved and not touched would cost more to fill states for than to scan.
    """
    if end - start <= _WINDOW or not categories():
        yield from _windows(start, end)
        return
    first, last = np.array([[start], [end]], np.uint64)
    found = scan.populated(process.pagemap, process.path, first, last, allocations.BLOCK_PAGES)
    regions = np.frombuffer(found, REGION_DTYPE)
    # of shared memory that is swapped out a scan knows nothing
    shared = list(_in_files(process, start, end))
    lows = np.concatenate([regions["start"], np.array([low for low, _ in shared], np.uint64)])
    highs = np.concatenate([regions["end"], np.array([high for _, high in shared], np.uint64)])
    lows, highs = close_gaps(*_blocks_of(lows, highs), (_MAX_GAP_BLOCKS + 1) * _BLOCK, _NO_BARRIERS)
    for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
        yield from _windows(low, high)


def _in_files(process: Process, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of shared memory in a span of which the page table or the file has pages."""
    memory = SharedMemory(process)
    segments = survey(memory.backings, [(start, end)], frozenset({"swapped"}))
    for number in np.flatnonzero(segments.resolved).tolist():
        low, high = int(segments.starts[number]), int(segments.ends[number])
        for at, stop, there in memory.parts(segments.mappings[number], low, high):
            if there:
                yield at, stop


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, _WINDOW):
        yield at, min(at + _WINDOW, end)


# ---- what they are -----------------------------------------------------------------------------


class _Extents:
    """The blocks that have anything in them, by the spans that they are of, in address order."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, int]] = []
        self._blocks: list[npt.NDArray[np.uint64]] = []
        self._count = 0
        self._totals = np.zeros(allocations.MASK_COUNT, np.uint64)
        self._states = np.empty(0, np.uint16)

    def add(self, process: Process, start: int, end: int) -> None:
        """Look at a span."""
        pages = (end - start) // PAGE_SIZE
        if len(self._states) < pages:
            self._states = np.empty(pages, np.uint16)
        states = self._states[:pages]
        fill_states(process, start, end, frozenset(_COLUMNS), states)
        before = self._totals.copy()
        count = -(-pages // allocations.BLOCK_PAGES)
        blocks = np.empty((count, 2 * allocations.MASK_COUNT), np.uint64)
        allocations.pack(states, self._totals, blocks)
        if (self._totals != before).any():
            self._spans.append((start, end, self._count))
            self._blocks.append(blocks)
            self._count += count

    def arrays(self) -> tuple[Addresses, Addresses, Addresses, Addresses, Addresses]:
        """Return starts, ends and first blocks of the spans, the blocks, and the sums of all."""
        starts, ends, first = np.array(self._spans, np.uint64).reshape(-1, 3).T
        empty = np.empty((0, 2 * allocations.MASK_COUNT), np.uint64)
        blocks = np.concatenate([empty, *self._blocks])
        starts, ends, first = map(np.ascontiguousarray, (starts, ends, first))
        return starts, ends, first, blocks, self._totals
