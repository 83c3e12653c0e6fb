"""What each mapping of a recording had at equal steps of time, and what changed in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import Mapping
from fastpagemap.report import palette
from fastpagemap.report.replay import SIZES, History, Span

__all__ = ["CHANGES", "Row", "Timeline", "timeline"]

#: What is marked where it changed in a step.
CHANGES = ("swapped_out", "swapped_in", "touched", "written")
#: So many times the usual time between readings is still no gap in a recording.
_GAP_FACTOR = 3
#: A change is marked from this part of the most that the row ever had on.
_LEAST_CHANGE = 0.01


@dataclass
class Row:
    """Neighbouring mappings of one path, or all that have no row of their own.

    Attributes
    ----------
    start : int or None
        Its address; None of all the others.
    path : str
    mappings : int
    amounts : ndarray, shape (steps, display states)
        Bytes of each state at the end of each step.
    changed : dict of str to ndarray of bool
        By `CHANGES`, in which steps there is a mark.
    """

    start: int | None
    path: str
    mappings: int
    amounts: npt.NDArray[np.float64]
    changed: dict[str, npt.NDArray[np.bool_]]

    @property
    def most(self) -> float:
        """The most that was touched, in bytes."""
        return float(self.amounts[:, :-1].sum(axis=1).max(initial=0))


@dataclass
class Timeline:
    """Rows over time; `ends` are the ends of the steps, by the uptime, and `begin` is their start.

    `recorded` says which steps the recording covers.
    """

    begin: float
    ends: npt.NDArray[np.float64]
    recorded: npt.NDArray[np.bool_]
    rows: list[Row]


def timeline(history: History, chosen: Sequence[Mapping], steps: int, max_rows: int) -> Timeline:
    """Return the rows of some of the mappings, in the order of their addresses.

    Those of which nothing was ever touched have none.

    Parameters
    ----------
    history : History
    chosen : sequence of Mapping
        Of ``history.mappings``.
    steps : int
        How many of equal length there are.
    max_rows : int
        If there would be more, those in which least was touched are one, the last.
    """
    begin = history.spans[0].first
    end = max(span.last for span in history.spans)
    step = max(end - begin, 1.0) / steps
    ends = begin + step * np.arange(1, steps + 1, dtype=np.float64)
    ends[-1] = max(end, ends[-1])  # rounded
    recorded = _recorded(history.spans, ends, step)
    # within rounding the last reading is in the last step
    step_of = np.minimum(np.searchsorted(ends, history.uptime, "left"), steps - 1)
    amounts = _amounts(history, step_of, ends)
    changes = _changes(history, step_of, steps)
    wanted = set(chosen)
    groups = _grouped([m if m in wanted else None for m in history.mappings])
    rows = [_row(history, group, amounts, changes) for group in groups]
    rows = [row for row in rows if row.most]
    return Timeline(begin, ends, recorded, _fewer(rows, max_rows))


def _recorded(
    spans: list[Span], ends: npt.NDArray[np.float64], step: float
) -> npt.NDArray[np.bool_]:
    """Return which steps are covered by a file, or lie in between two of them as readings do."""
    between = [after.first - before.last for before, after in pairwise(spans)]
    readings = sum(max(span.readings - 1, 0) for span in spans)
    inside = sum(span.last - span.first for span in spans)
    usual = inside / readings if readings else float(np.median(between or [0.0]))
    found = np.zeros(len(ends), bool)
    for span, gap in zip(spans, [*between, 0.0], strict=True):
        more = gap if gap <= _GAP_FACTOR * usual else 0.0
        found |= (ends >= span.first) & (ends - step <= span.last + more)
    return found


def _amounts(
    history: History, step_of: npt.NDArray[np.intp], ends: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the bytes of each display state, of each mapping at the end of each step."""
    steps = len(ends)
    latest = np.full((len(history.mappings), steps), -1, np.intp)
    # rows stand in the order of time: the greatest index is the newest row
    np.maximum.at(latest, (history.mapping, step_of), np.arange(len(step_of)))
    for span in history.spans:  # each begins with all that is mapped: others are gone
        at = min(int(np.searchsorted(ends, span.first, "left")), steps - 1)
        first = int(np.searchsorted(history.uptime, span.first, "left"))
        missing = latest[:, at] < first
        latest[missing, at] = len(step_of)  # a row of zeros, put last
    latest = _carried(latest, len(step_of))
    sizes = {name: np.append(history.sizes[name], [0, 0])[latest] for name in SIZES}
    return _states(sizes)


def _carried(latest: npt.NDArray[np.intp], gone: int) -> npt.NDArray[np.intp]:
    """Carry each row on to the steps in which the mapping had no new one; -1 and `gone`: zeros."""
    steps = latest.shape[1]
    at = np.where(latest >= 0, np.arange(steps), 0)
    at = np.maximum.accumulate(at, axis=1)
    carried = np.take_along_axis(latest, at, axis=1)
    return np.where(carried < 0, gone, carried)


def _states(sizes: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    anonymous = sizes["present"] - sizes["shared"] - sizes["zero"]
    found = {
        "anonymous": anonymous,
        "shared": sizes["shared"],
        "zero": sizes["zero"],
        "swapped_anonymous": sizes["swapped"] - sizes["swapped_shared"],
        "swapped_shared": sizes["swapped_shared"],
        "unknown": sizes["unknown"],
    }
    table = np.zeros((*sizes["size"].shape, len(palette.KEYS)))
    for key, amount in found.items():
        table[..., palette.KEYS.index(key)] = np.maximum(amount, 0)
    table[..., palette.UNTOUCHED] = np.maximum(sizes["size"] - table.sum(axis=-1), 0)
    return table


def _changes(
    history: History, step_of: npt.NDArray[np.intp], steps: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the bytes that each mapping gained in each step, from one of its rows to the next."""
    found = {what: np.zeros((len(history.mappings), steps)) for what in CHANGES}
    order = np.argsort(history.mapping, kind="stable")
    same = history.mapping[order][1:] == history.mapping[order][:-1]
    after, before = order[1:][same], order[:-1][same]
    grew = {
        name: history.sizes[name][after] - history.sizes[name][before]
        for name in ("present", "swapped", "soft_dirty")
    }
    back = np.minimum(np.maximum(-grew["swapped"], 0), np.maximum(grew["present"], 0))
    gained = {
        "swapped_out": grew["swapped"],
        "swapped_in": back,
        "touched": grew["present"] - back,
        "written": grew["soft_dirty"],
    }
    for what, amount in gained.items():
        place = history.mapping[after], step_of[after]
        np.add.at(found[what], place, np.maximum(amount, 0))
    return found


def _grouped(mappings: Sequence[Mapping | None]) -> list[list[int]]:
    """Return the indices of neighbours that have the same path, together."""
    groups: list[list[int]] = []
    end, path = -1, ""
    for index, mapping in enumerate(mappings):
        if mapping is None:
            continue
        if groups and mapping.start <= end and mapping.path == path:
            groups[-1].append(index)
        else:
            groups.append([index])
            end = -1
        end, path = max(end, mapping.end), mapping.path
    return groups


def _row(
    history: History,
    group: list[int],
    amounts: npt.NDArray[np.float64],
    changes: dict[str, npt.NDArray[np.float64]],
) -> Row:
    mapping = history.mappings[group[0]]
    row = Row(mapping.start, mapping.path, len(group), amounts[group].sum(axis=0), {})
    least = max(row.most * _LEAST_CHANGE, 1)
    row.changed = {what: gained[group].sum(axis=0) >= least for what, gained in changes.items()}
    return row


def _fewer(rows: list[Row], max_rows: int) -> list[Row]:
    """Have one row for those in which least was touched, if there are too many."""
    if len(rows) <= max_rows:
        return rows
    order = sorted(range(len(rows)), key=lambda index: -rows[index].most)
    kept, rest = sorted(order[: max_rows - 1]), [rows[index] for index in order[max_rows - 1 :]]
    amounts = np.sum([row.amounts for row in rest], axis=0)
    changed = {what: np.any([row.changed[what] for row in rest], axis=0) for what in CHANGES}
    others = Row(None, "", sum(row.mappings for row in rest), amounts, changed)
    return [*(rows[index] for index in kept), others]
