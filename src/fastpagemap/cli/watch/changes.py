"""What changed from one sample to the next, as runs; no I/O."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpagemap.cli.watch.area import View
from fastpagemap.model.runs import Runs, State, has_any, states_at

__all__ = ["clipped", "moved", "replaced"]

Column = npt.NDArray[np.uint64]


def moved(before: Runs, after: Runs) -> dict[str, int]:
    """Return how many bytes became present, swapped or soft-dirty from one sample to the next."""
    if np.array_equal(_words(before), _words(after)):
        return {"faulted_in": 0, "swapped_out": 0, "written": 0}
    # Sorted, not made unique: an edge that occurs twice only makes a part of size 0.
    edges = np.sort(np.concatenate([r[e] for r in (before, after) for e in ("start", "end")]))
    sizes = np.diff(edges)
    was, now = states_at(before, edges[:-1]), states_at(after, edges[:-1])

    new = now & ~was
    # In a new mapping, pages that were never touched are soft-dirty, too.
    touched = has_any(now, State.PRESENT | State.SWAPPED)

    def bytes_of(state: State) -> int:
        return int(sizes[has_any(new, state) & touched].sum())

    return {
        "faulted_in": bytes_of(State.PRESENT),
        "swapped_out": bytes_of(State.SWAPPED),
        "written": bytes_of(State.SOFT_DIRTY),
    }


def _words(runs: Runs) -> Column:
    """Return the runs as plain integers, which numpy compares faster."""
    return np.ascontiguousarray(runs).view(np.uint64)


def clipped(runs: Runs, view: View) -> Runs:
    """Return the part of the runs that is in a view."""
    low, high = np.uint64(view.start), np.uint64(view.end)
    some = runs[(runs["end"] > low) & (runs["start"] < high)]
    some["start"], some["end"] = some["start"].clip(low, high), some["end"].clip(low, high)
    return some


def replaced(runs: Runs, view: View, new: Runs) -> Runs:
    """Return the runs with those of a view replaced by new ones."""
    before, after = View(0, view.start), View(view.end, View().end)
    return np.concatenate([clipped(runs, before), new, clipped(runs, after)])
