"""What a snapshot answers: how much of each mapping was present, and the state of each page."""

import errno
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..engine.usage import COLUMNS, checked_rows, listed_names
from ..model.errors import UnsupportedError
from ..model.kinds import LABELS, kinds, labelled
from ..model.mapping import Mapping
from ..model.runs import State, bounds, bytes_within, has_any
from ..process.limits import output
from .data import SnapshotData

__all__ = ["state", "usage"]


def usage(
    snapshot: SnapshotData, mappings: Iterable[Mapping] | None, fields: Iterable[str] | None
) -> npt.NDArray[np.void]:
    """Return one row for each mapping; see ``Snapshot.usage``."""
    chosen = None if mappings is None else checked_rows(mappings, snapshot.page_size)
    rows = snapshot.mappings if chosen is None else chosen
    names = listed_names(fields)
    if names is None or not any(name in LABELS for name in names):
        return _sizes(snapshot, rows, names)
    sizes = _sizes(snapshot, rows, [name for name in names if name not in LABELS])
    return labelled(names, rows, sizes, lambda: kinds(rows, among=snapshot.mappings))


def _sizes(
    snapshot: SnapshotData, rows: list[Mapping], fields: list[str] | None
) -> npt.NDArray[np.void]:
    """Return the columns of sizes."""
    names = _columns(snapshot, fields)
    table = np.zeros(len(rows), [(name, np.uint64) for name in names])
    starts, ends = bounds(rows)
    sizes = ends - starts
    for name in names:
        if name in ("start", "end", "size"):
            table[name] = {"start": starts, "end": ends, "size": sizes}[name]
            continue
        runs = snapshot.states[_counted(snapshot, name)]
        table[name] = bytes_within(starts, sizes, runs["start"], runs["end"])
    return table


def _counted(snapshot: SnapshotData, column: str) -> npt.NDArray[np.bool_]:
    """Return which runs a column counts."""
    counted = has_any(snapshot.states["state"], State[column.upper()])
    if column == "huge":  # the huge zero page does not count as one
        counted &= ~has_any(snapshot.states["state"], State.ZERO)
    return counted


def _columns(snapshot: SnapshotData, fields: list[str] | None) -> list[str]:
    scans = snapshot.capabilities.scan
    lacking = {"soft_dirty": snapshot.soft_dirty, "huge": scans, "zero": scans}
    if fields is None:
        return [name for name in COLUMNS if lacking.get(name, True)]
    for name in fields:
        if name not in COLUMNS:
            raise ValueError(f"no column {name!r}: there are {', '.join(COLUMNS + LABELS)}")
        if not lacking.get(name, True):
            raise UnsupportedError(
                errno.EOPNOTSUPP, f"{name} was not known where this snapshot was taken"
            )
    return fields


def state(
    snapshot: SnapshotData,
    start: int,
    end: int,
    count: int,
    out: npt.NDArray[np.uint64] | None,
) -> npt.NDArray[np.uint64]:
    """Return the state of each page of a checked span; see ``Snapshot.state``."""
    states = output(out, (count,), np.dtype(np.uint64))
    states.fill(0)
    runs, page_size = snapshot.states, snapshot.page_size
    first = np.searchsorted(runs["end"], np.uint64(start), "right")
    last = len(runs) if end == 1 << 64 else np.searchsorted(runs["start"], np.uint64(end))
    some, base = runs[first:last], start // page_size
    lows = (some["start"] // np.uint64(page_size)).astype(np.int64) - base
    ends = (some["end"] // np.uint64(page_size)).astype(np.int64) - base
    for low, high, value in zip(
        np.maximum(lows, 0).tolist(), ends.tolist(), some["state"].tolist(), strict=True
    ):
        states[low:high] = value
    return states
