"""The checks of a snapshot's file: it may come from a stranger."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.entry import Category
from ..model.errors import SnapshotError
from ..model.mapping import Mapping
from ..model.runs import RUN_DTYPE, Runs, State, has_any, runs_of
from ..process.capabilities import Capabilities

__all__ = ["need", "parse_mappings", "parse_metadata", "parse_runs"]

_PERMISSIONS = re.compile(r"[r-][w-][x-][sp]|\?{4}")
_SHORT_ASCII = re.compile(r"[ -~]{0,256}")


def need(good: bool, what: str) -> None:
    """Raise SnapshotError, naming what is wrong, unless `good`."""
    if not good:
        raise SnapshotError(
            f"a damaged or forged snapshot ({what}): get it once more from where it came from"
        )


# ---- metadata ----------------------------------------------------------------------------------


def parse_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a snapshot that its metadata gives."""
    metadata.setdefault("uid", None)  # older files have no uid
    need(metadata.keys() == _RULES.keys(), f"metadata {', '.join(map(repr, metadata))}"[:199])
    for name, good in _RULES.items():
        need(good(metadata[name]), f"{name} {metadata[name]!r}"[:99])
    found = dict(metadata["capabilities"])
    need(found.keys() == _CAPABILITIES, f"capabilities {', '.join(map(repr, found))}"[:199])
    names = found.pop("categories")
    known = isinstance(names, list) and all(
        isinstance(name, str) and name in Category.__members__ for name in names
    )
    need(known, f"categories {names!r}"[:99])
    categories = Category(0)
    for name in names:
        categories |= Category[name]
    need(found.pop("page_size") == metadata["page_size"], "two page sizes")
    for name, value in found.items():
        known = type(value) is bool or (value is None and name == "map_files")
        need(known, f"capabilities: {name} {value!r}"[:99])
    capabilities = Capabilities(page_size=metadata["page_size"], categories=categories, **found)
    return {**metadata, "time": float(metadata["time"]), "capabilities": capabilities}


def _is_text(value: Any) -> bool:
    """Return whether it is text as os.fsdecode gives it for a file name: without NUL."""
    return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")


def _is_short_ascii(value: Any) -> bool:
    return isinstance(value, str) and _SHORT_ASCII.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e11


def _is_page_size(value: Any) -> bool:
    return type(value) is int and 512 <= value <= 1 << 30 and not value & (value - 1)


_CAPABILITIES = {field.name for field in dataclasses.fields(Capabilities)}
_RULES: dict[str, Callable[[Any], bool]] = {
    "pid": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "name": _is_text,
    "command": lambda value: value is None or _is_text(value),
    "time": _is_time,
    "kernel": _is_short_ascii,
    "machine": _is_short_ascii,
    "page_size": _is_page_size,
    "soft_dirty": lambda value: type(value) is bool,
    "capabilities": lambda value: type(value) is dict,
    "uid": lambda value: value is None or (type(value) is int and 0 <= value < 1 << 32),
}


# ---- mappings and runs -------------------------------------------------------------------------


def parse_mappings(rows: npt.NDArray[np.void], raw: bytes, page: int) -> list[Mapping]:
    """Return the mappings with their paths; they must be sorted and disjoint."""
    starts, ends = rows["start"], rows["end"]
    aligned = not ((starts | ends) % np.uint64(page)).any()
    need(aligned and bool((starts < ends).all()), "mappings: their addresses")
    need(bool((starts[1:] >= ends[:-1]).all()), "mappings: their order")
    paths = raw.decode("utf-8", "surrogateescape").split("\0")
    need(paths.pop() == "" and len(paths) == len(rows), f"{len(paths)} paths for {len(rows)}")
    permissions = [value.decode("ascii") for value in rows["permissions"].tolist()]
    need(all(map(_PERMISSIONS.fullmatch, permissions)), "mappings: their permissions")
    columns = [rows[name].tolist() for name in ("start", "end", "offset", "device", "inode")]
    start, end, offset, device, inode = columns
    return list(map(Mapping, start, end, permissions, offset, device, inode, paths))


def parse_runs(
    arrays: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.void], fields: dict[str, Any]
) -> Runs:
    """Return the runs of some gaps, lengths and states; each must lie in one mapping."""
    gaps, lengths, states = (arrays[name] for name in ("gaps", "lengths", "states"))
    need(len(gaps) == len(lengths) == len(states), "runs: their number")
    if not len(gaps):
        return np.empty(0, RUN_DTYPE)
    page = np.uint64(fields["page_size"])
    pages = gaps.sum(dtype=np.float64) + lengths.sum(dtype=np.float64)
    need(float(pages) * float(page) < 2.0**64 - 2.0**13, "runs: their addresses")
    need(bool(lengths.all()), "runs of no page")
    ends = np.add(gaps, lengths, dtype=np.uint64)
    np.cumsum(ends, out=ends)
    ends *= page
    starts = ends - lengths * page
    # Runs are sorted by construction, so those of one mapping follow one another.
    firsts = np.searchsorted(starts, rows["start"])
    counts = np.diff(firsts, append=len(starts))
    some = counts > 0
    lasts = firsts[some] + counts[some] - 1
    inside = counts.sum() == len(starts) and bool((ends[lasts] <= rows["end"][some]).all())
    need(inside, "runs outside of the mappings")
    same = (gaps[1:] == 0) & (states[1:] == states[:-1])
    same[firsts[some][1:] - 1] = False
    need(not same.any(), "runs that are not joined")
    need(int(states.max()) < len(_POSSIBLE) and bool(_POSSIBLE[states].all()), "runs: their states")
    dirty = int(np.bitwise_or.reduce(states)) & State.SOFT_DIRTY
    need(fields["soft_dirty"] or not dirty, "soft-dirty runs of a kernel that has no such")
    return runs_of(starts, ends, states)


def _possible_states() -> npt.NDArray[np.bool_]:
    """Return which numbers are possible states of a page; 0 is not one."""
    states = np.arange(2 * int(State.SWAPPED_SHARED), dtype=np.uint64)

    absent, swapped = ~has_any(states, State.PRESENT), has_any(states, State.SWAPPED)
    possible: npt.NDArray[np.bool_] = states != 0
    of_present = State.SHARED | State.EXCLUSIVE | State.HUGE | State.ZERO
    possible &= ~(absent & has_any(states, of_present))
    possible &= absent | ~has_any(states, State.SWAPPED | State.UNKNOWN | State.GUARD)
    possible &= swapped | ~has_any(states, State.SWAPPED_SHARED)
    possible &= ~(swapped & has_any(states, State.UNKNOWN))
    return possible


_POSSIBLE = _possible_states()
