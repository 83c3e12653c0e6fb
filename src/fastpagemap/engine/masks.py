"""Fill the masks, the states and the entries of a span."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache, scan
from .._kernel.entries import read_small
from .._kernel.plan import Plan
from .._kernel.sinks import Sink
from .._kernel.walk import SMALL_PAGES
from ..model.entry import PAGE_SIZE, REGION_DTYPE, Category
from ..model.questions import Mask, States
from ..model.runs import State, has_any
from ..process.mappings import within
from ..process.probes import asks_again, categories, need_scan, soft_dirty
from ..process.process import Process
from .shmem import SwapUse
from .survey import RESOLVED, Segments, SpanList
from .table import SCANNED, Backing
from .walk import Walker, ask, new_sink, pages_of

__all__ = ["fill", "fill_states", "huge_zero", "read"]


# SpanList of fewer pages are read: to look up what is mapped there would cost more.
_MIN_LOOKUP_PAGES = 2048
# The end of the address space.
_END = 1 << 64


@asks_again
def fill(process: Process, start: int, end: int, masks: dict[str, Mask]) -> None:
    """Fill the masks of a span's pages; each is keyed by the question it answers."""
    for name in SCANNED.keys() & masks.keys():
        need_scan(SCANNED[name])
    if not (RESOLVED.isdisjoint(masks) or pagecache.swap_in_use()):
        # Nothing on this machine is swapped.
        for name in RESOLVED & masks.keys():
            masks[name].fill(False)
        masks = {name: mask for name, mask in masks.items() if name not in RESOLVED}
    if start == end or not masks:
        process.check_alive()
        return
    if end == _END:
        # The end does not fit 64 bits. Nothing is ever mapped on the last page.
        for mask in masks.values():
            mask[-1] = False
        fill(process, start, end - PAGE_SIZE, {name: mask[:-1] for name, mask in masks.items()})
        return
    sink = new_sink(tuple(masks), start, tuple(masks.values()))
    _fill(process, start, end, frozenset(masks), sink, lambda: masks["shared"].any())


@asks_again
def fill_states(
    process: Process, start: int, end: int, questions: frozenset[str], states: States
) -> None:
    """Fill the states of a span's pages, as far as the questions need them."""
    swap = SwapUse()
    sink = Sink((), start, states=states)
    _fill(process, start, end, questions, sink, lambda: has_any(states, State.SHARED).any())
    if swap.was_none():
        states &= ~np.uint16(int(State.SWAPPED))


def _fill(
    process: Process,
    start: int,
    end: int,
    questions: frozenset[str],
    sink: Sink,
    any_shared: Callable[[], np.bool_],
) -> None:
    """Put the answers to some questions about a span into a sink.

    `any_shared` returns whether the sink has a page that is shared.
    """
    small = end - start < _MIN_LOOKUP_PAGES * PAGE_SIZE and not _needs_backing(questions)
    resolving = not questions.isdisjoint(RESOLVED) and pagecache.swap_in_use()
    if small and not (resolving and within(process, start, end, files=True)):
        read_small(process.pagemap, process.path, start, end, sink)
        # Shared memory may have been mapped there before the entries were read. And before Linux
        # 6.7 only the mapping tells the huge zero page from pages of files.
        if not (
            (resolving and within(process, start, end, files=True))
            or (not categories() and "shared" in questions and any_shared())
        ):
            return

    def put(walker: Walker, segments: Segments, spans: SpanList | None) -> None:
        for low, high in _gaps(segments, spans or ()):
            sink.clear(low, high)
        walker.walk(segments, sink)

    ask(process, [(start, end)], questions, put)


def _needs_backing(questions: frozenset[str]) -> bool:
    """Return whether a question needs more than entries: a scan, or what backs a mapping.

    Hugetlb pages have no soft-dirty bits.
    """
    return not questions.isdisjoint(SCANNED) or ("soft_dirty" in questions and soft_dirty())


def _gaps(segments: Segments, spans: SpanList) -> Iterator[tuple[int, int]]:
    """Yield the parts of the spans, sorted and disjoint, that no segment covers."""
    found = zip(segments.starts.tolist(), segments.ends.tolist(), strict=True)
    mapped = next(found, None)
    for span in spans:
        at, end = span[:2]
        while mapped is not None and mapped[0] < end:
            if at < mapped[0]:
                yield at, mapped[0]
            at = mapped[1]
            mapped = next(found, None)
        if at < end:
            yield at, end


@asks_again
def huge_zero(process: Process, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of a span where a page with FILE in its entry can only be the huge zero one.

    A scan tells it. Before Linux 6.7, which has none, these are the parts without any file.
    """
    if not categories():
        found = [mapping for mapping in within(process, start, end) if mapping.anonymous]
        return [(max(start, mapping.start), min(end, mapping.end)) for mapping in found]
    asked = Category.HUGE | Category.PFNZERO
    starts, ends = np.array([[start], [end]], np.uint64)
    regions = scan.regions(process.pagemap, process.path, starts, ends, asked, 0, 0, asked)
    return [row[:2] for row in np.frombuffer(regions, REGION_DTYPE).tolist()]


@functools.cache
def _populated_plan(told: Category) -> Plan:
    """Return the plan that reads every entry that is not 0, by what a scan tells."""
    told &= Category.PRESENT | Category.SWAPPED | Category.SOFT_DIRTY
    if soft_dirty() and Category.SOFT_DIRTY not in told:  # Linux 6.7.0: a scan would not tell it
        told = Category(0)
    verified = tuple((int(category), int(category)) for category in told)
    return Plan(scan=bool(told), anyof=int(told), returns=int(told), verified=verified)


@asks_again
def read(process: Process, start: int, entries: npt.NDArray[np.uint64]) -> None:
    """Read one entry a page from `start` on; where a scan shows nothing, entries are 0."""
    if len(entries) < SMALL_PAGES:
        if len(entries):
            process.read_entries(start, entries)
        return
    end = start + len(entries) * PAGE_SIZE
    if end == _END:
        entries[-1] = 0
        read(process, start, entries[:-1])
        return
    sink = Sink((), start, entries=entries)

    def put(walker: Walker, segments: Segments, spans: SpanList | None) -> None:
        for low, high in _gaps(segments, spans or ()):
            entries[pages_of(start, low, high)] = 0
        walker.plans = (_populated_plan(categories()),) * len(Backing)
        walker.walk(segments, sink)

    ask(process, [(start, end)], frozenset(), put)
