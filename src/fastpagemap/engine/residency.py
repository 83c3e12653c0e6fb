"""How much of each of many allocations is present, swapped, shared, exclusive, unknown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import allocations, scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE
from ..model.integers import integers
from ..model.mapping import KERNEL_HALF
from ..model.questions import States, matching
from ..model.runs import (
    Addresses,
    Runs,
    Spans,
    State,
    bounds,
    bytes_within,
    edges_of,
    has_any,
    in_spans,
    states_at,
    union,
)
from ..process.limits import affordable, as_uint64, output
from ..process.mappings import mappings
from ..process.probes import asks_again, categories
from ..process.process import Process
from .masks import fill_states
from .parts import WINDOW_PAGES, Part, cut, windows
from .states import state_runs

__all__ = ["RESIDENCY_DTYPE", "residency"]

_COLUMNS = ("present", "swapped", "shared", "exclusive", "unknown")
RESIDENCY_DTYPE = np.dtype([(name, "=u8") for name in _COLUMNS])
"""The row of an allocation: its bytes on pages of each mask."""

_BLOCK_BYTES = 1 << allocations.BLOCK_SHIFT
_COUNTED = State.PRESENT | State.SWAPPED | State.SHARED | State.EXCLUSIVE
# Memory whose states are filled at a time.
_WINDOW_BYTES = WINDOW_PAGES * PAGE_SIZE
# Memory with few pages of which the runs are found at a time.
_REST_BYTES = 1 << 44
# To look at so many blocks between marked ones costs less than another call.
_MAX_GAP_BLOCKS = 8


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
    out = output(out, where.shape, RESIDENCY_DTYPE, "allocations")
    rows = out.view(np.uint64).reshape(-1, len(_COLUMNS))
    extents, unknown, unknown_spans = _looked_up(process, where, size)
    process.check_alive()
    allocations.sum_allocations(where, size, *extents.arrays(), rows)
    if unknown:
        affordable(len(where), RESIDENCY_DTYPE.itemsize, "allocations")
        only = np.empty((len(where), allocations.MASK_COUNT), np.uint64)
        allocations.sum_allocations(where, size, *unknown.arrays(), only)
        rows[:, _COLUMNS.index("unknown")] = only[:, 0]
    for spans in unknown_spans:
        rows[:, _COLUMNS.index("unknown")] += bytes_within(where, size, *spans)
    return out


@asks_again
def _looked_up(
    process: Process, where: Addresses, size: Addresses
) -> tuple[_Extents, _Extents, list[Spans]]:
    """Return the extents of memory that is present and so on, and of memory that is unknown.

    Pages that are unknown are rare: the others need not pay for a fifth mask. But they may be all
    of a large mapping: there, spans are returned in place of extents.
    """
    extents, unknown, spans = _Extents(), _Extents(), []
    buffer = np.empty(0, np.uint16)
    for start, end in _marked(process, where, size):
        for low, high, many in _parts(process, start, end):
            if not many:
                runs = state_runs(process, [(low, high)], frozenset(_COLUMNS))
                extents.add_runs(runs)
                runs = runs[has_any(runs["state"], State.UNKNOWN)]
                if len(runs):
                    spans.append(union(runs["start"], runs["end"]))
                continue
            pages = (high - low) // PAGE_SIZE
            if len(buffer) < pages:
                buffer = np.empty(pages, np.uint16)
            states = buffer[:pages]
            fill_states(process, low, high, frozenset(_COLUMNS), states)
            extents.add(low, high, states)
            of_unknown = matching(states, "unknown")
            if of_unknown.any():
                unknown.add(low, high, of_unknown * np.uint16(int(State.PRESENT)))
    return extents, unknown, spans


def _checked(values: npt.ArrayLike, name: str) -> Addresses:
    """Return addresses or sizes as contiguous uint64; raise ValueError if they are wrong."""
    array = integers(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} of shape {array.shape}: one dimension is needed")
    return as_uint64(array, name)


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


def _parts(process: Process, start: int, end: int) -> Iterator[Part]:
    """Cut a span, in whole blocks, into parts of whole blocks; see `cut`."""
    if end - start <= _WINDOW_BYTES or not categories():
        return windows(start, end)
    first, last = np.array([[start], [end]], np.uint64)
    found = scan.populated(process.pagemap, process.path, first, last, allocations.BLOCK_PAGES)
    regions = np.frombuffer(found, REGION_DTYPE)
    lows, highs = _blocks_of(regions["start"], regions["end"])
    # The runs of a rest, and what they take, are limited by the pages that are there, and by the
    # mappings.
    number = np.cumsum(highs - lows) // np.uint64(_WINDOW_BYTES)
    far = np.arange(start, end, _REST_BYTES, dtype=np.uint64)
    borders = edges_of(lows[1:][np.diff(number) != 0], far)
    return cut(start, end, (lows, highs), borders, (_MAX_GAP_BLOCKS + 1) * _BLOCK_BYTES)


# ---- their blocks ------------------------------------------------------------------------------


class _Extents:
    """Spans with any page in a mask, and their blocks, in address order."""

    def __init__(self) -> None:
        self._spans: list[Addresses] = []
        self._blocks: list[npt.NDArray[np.uint64]] = []
        self._count = 0
        self._totals = np.zeros(allocations.MASK_COUNT, np.uint64)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, start: int, end: int, states: States) -> None:
        """Fill the blocks of a span, and keep them if any page is in a mask."""
        before = self._totals.copy()
        blocks = self._pack(states)
        if (self._totals != before).any():
            self._keep(np.array([start], np.uint64), np.array([end], np.uint64), blocks)

    def add_runs(self, runs: Runs) -> None:
        """Do what `add` does, for runs of states."""
        runs = runs[has_any(runs["state"], _COUNTED)]
        for starts, ends in _batches(*_blocks_of(runs["start"], runs["end"])):
            low, high = (
                np.searchsorted(runs["end"], starts[0], "right"),
                np.searchsorted(runs["start"], ends[-1]),
            )
            part = runs[low:high]
            span = starts[0], ends[-1]
            edges = edges_of(
                starts, ends, np.clip(part["start"], *span), np.clip(part["end"], *span)
            )
            inside = in_spans(edges[:-1], starts, ends)
            states = states_at(part, edges[:-1])[inside].astype(np.uint16)
            pages = np.diff(edges)[inside] // np.uint64(PAGE_SIZE)
            self._keep(starts, ends, self._pack(np.repeat(states, pages.astype(np.int64))))

    def _pack(self, states: States) -> npt.NDArray[np.uint64]:
        """Return the blocks of some pages, and add these to the totals."""
        count = -(-len(states) // allocations.BLOCK_PAGES)
        blocks = np.empty((count, 2 * allocations.MASK_COUNT), np.uint64)
        allocations.pack(states, self._totals, blocks)
        return blocks

    def _keep(self, starts: Addresses, ends: Addresses, blocks: npt.NDArray[np.uint64]) -> None:
        """Keep the blocks of some spans."""
        # Twice: they are put together at the end.
        affordable(self._count + len(blocks), 2 * blocks.strides[0], "blocks of pages")
        counts = (ends - starts) // np.uint64(_BLOCK_BYTES)
        first = np.cumsum(counts) - counts + np.uint64(self._count)
        self._spans.append(np.stack([starts, ends, first], axis=1))
        self._blocks.append(blocks)
        self._count += len(blocks)

    def arrays(self) -> tuple[Addresses, Addresses, Addresses, Addresses, Addresses]:
        """Return starts, ends and first blocks of the spans, all blocks, and each mask's total."""
        spans = np.concatenate([np.empty((0, 3), np.uint64), *self._spans])
        starts, ends, first = map(np.ascontiguousarray, spans.T)
        empty = np.empty((0, 2 * allocations.MASK_COUNT), np.uint64)
        blocks = np.concatenate([empty, *self._blocks])
        return starts, ends, first, blocks, self._totals


def _batches(starts: Addresses, ends: Addresses) -> Iterator[Spans]:
    """Cut spans into windows, and yield some of these at a time."""
    size = np.uint64(_WINDOW_BYTES)
    windows = (ends - starts + size - np.uint64(1)) // size
    number = np.repeat(np.arange(len(starts)), windows.astype(np.int64))
    first = np.cumsum(windows) - windows
    nth = np.arange(len(number), dtype=np.uint64) - first[number]
    lows = starts[number] + nth * size
    highs = np.minimum(lows + size, ends[number])
    batch = np.cumsum(highs - lows) // size
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(lows)]
    for low, high in itertools.pairwise(cuts):
        if low < high:
            yield lows[low:high], highs[low:high]
