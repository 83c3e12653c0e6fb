"""The frames of processes: what each shares, and what only it maps.

A page that its entry calls exclusive is mapped once, so its frame is not looked up. The entry of a
huge page does not tell that of all its pages: one of them may be mapped by another process.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel.frame_table import FrameTable
from ..model.entry import PAGE_SIZE, frame_numbers
from ..model.questions import mask
from ..process.limits import affordable
from ..process.probes import asks_again, categories, one_entry_tells
from ..process.process import Process
from .masks import read
from .physical import hidden
from .survey import Segments, SpanList
from .walk import Walker, ask, new_sink

__all__ = [
    "COUNTS_PATH",
    "Gathered",
    "counted",
    "frames_and_counts",
    "gather",
    "locations",
    "mapped_sets",
    "overlaps",
    "sharers",
    "shares",
    "sums_of",
    "totals_of",
]

COUNTS_PATH = "/proc/kpagecount"

Numbers = npt.NDArray[np.uint64]

# How many bits each byte has.
_BITS = np.array([number.bit_count() for number in range(256)], np.uint64)


class Gathered(NamedTuple):
    """The frames of some mappings of one process.

    Attributes
    ----------
    alone : ndarray of uint64
        How many pages of each mapping are mapped exactly once, as their entries say.
    lengths : ndarray of int64
        How many of `frames` are of each mapping.
    frames : ndarray of uint64
        The frame numbers of all other present pages, zero pages among them; none if they were
        counted in a table.
    locations : ndarray of uint64
        The swap type and offset of each swapped page of private memory.
    rows : ndarray of int64
        The number of the span that each of these mappings is a part of: a span may be unmapped by
        now, or several mappings.
    """

    alone: Numbers
    lengths: npt.NDArray[np.int64]
    frames: Numbers
    locations: Numbers
    rows: npt.NDArray[np.int64]


@functools.cache
def _trusts_exclusive() -> bool:
    """Return whether the entries of a huge page are told apart from others, or tell the truth."""
    return bool(categories()) or not one_entry_tells()


@asks_again
def gather(
    process: Process,
    spans: SpanList | None = None,
    *,
    swapped: bool = False,
    table: FrameTable | None = None,
) -> Gathered:
    """Return the frames of some mappings, all by default; and where their pages are swapped.

    With a table, they are counted there as they are found. That takes less memory; see `counted`.
    """
    questions = ("present", "alone") + ("swap_entry",) * swapped
    trusted = _trusts_exclusive()

    def put(walker: Walker, segments: Segments, _: SpanList | None) -> Gathered:
        # The scan that finds zero pages has no frame of theirs: frames are counted in a row more.
        counts = np.zeros((len(questions) + 1, max(1, len(segments))), np.uint64)
        sink = new_sink(
            questions, frames=trusted, all_frames=not trusted, locations=swapped, table=table
        )
        walker.walk(segments, sink, counts)
        alone, lengths = counts[1, : len(segments)], counts[-1, : len(segments)].astype(np.int64)
        if not trusted:
            alone = np.zeros_like(alone)
        # Who maps physical memory itself (/dev/mem) may see frame 0, but no one sees it alone.
        if lengths.any() and not sink.sees_frames:
            raise hidden(process)
        return Gathered(
            alone,
            lengths,
            np.frombuffer(sink.taken_frames(), np.uint64),
            np.frombuffer(sink.taken_locations(), np.uint64),
            segments.rows,
        )

    # The page table alone answers, so no mapping is asked about again.
    (answer,) = ask(process, spans, frozenset(questions), put)
    result: Gathered = answer.result
    return result


def counted(
    ask: Callable[[FrameTable], Sequence[Gathered]],
) -> tuple[FrameTable, Sequence[Gathered]]:
    """Have frames counted in a table; return it, and what was gathered."""
    while True:
        table = FrameTable()
        found = ask(table)
        # Else it has frames of a process that ended before all of its were counted.
        if table.pages == sum(int(each.lengths.sum()) for each in found):
            return table, found


def shares(process: Process, counts: int, spans: SpanList, are_all: bool) -> Numbers:
    """Return pss and uss of some mappings, in bytes: a row for each.

    A frame that is mapped several times counts in uss by a share in each mapping.

    Parameters
    ----------
    process : Process
    counts : int
        An open /proc/kpagecount.
    spans : sequence of Mapping
    are_all : bool
        Whether these are all mappings. If not, the others are looked at as well.
    """
    found = gather(process, spans)
    if are_all:
        table = FrameTable()
        table.add(found.frames)
    else:  # the rest of the process may map the same frames
        table, _ = counted(lambda table: [gather(process, table=table)])
    table.read(counts, COUNTS_PATH)
    sums = np.zeros((len(found.alone), 3), np.uint64)
    table.sums(found.frames, found.lengths, sums)
    sums += (found.alone * np.uint64(PAGE_SIZE))[:, np.newaxis]
    rows = np.zeros((len(spans), 3), np.uint64)
    np.add.at(rows, found.rows, sums)
    return rows[:, 1:]


def sums_of(process: Process, counts: int) -> tuple[tuple[int, int, int], Numbers]:
    """Return rss, pss and uss of a process, in bytes; and where its private memory is swapped."""
    table, (found,) = counted(lambda table: [gather(process, swapped=True, table=table)])
    rss, pss, _, unique, _ = totals_of(table, [found], counts)
    return (rss, pss, unique), found.locations


def totals_of(
    table: FrameTable, gathered: Sequence[Gathered], counts: int
) -> tuple[int, int, int, int, int]:
    """Return the bytes that are mapped, their share, union, unique; and what changed meanwhile."""
    frames, pages, unique, changed, share = table.totals(counts, COUNTS_PATH)
    alone = sum(int(found.alone.sum()) for found in gathered) * PAGE_SIZE
    sizes = pages * PAGE_SIZE, share, frames * PAGE_SIZE, unique * PAGE_SIZE
    rss, pss, union, own = (size + alone for size in sizes)
    return rss, pss, union, own, changed * PAGE_SIZE


def locations(process: Process) -> Numbers:
    """Return the swap type and offset of each swapped page of a process's private memory."""

    def put(walker: Walker, segments: Segments, _: SpanList | None) -> Numbers:
        sink = new_sink((), locations=True)
        walker.walk(segments, sink)
        return np.frombuffer(sink.taken_locations(), np.uint64)

    (answer,) = ask(process, None, frozenset({"swap_entry"}), put)
    result: Numbers = answer.result
    return result


def mapped_sets(gathered: Sequence[Gathered], counts: int) -> list[Numbers]:
    """Return the frames that each of some processes maps, sorted, without its own alone."""
    # Nobody maps the zero page, as the kernel counts.
    return [frames[mapped > 0] for frames, mapped in frames_and_counts(gathered, counts)]


def frames_and_counts(
    gathered: Sequence[Gathered], counts: int
) -> Iterator[tuple[Numbers, npt.NDArray[np.uint32]]]:
    """Yield the frames that each of some processes maps, sorted, and how often all map each."""
    table = FrameTable()
    for found in gathered:
        table.add(found.frames)
    table.read(counts, COUNTS_PATH)
    for found in gathered:
        frames = np.unique(found.frames)
        mapped = np.empty(len(frames), np.uint32)
        table.all(frames, mapped)
        yield frames, mapped


def overlaps(gathered: Sequence[Gathered], sets: Sequence[Numbers]) -> Numbers:
    """Return how many bytes both of two processes map; on the diagonal what each one maps.

    Those that share all of their memory are given as the same object twice.
    """
    union = np.unique(np.concatenate(sets))
    rows = []
    for frames in sets:
        row = np.zeros(len(union), bool)
        row[np.searchsorted(union, frames)] = True
        rows.append(np.packbits(row))
    pages = np.zeros((len(sets), len(sets)), np.uint64)
    for i, j in itertools.combinations_with_replacement(range(len(sets)), 2):
        both = _BITS[rows[i] & rows[j]].sum()
        if gathered[i] is gathered[j]:
            both += gathered[i].alone.sum()
        pages[i, j] = pages[j, i] = both
    return pages * np.uint64(PAGE_SIZE)


def sharers(
    process: Process, start: int, end: int, sets: Sequence[Numbers], together: int
) -> npt.NDArray[np.uint16]:
    """Return how many processes, by the frames that each maps, map each page of a span.

    `together`: how many have all of their memory in common with this one, which counts.
    """
    table = FrameTable()
    for frames in sets:
        table.add(frames)
    # Entries, a mask, and the result.
    affordable((end - start) // PAGE_SIZE, 8 + 1 + 2)
    entries = np.empty((end - start) // PAGE_SIZE, np.uint64)
    read(process, start, entries)
    there = mask(entries, "present")
    frames = frame_numbers(entries[there])
    mapping = np.empty(len(frames), np.uint32)
    table.own(frames, mapping)
    found = np.zeros(len(entries), np.uint16)
    # An exclusive page of small ones is in no set.
    alone = mask(entries, "exclusive")[there] * np.uint32(together)
    found[there] = np.minimum(np.maximum(mapping, alone), 0xFFFF)
    return found
