"""How what is asked is answered: by scanning, by reading entries, or by the file behind.

A scan (PAGEMAP_SCAN) costs 3 ns for a page that does not match what is asked for, three times as
much for one that does, and nothing where no page table is; an entry costs 15 to 26 ns where a page
is present. So a plan says which pages a scan has to ask for, what it has to be told of them, and
what the mapping says already.
"""

import enum
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache, reading, scan
from ..model.entry import PAGE_SIZE, Category
from ..model.mapping import Mapping
from ..process.capabilities import categories
from ..process.mappings import within
from ..process.process import Process
from .shmem import SharedMemory

__all__ = [
    "Kind",
    "Piece",
    "count",
    "count_shared",
    "fill",
    "fill_in",
    "kind_of",
    "part",
    "pieces",
    "plan",
]

Mask = npt.NDArray[np.bool_]

# asked of the entries, and answered by the file where the entries know nothing
SETTLED = frozenset({"swapped", "unknown"})
# pages looked at together where masks are needed for a moment only
WINDOW = 1 << 18
# pages below which reading the entries costs less than finding out how to scan
SMALL = 512


# ---- the table ---------------------------------------------------------------------------------


class Kind(enum.Enum):
    """What the mapping says of its pages."""

    ANONYMOUS = "all are walked, and none is a file page: but for the huge zero page, on some"
    SHARED_MEMORY = "all are walked, and those present are file pages"
    OTHER = "nothing"


class Match(NamedTuple):
    """The pages with ``(categories & bits) == value``."""

    bits: Category
    value: Category


class Question(NamedTuple):
    """How a scan answers one question."""

    # ask for the pages with any of these; all others match `yes` or not by having none of them
    anyof: Category
    # the pages that the answer is yes for; None: for none that is not to be verified
    yes: Match | None
    # the pages whose entries have to be read to know
    verify: Match | None = None


PRESENT, SWAPPED = Category.PRESENT, Category.SWAPPED
HUGE_ZERO = Category.PFNZERO | Category.HUGE
NONE = Category(0)
NEVER = Match(NONE, PRESENT)

_ALWAYS = {
    "present": Question(PRESENT, Match(PRESENT, PRESENT)),
    "not_present": Question(PRESENT, Match(PRESENT, NONE)),
    "empty": Question(PRESENT | SWAPPED, Match(PRESENT | SWAPPED, NONE)),
    # markers, migration and poison entries count as swapped there: the swap type tells
    "swapped": Question(SWAPPED, None, Match(SWAPPED, SWAPPED)),
    "soft_dirty": Question(Category.SOFT_DIRTY, Match(Category.SOFT_DIRTY, Category.SOFT_DIRTY)),
    "huge": Question(Category.HUGE, Match(PRESENT | HUGE_ZERO, PRESENT | Category.HUGE)),
}
# what no category tells: the entries of present pages have to be read, but only those
_ENTRIES_TELL = Question(PRESENT, None, Match(PRESENT, PRESENT))
# FILE itself is what makes a scan dear: it looks at every page's struct page
QUESTIONS = {
    Kind.ANONYMOUS: _ALWAYS
    | {"shared": Question(Category.PFNZERO, None, Match(HUGE_ZERO, HUGE_ZERO))},
    Kind.SHARED_MEMORY: _ALWAYS | {"shared": Question(PRESENT, Match(PRESENT, PRESENT))},
    Kind.OTHER: _ALWAYS | {"shared": _ENTRIES_TELL},
}
for _table in QUESTIONS.values():
    _table["exclusive"] = _ENTRIES_TELL


@functools.cache
def plan(kind: Kind, questions: frozenset[str]) -> scan.Plan | None:
    """Return the scan that answers all questions at once; None where all entries must be read."""
    table = QUESTIONS[kind]
    if not questions <= table.keys():
        return None
    asked = [table[name] for name in questions]
    anyof = returns = NONE
    for question in asked:
        anyof |= question.anyof
        for match in (question.yes, question.verify):
            returns |= match.bits if match else NONE
    if (anyof | returns) & ~categories():
        return None
    # Where most pages are present, asking for the others is cheaper. It answers everything if being
    # present is all that is asked of those that are, and every page between is walked.
    complement = bool(anyof & PRESENT) and not returns & ~(PRESENT | SWAPPED)
    complement = complement and not any(q is _ENTRIES_TELL for q in asked)
    return scan.Plan(
        anyof,
        returns,
        complement and kind is not Kind.OTHER,
        tuple({question.verify for question in asked if question.verify}),
        {name: table[name].yes or NEVER for name in questions},
    )


@functools.cache
def entries_plan() -> scan.Plan | None:
    """Return the scan for all pages whose entry is not 0, so that the others need not be read."""
    told = (PRESENT | SWAPPED | Category.SOFT_DIRTY) & categories()
    if not told:
        return None
    return scan.Plan(told, told, False, tuple(Match(category, category) for category in told), {})


# ---- spans -------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A part of a span that is answered in one way."""

    start: int
    end: int
    # None: nothing is mapped there
    kind: Kind | None
    # whose pages have to be settled
    shared: Mapping | None = None


def kind_of(memory: SharedMemory, mapping: Mapping) -> Kind:
    """Return what a mapping says of its pages."""
    if mapping.anonymous:
        return Kind.ANONYMOUS
    if mapping.shared and memory.verdict(mapping):
        return Kind.SHARED_MEMORY
    return Kind.OTHER


def pieces(memory: SharedMemory, start: int, end: int, settling: bool) -> Iterator[Piece]:
    """Cut a span by how it is answered, without gaps; small mappings side by side are one piece."""
    small = SMALL * PAGE_SIZE
    # up to `at` is done, from there to `reach` are small mappings
    at = reach = start
    for mapping in within(memory.process, start, end):
        low, high = max(mapping.start, start), min(mapping.end, end)
        shared = settling and memory.holds(mapping)
        alone = shared or high - low >= small
        if at < reach and (alone or low - reach >= small):
            yield Piece(at, reach, Kind.OTHER)
            at = reach
        if at < low and (alone or low - reach >= small):
            yield Piece(at, low, None)
            at = low
        reach = high
        if alone:
            yield Piece(low, high, kind_of(memory, mapping), mapping if shared else None)
            at = high
    if at < reach:
        yield Piece(at, reach, Kind.OTHER)
    if reach < end:
        yield Piece(reach, end, None)


def part(origin: int, start: int, end: int) -> slice:
    """Return which elements of an array that begins at address `origin` a span is."""
    return slice((start - origin) // PAGE_SIZE, (end - origin) // PAGE_SIZE)


def fill(process: Process, start: int, end: int, masks: dict[str, Mask]) -> None:
    """Fill the masks, by their names, of the pages of a span."""
    fill_in(SharedMemory(process), start, end, masks)


def fill_in(memory: SharedMemory, start: int, end: int, masks: dict[str, Mask]) -> None:
    """Fill the masks of one of several spans: what is found out of files is kept for the others."""
    _fill_any(memory, start, end, masks)
    if "soft_dirty" in masks:
        process = memory.process
        # no kernel clears or sets the bit there; entries show a clean page, a scan a dirty one
        for low, high in memory.hugetlb(start, end):
            present = np.empty((high - low) // PAGE_SIZE, bool)
            mask = {"present": present}
            reading.read_masks(process.pagemap, process.path, low, len(present), mask)
            masks["soft_dirty"][part(start, low, high)] |= present


def _fill_any(memory: SharedMemory, start: int, end: int, masks: dict[str, Mask]) -> None:
    """Fill the masks of a span with what the entries, scans and files say."""
    process = memory.process
    settling = not SETTLED.isdisjoint(masks)
    if settling and not pagecache.swap_in_use():
        # nothing is swapped, whatever it is
        for name in SETTLED & masks.keys():
            masks[name].fill(False)
        masks = {name: mask for name, mask in masks.items() if name not in SETTLED}
        settling = False
    if start == end or not masks:
        process.check_alive()
        return
    small = end - start < SMALL * PAGE_SIZE
    if small and not (settling and within(process, start, end, files=True)):
        _fill(process, Kind.OTHER, start, end, masks)
        return
    for piece in pieces(memory, start, end, settling):
        window = _sliced(masks, part(start, piece.start, piece.end))
        if piece.shared is not None:
            _fill_windows(memory, piece, window)
        else:
            _fill(process, piece.kind, piece.start, piece.end, window)


def read(process: Process, start: int, entries: npt.NDArray[np.uint64]) -> None:
    """Read one entry a page, from `start` on; where a scan shows nothing, there is none to read."""
    if len(entries) < SMALL:
        if len(entries):
            reading.read(process.pagemap, process.path, start, entries)
        return
    scanned = entries_plan()
    if scanned is None:
        reading.read(process.pagemap, process.path, start, entries)
        return
    end = start + len(entries) * PAGE_SIZE
    for piece in pieces(SharedMemory(process), start, end, settling=False):
        window = entries[part(start, piece.start, piece.end)]
        if piece.kind is None:
            window.fill(0)
        elif len(window) >= SMALL:
            scan.read(process.pagemap, process.path, piece.start, window, scanned)
        else:
            reading.read(process.pagemap, process.path, piece.start, window)


def _fill(
    process: Process, kind: Kind | None, start: int, end: int, masks: dict[str, Mask]
) -> None:
    """Fill the masks of a span without shared memory: nothing there is unknown."""
    masks = dict(masks)
    for name in ("unknown",) if kind else tuple(masks):
        if name in masks:
            masks.pop(name).fill(False)
    if not masks:
        process.check_alive()
        return
    count = (end - start) // PAGE_SIZE
    scanned = plan(kind, frozenset(masks)) if kind and count >= SMALL else None
    if scanned:
        scan.fill(process.pagemap, process.maps, process.path, start, count, masks, scanned)
    else:
        reading.read_masks(process.pagemap, process.path, start, count, masks)


def _fill_windows(memory: SharedMemory, piece: Piece, masks: dict[str, Mask]) -> None:
    """Fill the masks of a span of shared memory, part by part."""
    assert piece.shared is not None
    for start, end in _windows(piece.start, piece.end):
        window = _sliced(masks, part(piece.start, start, end))
        _fill_shared(memory, piece.shared, start, end, window)


def _fill_shared(
    memory: SharedMemory, mapping: Mapping, start: int, end: int, masks: dict[str, Mask]
) -> int:
    """Fill the masks of a span of shared memory; return how many private copies are swapped."""
    count = (end - start) // PAGE_SIZE
    swapped = masks["swapped"] if "swapped" in masks else np.empty(count, bool)
    lost = masks["unknown"] if "unknown" in masks else np.empty(count, bool)
    asked = {name: mask for name, mask in masks.items() if name not in SETTLED}
    asked |= {"swapped": swapped, memory.lost_question(mapping): lost}
    _fill(memory.process, kind_of(memory, mapping), start, end, asked)
    own = 0 if mapping.shared else _count(swapped)
    memory.settle(mapping, start, swapped, lost)
    return own


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _sliced(masks: dict[str, Mask], pages: slice) -> dict[str, Mask]:
    return {name: mask[pages] for name, mask in masks.items()}


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    step = WINDOW * PAGE_SIZE
    for at in range(start, end, step):
        yield at, min(at + step, end)


# ---- counts ------------------------------------------------------------------------------------


def count(
    process: Process,
    kind: Kind,
    starts: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
    questions: tuple[str, ...],
) -> npt.NDArray[np.uint64]:
    """Count pages: one row a question, one column a span."""
    counts = np.zeros((len(questions), len(starts)), np.uint64)
    large = ends - starts >= np.uint64(SMALL * PAGE_SIZE)
    scanned = plan(kind, frozenset(questions))
    ways: list[tuple[npt.NDArray[np.bool_], Callable[..., None]]] = []
    ways.append((~large if scanned else np.ones_like(large), reading.read_counts))
    if scanned:
        ways.append((large, functools.partial(scan.count, maps=process.maps, plan=scanned)))
    for rows, count_them in ways:
        if rows.any() and questions:
            found = np.zeros((len(questions), np.count_nonzero(rows)), np.uint64)
            count_them(process.pagemap, process.path, starts[rows], ends[rows], questions, found)
            counts[:, rows] = found
    return counts


def count_shared(memory: SharedMemory, piece: Piece, questions: tuple[str, ...]) -> dict[str, int]:
    """Count the pages of a piece of shared memory that are in each mask, window by window.

    ``swapped_shared`` are those of ``swapped`` that the file has, not the mapping for itself.
    """
    names = {"swapped" if name == "swapped_shared" else name for name in questions} | SETTLED
    total = dict.fromkeys(questions, 0)
    assert piece.shared is not None
    room = min(WINDOW, (piece.end - piece.start) // PAGE_SIZE)
    scratch = {name: np.empty(room, bool) for name in names}
    for start, end in _windows(piece.start, piece.end):
        masks = _sliced(scratch, part(start, start, end))
        own = _fill_shared(memory, piece.shared, start, end, masks)
        for name in questions:
            if name == "swapped_shared":
                total[name] += _count(masks["swapped"]) - own
            else:
                total[name] += _count(masks[name])
    return total
