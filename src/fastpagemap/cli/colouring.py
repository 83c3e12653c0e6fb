"""Read by what else than states ``fastpagemap map`` colours pages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.mapping import KERNEL_HALF
from fastpagemap.model.runs import RUN_DTYPE, Runs, State, has_any
from fastpagemap.pagemap import PageMap
from fastpagemap.report.schemes import joined
from fastpagemap.snapshot.snapshot import Snapshot

__all__ = ["read"]


#: Pages that are asked about at once.
WINDOW_PAGES = 1 << 16


def read(pid: int, by: str) -> tuple[Snapshot, Runs]:
    """Return a snapshot of a process, and runs of the node, the count or the order of its pages.

    Raises
    ------
    PermissionError
        This user may not know: counts and orders need CAP_SYS_ADMIN.
    """
    with PageMap(pid) as pagemap:
        snapshot = pagemap.snapshot()
        edges = np.array([mapping.start for mapping in snapshot.mappings], np.uint64)
        if by == "order":
            folios = pagemap.folios()
            runs = joined(folios["start"], folios["end"], folios["order"].astype(np.int64), edges)
            return snapshot, runs
        found = [np.empty(0, RUN_DTYPE)]
        for start, end in _windows(snapshot):
            starts = np.arange(start, end, PAGE_SIZE, dtype=np.uint64)
            if by == "node":
                values = pagemap.nodes(start, end).astype(np.int64)
            else:
                counts = pagemap.mapcounts(start, end).astype(np.int64)
                values = np.where(counts > 0, counts, -1)
            found.append(joined(starts, starts + np.uint64(PAGE_SIZE), values, edges))
        return snapshot, np.concatenate(found)


def _windows(snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Yield the spans within one mapping in which pages are present."""
    runs = snapshot.states[has_any(snapshot.states["state"], State.PRESENT)]
    for mapping in snapshot.mappings:
        at = mapping.start
        while at < min(mapping.end, KERNEL_HALF):
            index = np.searchsorted(runs["end"], np.uint64(at), "right")
            if index == len(runs) or runs["start"][index] >= mapping.end:
                break
            at = max(at, int(runs["start"][index]))
            end = min(at + WINDOW_PAGES * PAGE_SIZE, mapping.end)
            # Not beyond what is present there.
            last = int(np.searchsorted(runs["start"], np.uint64(end))) - 1
            yield at, min(end, int(runs["end"][last]))
            at = end
