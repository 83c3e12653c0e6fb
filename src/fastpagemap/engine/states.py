"""The state of every page of a process, as runs: found by a scan, read from the entries.

A scan tells where anything is, at no cost for what is not, and which pages are huge or the zero
page; the entries of what is there tell the rest, each page's bits of one instant. Shared memory is
looked up in its file, page by page, where anything on this machine is swapped.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from .._kernel import pagecache, scan
from ..model.entry import PAGE_SIZE, REGION_DTYPE, Category
from ..model.mapping import Mapping
from ..model.runs import (
    RUN_DTYPE,
    Addresses,
    Runs,
    Spans,
    State,
    batches,
    bounds,
    close_gaps,
    cut_at,
    in_spans,
    intersection,
    join_equal,
    runs_of,
    union,
)
from ..model.span import checked
from ..process.capabilities import categories
from ..process.mappings import mappings
from ..process.process import Process
from . import plans
from .shmem import SharedMemory
from .states_pages import Regions, read_runs

__all__ = ["states"]


# pages looked at together, less than twice as many
WINDOW = 1 << 15
# pages looked at first for whether any of them is anything
BLOCK = 512
# bytes between such blocks that cost less to read than to go round
NEAR = BLOCK * PAGE_SIZE
# bytes between mappings that cost less to scan than to go round
FAR = 1 << 26
# where the kernel's half of the address space begins
KERNEL = 1 << 63
_NO_REGIONS = np.empty(0, REGION_DTYPE)


def states(process: Process, spans: Iterable[Mapping] | None) -> Runs:
    """Return the runs of the mappings; see ``PageMap.states``."""
    with process.outlived():
        current = [mapping for mapping in mappings(process) if mapping.start < KERNEL]
        chosen = current if spans is None else list(spans)
        for span in chosen:
            checked(span.start, span.end)
        found = _looked_at(process, current, chosen)
        # what was scanned while the memory was torn down is not all of it
        process.check_alive()
    return _put_together(found, np.concatenate(bounds(chosen)))


def _looked_at(process: Process, current: list[Mapping], chosen: list[Mapping]) -> list[Runs]:
    """Return the runs of what is mapped now of the mappings chosen, part by part."""
    memory = SharedMemory(process)
    settled = _settled(memory, current)
    plain = [mapping for mapping in current if mapping not in settled]
    borders = np.unique(np.concatenate([*bounds(current), *bounds(chosen)]))
    area = union(*bounds(chosen))
    barriers = bounds(list(settled))[0]
    found = list(_plain(process, intersection(bounds(plain), area), barriers, borders))
    for mapping in settled:
        found += _shared(memory, mapping, intersection(bounds([mapping]), area), borders)
    return [_within(runs, area) for runs in found]


def _put_together(found: list[Runs], borders: Addresses) -> Runs:
    """Return all runs, sorted, and those joined that were looked at apart."""
    some = [runs for runs in found if len(runs)]
    if any(next_["start"][0] < runs["end"][-1] for runs, next_ in itertools.pairwise(some)):
        runs = np.concatenate(some)
        return join_equal(runs[np.argsort(runs["start"], kind="stable")], borders)
    # the rule, and then only the ends of what was looked at together are to be looked at again
    parts = [np.empty(0, RUN_DTYPE)]
    for runs in some:
        last, first = parts[-1][-1:], runs[:1]
        if len(join_equal(np.concatenate((last, first)), borders)) < len(last) + 1:
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
            return runs[in_spans(runs["start"], *area)]
    return runs


def _settled(memory: SharedMemory, current: list[Mapping]) -> dict[Mapping, None]:
    """Return the mappings whose files have to be asked."""
    if not pagecache.swap_in_use():
        return {}
    return {mapping: None for mapping in current if memory.holds(mapping)}


# ---- what is looked at -------------------------------------------------------------------------


def _plain(
    process: Process, area: Spans, barriers: Addresses, borders: Addresses
) -> Iterator[Runs]:
    """Yield the runs of what is no shared memory, or nothing of it is swapped."""
    area = close_gaps(*area, FAR, barriers)
    if not categories() or not len(area[0]):
        for starts, ends in batches(*area, WINDOW):
            yield read_runs(process, starts, ends, _NO_REGIONS, borders)
        return
    found = scan.extents(process.pagemap, process.path, *area, BLOCK)
    regions = np.frombuffer(found, REGION_DTYPE)
    extents = close_gaps(regions["start"], regions["end"], NEAR, barriers)
    if Category.SOFT_DIRTY in categories():
        yield _untouched(process, area, extents, borders)
    marked = _marked(process, extents)
    for starts, ends in batches(*extents, WINDOW):
        yield read_runs(process, starts, ends, marked, borders)


def _shared(
    memory: SharedMemory, mapping: Mapping, area: Spans, borders: Addresses
) -> Iterator[Runs]:
    """Yield the runs of a mapping of shared memory."""
    marked = _marked(memory.process, area) if categories() else _NO_REGIONS
    for window in _windows(memory, mapping, area):
        starts, ends = np.array([window], np.uint64).T
        yield read_runs(memory.process, starts, ends, marked, borders, (memory, mapping))


def _windows(memory: SharedMemory, mapping: Mapping, area: Spans) -> Iterator[tuple[int, int]]:
    """Yield the parts of shared memory of which the page table or the file has anything."""
    process = memory.process
    with memory.data(mapping) as next_data:
        if next_data is None or not categories():
            for batch in batches(*area, plans.WINDOW):
                yield from np.stack(batch, 1).tolist()
            return
        found = scan.extents(process.pagemap, process.path, *area, BLOCK)
        extents = np.frombuffer(found, REGION_DTYPE)
        for at, end in np.stack(area, 1).tolist():
            while at < end:
                number = np.searchsorted(extents["end"], np.uint64(at), "right")
                mapped = int(extents["start"][number]) if number < len(extents) else end
                at = max(at, min(mapped, next_data(at)))
                if at < end:
                    yield at, min(end, at + WINDOW * PAGE_SIZE)
                at += WINDOW * PAGE_SIZE


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
    runs = cut_at(runs, np.concatenate([borders, *extents]))
    return runs[~in_spans(runs["start"], *extents)]
