"""Which rows of a report are shown, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastpagemap.report.conditions import COUNTS, SIZE_COLUMNS, Filter, column_of, matches, texts
from fastpagemap.report.members import GROUP_SIZES, MEMBER_SIZES, SHARER_SIZES
from fastpagemap.report.report import LABELS, MORE_SIZES, SIZES, Report, grouped

__all__ = ["MAIN", "Selection", "of_path", "select"]

# The columns of rows that are not sums of mappings, by what a row is.
_SIZES_OF = {"member": MEMBER_SIZES, "sharer": SHARER_SIZES}
#: The column that a size alone is about, by what a row is.
MAIN = {
    **dict.fromkeys(("mapping", "path", "kind"), "size"),
    "process": "present",
    "member": "rss",
    "sharer": "overlap",
}


class Selection(NamedTuple):
    """Which rows are wanted, and how; see `select`."""

    group: str | None = None
    path: str | None = None
    filters: tuple[Filter, ...] = ()
    sort: str | None = None
    #: The columns that are shown; by default all there are.
    columns: tuple[str, ...] = ()
    #: Of processes: only those of such names. `select` chooses among those looked at together.
    name: str | None = None
    #: How many rows are shown.
    limit: int | None = None
    #: Of all processes: only those of this user; they are chosen before they are read.
    user: str | None = None

    @property
    def only(self) -> list[str]:
        """What is wanted of rows, in words."""
        patterns = {"path": self.path, "name": self.name}
        found = [f"{label} like '{it}'" for label, it in patterns.items() if it is not None]
        found += [] if self.user is None else [f"user={self.user}"]
        return found + [str(condition) for condition in self.filters]

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that must be there."""
        names = [*self.columns, *(condition.column for condition in self.filters), self.sort]
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The columns to fill; None for those that cost little."""
        if not self.columns:
            return None
        return tuple(name for name in self.needed if name in SIZE_COLUMNS)

    def check(self, by: str) -> None:
        """Raise a ValueError if rows of this kind never have a column that is needed."""
        known = (*_SIZES_OF.get(by, SIZES + MORE_SIZES), *LABELS[by])
        if by == "member":
            known = (*known, *GROUP_SIZES)
        for name in self.needed:
            if name not in known:
                meant = ": rss is 'present' here" * (name == "rss" and "present" in known)
                there = f"there are {', '.join(known)}"
                raise ValueError(f"there is no column '{name}' here{meant}; {there}")
            if by not in _SIZES_OF and name in MORE_SIZES and not self.columns:
                raise ValueError(f"{name} is there only if --columns names it, too")


def of_path(report: Report, pattern: str | None) -> Report:
    """Return the rows whose path matches; all rows, if `pattern` is None or they have none."""
    if "path" not in report.labels:
        return report
    return _matching(report, pattern, "path")


def _matching(report: Report, pattern: str | None, *labels: str) -> Report:
    """Return the rows in which one of the texts matches."""
    if pattern is None:
        return report
    found = np.zeros(len(report), bool)
    for label in labels:
        found |= np.array([matches(pattern, text) for text in texts(report, label)], bool)
    return report.take(found)


def select(report: Report, wanted: Selection) -> Report:
    """Return the rows wanted, in the order wanted.

    The steps, in this order: choose the rows whose path (of a group's processes: name) matches; sum
    them by group; keep those that pass all filters; sort by a column, sizes and counts with the
    largest first; keep as many as are wanted.
    """
    # the last line of those that are counted together is about all of them
    whole = None if report.together is None else len(report)
    report = of_path(report, wanted.path)
    if report.by == "member":  # others are chosen before they are read
        report = _matching(report, wanted.name, "name", "command")
    if wanted.group and report.by != wanted.group:
        report = grouped(report, wanted.group)
    keep = np.ones(len(report), bool)
    for condition in wanted.filters:
        keep &= condition.rows(report)
    if not keep.all():
        report = report.take(keep)
    if wanted.only:
        report = replace(report, more={**report.more, "only": wanted.only})
    if wanted.sort:
        report = report.take(_order(report, wanted.sort))
    return _limited(_shown(report, wanted.columns), wanted.limit, whole)


def _order(report: Report, column: str) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the indices of rows in order. What only tells rows apart goes from small to large."""
    if column in report.labels and column not in COUNTS:
        values = report.labels[column]
        return np.array(sorted(range(len(values)), key=values.__getitem__), np.intp)
    return np.argsort(~column_of(report, column), kind="stable")


def _limited(report: Report, limit: int | None, whole: int | None) -> Report:
    """Return the first rows; the sizes of all together stay as they are, and say of how many."""
    whole = len(report) if whole is None else whole
    shown = report.take(slice(limit))
    if len(shown) == whole:
        return report
    together = report.together
    if together is None:
        together = {name: report.total(name) for name in report.columns}
    return replace(shown, together=together, more={**report.more, "of": whole})


def _shown(report: Report, columns: tuple[str, ...]) -> Report:
    """Return a report with some columns alone, if any are named."""
    if not columns:
        return report
    of_rows = [name for name in columns if name not in GROUP_SIZES]
    usage = np.zeros(len(report), [(name, np.uint64) for name in of_rows])
    for name in of_rows:
        usage[name] = column_of(report, name)
    return replace(report, usage=usage, shown=columns if report.by == "member" else ())
