"""Pages of some spans, read and told apart: their states, as runs."""

import numpy as np
import numpy.typing as npt

from .._kernel import reading
from ..model import entry
from ..model.entry import ENTRY_DTYPE, PAGE_SIZE, Category
from ..model.mapping import Mapping
from ..model.runs import Addresses, Runs, State, in_spans, join_equal, runs_of
from ..process.process import Process
from .shmem import SharedMemory

__all__ = ["Regions", "read_runs"]

Regions = npt.NDArray[np.void]
Keys = npt.NDArray[np.uint16]

# regions whose pages are marked one by one
FEW = 64

# A page's key: bits 55-63 of its entry, and above them what the entry alone does not say.
ENTRY_BITS = 9
EXTRAS = (State.SWAPPED, State.SWAPPED_SHARED, State.UNKNOWN, State.HUGE, State.ZERO)
EXTRA = {state: np.uint16(1 << ENTRY_BITS + bit) for bit, state in enumerate(EXTRAS)}
SWAP = np.uint16(entry.Flag.SWAP >> 55)

_TOLD = {
    "present": State.PRESENT,
    "shared": State.SHARED,
    "exclusive": State.EXCLUSIVE,
    "soft_dirty": State.SOFT_DIRTY,
    "guard": State.GUARD,
}


def _by_key() -> npt.NDArray[np.uint64]:
    """Return the state of every key, by what `entry` says of each such entry."""
    keys = np.arange(1 << ENTRY_BITS + len(EXTRAS), dtype=np.uint64)
    words = (keys & np.uint64((1 << ENTRY_BITS) - 1)) << np.uint64(55)
    states = np.zeros(len(keys), np.uint64)
    for question, state in _TOLD.items():
        states |= entry.mask(words, question) * np.uint64(state)
    for state, bit in EXTRA.items():
        states |= ((keys & np.uint64(bit)) != 0) * np.uint64(state)
    # told by a scan of another instant: of pages that are not there any more it says nothing
    gone = (states & np.uint64(State.PRESENT)) == 0
    states[gone] &= ~np.uint64(State.HUGE | State.ZERO)
    return states


_STATES = _by_key()
# the bits of a key by the categories of a region in which either is
_MARKS = np.zeros(2 * Category.HUGE, np.uint16)
_MARKS[Category.HUGE :] = EXTRA[State.HUGE]
_MARKS[Category.PFNZERO :: 2 * Category.PFNZERO] |= EXTRA[State.ZERO]


class _Pages:
    """The pages of some spans, one after the other, and their entries."""

    def __init__(self, process: Process, starts: Addresses, ends: Addresses) -> None:
        self.starts, self.ends = starts, ends
        counts = ((ends - starts) // np.uint64(PAGE_SIZE)).astype(np.intp)
        self.offsets = np.cumsum(counts) - counts
        self.words = np.empty(int(counts.sum()), np.uint64)
        at = 0
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            reading.read(process.pagemap, process.path, start, self.words[at : at + count])
            at += count

    def index(self, addresses: Addresses) -> npt.NDArray[np.intp]:
        """Return where the pages of addresses within the spans are."""
        span = np.searchsorted(self.starts, addresses, "right") - 1
        pages = (addresses - self.starts[span]) // np.uint64(PAGE_SIZE)
        return self.offsets[span] + pages.astype(np.intp)

    def addresses(self, index: npt.NDArray[np.intp]) -> Addresses:
        """Return the addresses of pages, which are sorted."""
        first = self.starts - self.offsets.astype(np.uint64) * np.uint64(PAGE_SIZE)
        each = np.diff(np.searchsorted(index, self.offsets), append=len(index))
        addresses: Addresses = np.repeat(first, each)
        addresses += index.astype(np.uint64) * np.uint64(PAGE_SIZE)
        return addresses


def read_runs(
    process: Process,
    starts: Addresses,
    ends: Addresses,
    special: Regions,
    borders: Addresses,
    settling: tuple[SharedMemory, Mapping] | None = None,
) -> Runs:
    """Read the entries of some spans, and return their runs."""
    pages = _Pages(process, starts, ends)
    keys: Keys = pages.words.view(ENTRY_DTYPE)["flags"] >> np.uint16(7)
    if settling:
        _settle(*settling, int(starts[0]), pages.words, keys)
    elif np.bitwise_or.reduce(keys) & SWAP:
        keys |= entry.mask(pages.words, "swapped") * EXTRA[State.SWAPPED]
    _mark(pages, special, keys)
    heads = _heads(pages, keys, borders)
    found = keys[heads]
    some = np.flatnonzero(found)
    heads = np.append(heads, len(keys))
    first, last = heads[some], heads[some + 1]
    lows = pages.addresses(first)
    highs = lows + (last - first).astype(np.uint64) * np.uint64(PAGE_SIZE)
    runs = runs_of(lows, highs, _STATES[found[some]])
    # different keys may be of one state, markers even of none
    if not runs["state"].all():
        runs = runs[runs["state"] != 0]
    return join_equal(runs, borders)


def _heads(pages: _Pages, keys: Keys, borders: Addresses) -> npt.NDArray[np.intp]:
    """Return where another key begins, another span, or another mapping."""
    starts, ends = pages.starts, pages.ends
    changed = np.empty(len(keys), bool)
    changed[0] = True
    np.not_equal(keys[1:], keys[:-1], out=changed[1:])
    changed[pages.offsets[1:][starts[1:] != ends[:-1]]] = True
    near = borders[slice(*np.searchsorted(borders, (starts[0], ends[-1])))]
    changed[pages.index(near[in_spans(near, starts, ends)])] = True
    return np.flatnonzero(changed)


def _settle(
    memory: SharedMemory, mapping: Mapping, start: int, words: Addresses, keys: Keys
) -> None:
    """Add to the keys what the file tells of each page."""
    swapped = entry.mask(words, "swapped")
    lost = entry.mask(words, memory.lost_question(mapping))
    own = np.zeros_like(swapped) if mapping.shared else swapped.copy()
    memory.settle(mapping, start, swapped, lost)
    for state, mask in (
        (State.SWAPPED, swapped),
        (State.SWAPPED_SHARED, swapped & ~own),
        (State.UNKNOWN, lost),
    ):
        keys |= mask * EXTRA[state]


def _mark(pages: _Pages, special: Regions, keys: Keys) -> None:
    """Add to the keys what the scan tells of each page."""
    first = np.searchsorted(special["end"], pages.starts[0], "right")
    last = np.searchsorted(special["start"], pages.ends[-1])
    if first >= last:
        return
    some = special[first:last]
    lows = pages.index(np.maximum(some["start"], pages.starts[0]))
    ends = np.minimum(some["end"], pages.ends[-1])
    counts = pages.index(ends - np.uint64(PAGE_SIZE)) + 1 - lows
    marks = _MARKS[some["categories"]]
    if len(some) < FEW:
        for low, count, mark in zip(lows, counts, marks, strict=True):
            keys[low : low + count] |= mark
    else:
        index = np.repeat(lows - np.cumsum(counts) + counts, counts)
        keys[index + np.arange(len(index))] |= np.repeat(marks, counts)
