"""The state of every page of a process, as runs: found by a scan, read from the entries.

A scan tells where anything is, at no cost for what is not, and which pages are huge or the zero
page; the entries of what is there tell the rest, each page's bits of one instant. Shared memory is
looked up in its file, page by page, where anything on this machine is swapped.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from . import core, entry, pagecache, scan
from .capabilities import categories
from .entry import ENTRY_DTYPE, PAGE_SIZE, Category
from .mapping import Mapping, mappings
from .process import Process
from .runs import RUN_DTYPE, Addresses, Runs, State, covered, joined, runs_of
from .shmem import SharedMemory
from .span import checked

__all__ = ["states"]

Keys = npt.NDArray[np.uint16]

# pages looked at together, less than twice as many
WINDOW = 1 << 15
# pages of nothing that cost less to read than to go round
GAP = 512
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


def states(process: Process, spans: Iterable[Mapping] | None) -> Runs:
    """Return the runs of the mappings; see ``PageMap.states``."""
    current = [mapping for mapping in mappings(process) if mapping.start < KERNEL]
    chosen = current if spans is None else list(spans)
    for span in chosen:
        checked(span.start, span.end)
    memory = SharedMemory(process)
    settled = _settled(memory, current)
    plain = [mapping for mapping in current if mapping not in settled]
    borders = np.unique(np.concatenate([*_bounds(current), *_bounds(chosen)]))
    area = _union(*_bounds(chosen))
    walls = _bounds(list(settled))[0]
    found = [np.empty(0, RUN_DTYPE)]
    found += _plain(process, _common(_bounds(plain), area), walls, borders)
    for mapping in settled:
        found += _shared(memory, mapping, _common(_bounds([mapping]), area), borders)
    process.check_alive()
    runs = np.concatenate(found)
    if settled or len(found) > 2:
        runs = runs[np.argsort(runs["start"], kind="stable")]
    runs = runs[covered(runs["start"], *area)]
    return joined(runs, np.concatenate(_bounds(chosen)))


# ---- spans -------------------------------------------------------------------------------------


def _settled(memory: SharedMemory, current: list[Mapping]) -> dict[Mapping, None]:
    """Return the mappings whose files have to be asked."""
    if not pagecache.swap_in_use():
        return {}
    return {mapping: None for mapping in current if memory.holds(mapping)}


def _bounds(spans: list[Mapping]) -> tuple[Addresses, Addresses]:
    """Return starts and ends as arrays."""
    bounds = np.array([(span.start, span.end) for span in spans], np.uint64).reshape(-1, 2)
    starts, ends = np.ascontiguousarray(bounds.T)
    return starts, ends


def _union(starts: Addresses, ends: Addresses) -> tuple[Addresses, Addresses]:
    """Return spans that are sorted and apart: all that is in any of those given."""
    some = ends > starts
    order = np.argsort(starts[some], kind="stable")
    starts, ends = starts[some][order], np.maximum.accumulate(ends[some][order])
    if not len(starts):
        return starts, ends
    apart = starts[1:] > ends[:-1]
    return starts[np.concatenate(([True], apart))], ends[np.concatenate((apart, [True]))]


def _common(
    these: tuple[Addresses, Addresses], those: tuple[Addresses, Addresses]
) -> tuple[Addresses, Addresses]:
    """Return what lies in both, sorted."""
    edges = np.unique(np.concatenate([*these, *those]))
    both = covered(edges[:-1], *these) & covered(edges[:-1], *those)
    return edges[:-1][both], edges[1:][both]


def _near(
    starts: Addresses, ends: Addresses, gap: int, walls: Addresses
) -> tuple[Addresses, Addresses]:
    """Join spans less than `gap` bytes apart, unless there is a wall between."""
    if len(starts) < 2:
        return starts, ends
    apart = starts[1:] - ends[:-1] >= np.uint64(gap)
    if len(walls):
        before, after = (np.searchsorted(walls, edge) for edge in (ends[:-1], starts[1:]))
        apart |= after > before
    first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
    return np.ascontiguousarray(starts[first]), np.ascontiguousarray(ends[last])


# ---- pages -------------------------------------------------------------------------------------


def _plain(
    process: Process, area: tuple[Addresses, Addresses], walls: Addresses, borders: Addresses
) -> Iterator[Runs]:
    """Yield the runs of what is no shared memory, or nothing of it is swapped."""
    if not len(area[0]):
        return
    special = np.empty(0, RUN_DTYPE)
    if categories():
        area = _near(*area, FAR, walls)
        there = Category.PRESENT | Category.SWAPPED
        wanted = there | Category.PFNZERO | Category.HUGE | Category.SOFT_DIRTY & categories()
        regions = _regions(process, area, there | Category.SOFT_DIRTY & categories(), wanted)
        told = regions["categories"]
        filled = regions[(told & there) != 0]
        extents = _near(filled["start"], filled["end"], GAP * PAGE_SIZE, walls)
        # never touched, yet dirty as all of a new mapping is: nothing there to read
        bare = regions[(told & there) == 0]
        bare = bare[~covered(bare["start"], *extents)]
        if len(bare):
            yield _cut(runs_of(bare["start"], bare["end"], int(State.SOFT_DIRTY)), borders)
        special = regions[(told & (Category.PFNZERO | Category.HUGE)) != 0]
        area = extents
    for starts, ends in _batches(*area):
        yield _runs(process, starts, ends, special, borders)


def _shared(
    memory: SharedMemory,
    mapping: Mapping,
    area: tuple[Addresses, Addresses],
    borders: Addresses,
) -> Iterator[Runs]:
    """Yield the runs of a mapping of shared memory."""
    special = np.empty(0, RUN_DTYPE)
    marked = (Category.PFNZERO | Category.HUGE) & categories()
    if marked:
        special = _regions(memory.process, area, marked, marked)
    for starts, ends in _batches(*area):
        for low, high in zip(starts, ends, strict=True):
            one = np.array([low]), np.array([high])
            yield _runs(memory.process, *one, special, borders, (memory, mapping))


def _regions(
    process: Process, area: tuple[Addresses, Addresses], anyof: int, returns: int
) -> npt.NDArray[np.void]:
    found = scan.regions(process.pagemap, process.path, *area, 0, anyof, 0, returns)
    return np.frombuffer(found, entry.REGION_DTYPE)


def _cut(runs: Runs, borders: Addresses) -> Runs:
    """Cut runs at the borders."""
    edges = np.unique(np.concatenate([runs["start"], runs["end"], borders]))
    inside = covered(edges[:-1], runs["start"], runs["end"])
    starts = edges[:-1][inside]
    at = np.searchsorted(runs["start"], starts, "right") - 1
    return runs_of(starts, edges[1:][inside], runs["state"][at])


def _batches(starts: Addresses, ends: Addresses) -> Iterator[tuple[Addresses, Addresses]]:
    """Yield spans of less than 2 * WINDOW pages together."""
    step = np.uint64(WINDOW * PAGE_SIZE)
    parts = ((ends - starts + step - np.uint64(1)) // step).astype(np.intp)
    which = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    lows = starts[which] + part.astype(np.uint64) * step
    highs = np.minimum(lows + step, ends[which])
    before = np.cumsum(highs - lows) - (highs - lows)
    splits = np.flatnonzero(np.diff(before // step)) + 1
    for first, last in zip([0, *splits], [*splits, len(lows)], strict=True):
        if first < last:
            yield lows[first:last], highs[first:last]


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
        """Return the addresses of pages."""
        span = np.searchsorted(self.offsets, index, "right") - 1
        pages = (index - self.offsets[span]).astype(np.uint64)
        return self.starts[span] + pages * np.uint64(PAGE_SIZE)


def _runs(
    process: Process,
    starts: Addresses,
    ends: Addresses,
    special: npt.NDArray[np.void],
    borders: Addresses,
    settling: tuple[SharedMemory, Mapping] | None = None,
) -> Runs:
    """Read the entries of some spans, and return their runs."""
    pages = _Pages(process, starts, ends)
    keys: Keys = pages.words.view(ENTRY_DTYPE)["flags"] >> np.uint16(7)
    if settling:
        _settle(*settling, int(starts[0]), pages.words, keys)
    elif (keys & SWAP).any():
        keys |= entry.mask(pages.words, "swapped") * EXTRA[State.SWAPPED]
    _mark(pages, special, keys)
    changed = np.empty(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=changed[1:])
    changed[pages.offsets] = True
    near = borders[slice(*np.searchsorted(borders, (starts[0], ends[-1])))]
    changed[pages.index(near[covered(near, starts, ends)])] = True
    heads = np.flatnonzero(changed)
    found = _STATES[keys[heads]]
    lows = pages.addresses(heads)
    lengths = np.diff(heads, append=len(keys)).astype(np.uint64)
    some = found != 0
    lows = lows[some]
    return runs_of(lows, lows + lengths[some] * np.uint64(PAGE_SIZE), found[some])


def _settle(memory: SharedMemory, mapping: Mapping, start: int, words: Addresses, keys: Keys) -> None:
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


def _mark(pages: _Pages, special: npt.NDArray[np.void], keys: Keys) -> None:
    """Add to the keys what the scan tells of each page."""
    first = np.searchsorted(special["end"], pages.starts[0], "right")
    last = np.searchsorted(special["start"], pages.ends[-1])
    if first >= last:
        return
    some = special[first:last]
    lows = pages.index(np.maximum(some["start"], pages.starts[0]))
    ends = np.minimum(some["end"], pages.ends[-1])
    counts = pages.index(ends - np.uint64(PAGE_SIZE)) + 1 - lows
    for category, state in ((Category.HUGE, State.HUGE), (Category.PFNZERO, State.ZERO)):
        having = (some["categories"] & category) != 0
        index = np.repeat(lows[having] - np.cumsum(counts[having]) + counts[having], counts[having])
        keys[index + np.arange(len(index))] |= EXTRA[state]
