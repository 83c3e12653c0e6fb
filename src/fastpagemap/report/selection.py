"""Which rows of a report are shown, and in which order."""

from __future__ import annotations

import errno
import fnmatch
import re
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fastpagemap.model.errors import UnsupportedError
from fastpagemap.report.members import GROUP_SIZES, MEMBER_SIZES, SHARER_SIZES
from fastpagemap.report.report import MORE_SIZES, SIZES, Report, grouped
from fastpagemap.report.text import ANON

# The columns of rows that are not sums of mappings, by what a row is.
_SIZES_OF = {"member": MEMBER_SIZES, "sharer": SHARER_SIZES}
#: All columns that rows may have: of mappings, of groups, of sharers.
COLUMNS = tuple(dict.fromkeys((*SIZES, *MORE_SIZES, *MEMBER_SIZES, *SHARER_SIZES)))

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgtpe]?)i?b?", re.IGNORECASE)
_FILTER = re.compile(r"([a-z_-]+)\s*(?:(>=|<=|=|>|<)\s*(.+))?")


class Filter(NamedTuple):
    """A condition on one column of sizes."""

    column: str
    comparison: str
    size: int

    def rows(self, report: Report) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return a mask of the rows that fulfil it."""
        sizes = column_of(report, self.column)
        compared = {
            ">": np.greater,
            ">=": np.greater_equal,
            "<": np.less,
            "<=": np.less_equal,
            "=": np.equal,
        }[self.comparison]
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = compared(sizes, np.uint64(self.size))
        return found


class Selection(NamedTuple):
    """Which rows are wanted, and how; see `select`."""

    group: str | None = None
    path: str | None = None
    filters: tuple[Filter, ...] = ()
    least: int = 0
    sort: str | None = None
    #: The columns that are shown; by default all there are.
    columns: tuple[str, ...] = ()

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
        least = ("size",) if self.least and not self.sort else ()
        return tuple(dict.fromkeys((*self.needed, *least)))

    def check(self, by: str) -> None:
        """Raise a ValueError if rows of this kind never have a column that is needed."""
        known = _SIZES_OF.get(by, SIZES + MORE_SIZES)
        if by == "member":
            known += GROUP_SIZES
        for name in self.needed:
            if name not in known:
                raise ValueError(f"there is no column '{name}' here; there are {', '.join(known)}")
            if by not in _SIZES_OF and name in MORE_SIZES and not self.columns:
                raise ValueError(f"{name} is filled only where --columns names it, too")


def parse_size(text: str) -> int:
    """Return the bytes of ``4096``, ``64K``, ``1.5Gi``: units are powers of 1024.

    Raises
    ------
    ValueError
        It is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    size = Fraction(-1)
    if match and len(match[1]) < 100:
        # exact: a float has 53 bits
        size = Fraction(match[1]) * 1024 ** " kmgtpe".index(match[2].lower() or " ")
    if not 0 <= size < 1 << 64:
        raise ValueError(f"'{text}' is no size: write bytes, or 64K, 10M, 1.5G")
    return int(size)


def parse_filter(text: str) -> Filter:
    """Return the condition of ``swapped``, ``swapped>0`` or ``size >= 10M``.

    Raises
    ------
    ValueError
        It is no condition, or its column does not exist.
    """
    match = _FILTER.fullmatch(text.strip().lower())
    column = match[1].replace("-", "_") if match else ""
    if match is None or column not in COLUMNS:
        raise ValueError(
            f"'{text}' is no filter: write a column, or a column, a comparison and a size "
            f"(swapped, size>=10M); the columns are {', '.join(COLUMNS)}"
        )
    return Filter(column, match[2] or ">", parse_size(match[3]) if match[3] else 0)


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of ``present,pss``.

    Raises
    ------
    ValueError
        One of them does not exist.
    """
    names = [name.strip().lower().replace("-", "_") for name in text.split(",")]
    known = *COLUMNS, *GROUP_SIZES
    for name in names:
        if name not in known:
            raise ValueError(f"there is no column '{name}'; the columns are {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a shell pattern, or contains a pattern without wildcards."""
    if any(char in pattern for char in "*?["):
        return fnmatch.fnmatchcase(text, pattern) or text == pattern
    return pattern in text


def column_of(report: Report, column: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return a column of sizes.

    Raises
    ------
    UnsupportedError
        The kernel could not fill it.
    """
    if column not in report.columns:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"there is no column {column} here ('fastpagemap doctor' says what this kernel lacks); "
            f"there are {', '.join(report.columns)}",
        )
    sizes: np.ndarray[tuple[int], np.dtype[np.uint64]] = report.usage[column]
    return sizes


def of_path(report: Report, pattern: str | None) -> Report:
    """Return the rows whose path (of processes: name) matches; all rows, if `pattern` is None."""
    label = next((name for name in ("path", "name") if name in report.labels), None)
    if pattern is None or label is None:
        return report
    shown = [text or (ANON if label == "path" else "") for text in report.labels[label]]
    return report.take(np.array([matches(pattern, text) for text in shown], bool))


def _main_column(report: Report) -> str:
    return _SIZES_OF.get(report.by, ("size",))[0]


def select(report: Report, wanted: Selection) -> Report:
    """Return the rows wanted, in the order wanted.

    The steps, in this order: choose the rows whose path (of processes: name) matches; sum them by
    group; keep those that pass all filters; keep those with at least `least` bytes in the column
    `sort`, or in ``size`` if there is no `sort` (of groups: ``rss``; of sharers: ``overlap``); sort
    by that column, the largest first.
    """
    report = of_path(report, wanted.path)
    if wanted.group and report.by != wanted.group:
        report = grouped(report, wanted.group)
    keep = np.ones(len(report), bool)
    for condition in wanted.filters:
        keep &= condition.rows(report)
    if wanted.least:
        keep &= column_of(report, wanted.sort or _main_column(report)) >= np.uint64(wanted.least)
    if not keep.all():
        report = report.take(keep)
    if wanted.sort:
        order = np.argsort(~column_of(report, wanted.sort), kind="stable")
        report = report.take(order)
    return _shown(report, wanted.columns)


def _shown(report: Report, columns: tuple[str, ...]) -> Report:
    """Return a report with some columns alone, if any are named."""
    if not columns:
        return report
    of_rows = [name for name in columns if name not in GROUP_SIZES]
    usage = np.zeros(len(report), [(name, np.uint64) for name in of_rows])
    for name in of_rows:
        usage[name] = column_of(report, name)
    return replace(report, usage=usage, shown=columns if report.by == "member" else ())
