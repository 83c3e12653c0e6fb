"""The state of every page of a process, as runs: found by a scan, read from the entries.

A scan tells where anything is, at no cost for what is not, and which pages are huge or the zero
page; the entries of what is there tell the rest, each page's bits of one instant. Shared memory is
looked up in its file, page by page, where anything on this machine is swapped.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from . import core, entry, pagecache, plans, scan
from .capabilities import categories
from .entry import ENTRY_DTYPE, PAGE_SIZE, REGION_DTYPE, Category
from .mapping import Mapping, mappings
from .process import Process
from .runs import (
    RUN_DTYPE,
    Addresses,
    Runs,
    Spans,
    State,
    batches,
    bounds,
    common,
    covered,
    cut,
    joined,
    near,
    runs_of,
    union,
)
from .shmem import SharedMemory
from .span import checked

__all__ = ["states"]

Regions = npt.NDArray[np.void]
Keys = npt.NDArray[np.uint16]

# pages looked at together, less than twice as many
WINDOW = 1 << 15
# pages looked at first for whether any of them is anything
BLOCK = 512
# bytes between such blocks that cost less to read than to go round
NEAR = BLOCK * PAGE_SIZE
# regions whose pages are marked one by one
FEW = 64
# bytes between mappings that cost less to scan than to go round
FAR = 1 << 26
# where the kernel's half of the address space begins
KERNEL = 1 << 63

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
_NO_REGIONS = np.empty(0, REGION_DTYPE)


def states(process: Process, spans: Iterable[Mapping] | None) -> Runs:
    """Return the runs of the mappings; see ``PageMap.states``."""
    current = [mapping for mapping in mappings(process) if mapping.start < KERNEL]
    chosen = current if spans is None else list(spans)
    for span in chosen:
        checked(span.start, span.end)
    memory = SharedMemory(process)
    settled = _settled(memory, current)
    plain = [mapping for mapping in current if mapping not in settled]
    borders = np.unique(np.concatenate([*bounds(current), *bounds(chosen)]))
    area = union(*bounds(chosen))
    walls = bounds(list(settled))[0]
    found = list(_plain(process, common(bounds(plain), area), walls, borders))
    for mapping in settled:
        found += _shared(memory, mapping, common(bounds([mapping]), area), borders)
    process.check_alive()
    return _put_together([_within(runs, area) for runs in found], np.concatenate(bounds(chosen)))


def _put_together(found: list[Runs], borders: Addresses) -> Runs:
    """Return all runs, sorted, and those joined that were looked at apart."""
    some = [runs for runs in found if len(runs)]
    if any(next_["start"][0] < runs["end"][-1] for runs, next_ in itertools.pairwise(some)):
        runs = np.concatenate(some)
        return joined(runs[np.argsort(runs["start"], kind="stable")], borders)
    # the rule, and then only the ends of what was looked at together are to be looked at again
    parts = [np.empty(0, RUN_DTYPE)]
    for runs in some:
        last, first = parts[-1][-1:], runs[:1]
        if len(joined(np.concatenate((last, first)), borders)) < len(last) + 1:
            last["end"] = first["end"]
            runs = runs[1:]
        if len(runs):
            parts.append(runs)
    return np.concatenate(parts)


def _within(runs: Runs, area: Spans) -> Runs:
    """Return the runs of a batch that lie in an area: all of them, as a rule."""
    if len(runs):
        starts, ends = area
        at = int(np.searchsorted(starts, runs["start"][0], "right")) - 1
        if at < 0 or runs["end"][-1] > ends[at]:
            return runs[covered(runs["start"], *area)]
    return runs


def _settled(memory: SharedMemory, current: list[Mapping]) -> dict[Mapping, None]:
    """Return the mappings whose files have to be asked."""
    if not pagecache.swap_in_use():
        return {}
    return {mapping: None for mapping in current if memory.holds(mapping)}


# ---- what is looked at -------------------------------------------------------------------------


def _plain(process: Process, area: Spans, walls: Addresses, borders: Addresses) -> Iterator[Runs]:
    """Yield the runs of what is no shared memory, or nothing of it is swapped."""
    area = near(*area, FAR, walls)
    if not categories() or not len(area[0]):
        for starts, ends in batches(*area, WINDOW):
            yield _runs(process, starts, ends, _NO_REGIONS, borders)
        return
    found = scan.extents(process.pagemap, process.path, *area, BLOCK)
    regions = np.frombuffer(found, REGION_DTYPE)
    extents = near(regions["start"], regions["end"], NEAR, walls)
    if Category.SOFT_DIRTY in categories():
        yield _untouched(process, area, extents, borders)
    marked = _marked(process, extents)
    for starts, ends in batches(*extents, WINDOW):
        yield _runs(process, starts, ends, marked, borders)


def _shared(
    memory: SharedMemory, mapping: Mapping, area: Spans, borders: Addresses
) -> Iterator[Runs]:
    """Yield the runs of a mapping of shared memory: the file may know something of every page."""
    marked = _marked(memory.process, area) if categories() else _NO_REGIONS
    for starts, ends in batches(*area, plans.WINDOW):
        for span in range(len(starts)):
            one = starts[span : span + 1], ends[span : span + 1]
            yield _runs(memory.process, *one, marked, borders, (memory, mapping))


def _regions(process: Process, area: Spans, *asked: int) -> Regions:
    """Return regions of some spans; asked are `mask`, `anyof`, `inverted` and `returns`."""
    found = scan.regions(process.pagemap, process.path, *area, *asked)
    return np.frombuffer(found, REGION_DTYPE)


def _marked(process: Process, area: Spans) -> Regions:
    """Return where a scan alone tells what the pages are."""
    marks = Category.HUGE | Category.PFNZERO
    return _regions(process, area, 0, marks, 0, marks)


def _untouched(process: Process, area: Spans, extents: Spans, borders: Addresses) -> Runs:
    """Return the runs of pages that are soft-dirty as all of a new mapping is, and nothing else."""
    there = Category.PRESENT | Category.SWAPPED
    bare = _regions(process, area, there | Category.SOFT_DIRTY, 0, there, 0)
    runs = runs_of(bare["start"], bare["end"], int(State.SOFT_DIRTY))
    runs = cut(runs, np.concatenate([borders, *extents]))
    return runs[~covered(runs["start"], *extents)]


# ---- pages -------------------------------------------------------------------------------------


class _Pages:
    """The pages of some spans, one after the other, and their entries."""

    def __init__(self, process: Process, starts: Addresses, ends: Addresses) -> None:
        self.starts, self.ends = starts, ends
        counts = ((ends - starts) // np.uint64(PAGE_SIZE)).astype(np.intp)
        self.offsets = np.cumsum(counts) - counts
        self.words = np.empty(int(counts.sum()), np.uint64)
        at = 0
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            core.read(process.pagemap, process.path, start, self.words[at : at + count])
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


def _runs(
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
    return joined(runs, borders)


def _heads(pages: _Pages, keys: Keys, borders: Addresses) -> npt.NDArray[np.intp]:
    """Return where another key begins, another span, or another mapping."""
    starts, ends = pages.starts, pages.ends
    changed = np.empty(len(keys), bool)
    changed[0] = True
    np.not_equal(keys[1:], keys[:-1], out=changed[1:])
    changed[pages.offsets[1:][starts[1:] != ends[:-1]]] = True
    near = borders[slice(*np.searchsorted(borders, (starts[0], ends[-1])))]
    changed[pages.index(near[covered(near, starts, ends)])] = True
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
