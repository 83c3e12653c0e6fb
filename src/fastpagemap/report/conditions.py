"""Conditions on the rows of a report, as they are written on the command line."""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastpagemap.model.errors import UnsupportedError
from fastpagemap.report.members import GROUP_SIZES, MEMBER_SIZES, SHARER_SIZES
from fastpagemap.report.report import MORE_SIZES, SIZES, Report
from fastpagemap.report.text import ANON, human

__all__ = ["COLUMNS", "COUNTS", "SHOWN_COLUMNS", "SIZE_COLUMNS", "Filter", "column_of", "matches"]
__all__ += ["parse_column", "parse_columns", "parse_filter", "parse_least", "parse_size", "texts"]

#: All columns of sizes that rows may have: of mappings, of groups, of sharers.
SIZE_COLUMNS = tuple(dict.fromkeys((*SIZES, *MORE_SIZES, *MEMBER_SIZES, *SHARER_SIZES)))
#: What --columns may name: of a group's processes, also what only all of them together have.
SHOWN_COLUMNS = (*SIZE_COLUMNS, *GROUP_SIZES)
#: The other columns that rows may have, by what is in them.
COUNTS = ("threads", "mappings")
NUMBERS = (*COUNTS, "pid", "parent", "inode")
ADDRESSES = ("start", "end", "offset")
TEXTS = ("path", "kind", "permissions", "name", "user", "command")
COLUMNS = (*SIZE_COLUMNS, *NUMBERS, *ADDRESSES, *TEXTS)

# What ps, top and psutil call a column.
_ELSEWHERE = {"res": "present", **dict.fromkeys(("vsz", "virt", "vms", "vss"), "size")}

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgtpe]?)i?b?", re.IGNORECASE)
_FILTER = re.compile(r"([a-z_-]+)\s*(?:(>=|<=|=|>|<)\s*(.+))?", re.IGNORECASE | re.DOTALL)
_COMPARED = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "=": np.equal,
}

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Filter(NamedTuple):
    """A condition on one column: of a number, or of a text that is to match."""

    column: str
    comparison: str
    value: int | str

    def rows(self, report: Report) -> Mask:
        """Return a mask of the rows that fulfil it."""
        if isinstance(self.value, str):
            fits = [_is(text, self.value) for text in texts(report, self.column)]
            return np.array(fits, bool)
        found: Mask = _COMPARED[self.comparison](
            column_of(report, self.column), np.uint64(self.value)
        )
        return found

    def __str__(self) -> str:
        """Return it as it could be written."""
        value: Any = self.value
        if self.column in SIZE_COLUMNS:
            value = human(value)
        elif self.column in ADDRESSES:
            value = f"{value:x}"
        return f"{self.column}{self.comparison}{value}"


def _is(text: str, pattern: str) -> bool:
    return text == pattern or fnmatch.fnmatchcase(text, pattern)


def texts(report: Report, column: str) -> list[str]:
    """Return a column of texts as tables show them."""
    return [text or (ANON if column == "path" else "") for text in report.labels[column]]


def parse_size(text: str) -> int:
    """Return the bytes of ``4096``, ``64K``, ``1.5Gi``: units are powers of 1024.

    Raises
    ------
    ValueError
        It is no size.
    """
    from fractions import Fraction  # rarely needed

    match = _SIZE.fullmatch(text.strip())
    size = Fraction(-1)
    if match and len(match[1]) < 100:
        # exact: a float has 53 bits
        size = Fraction(match[1]) * 1024 ** " kmgtpe".index(match[2].lower() or " ")
    if not 0 <= size < 1 << 64:
        raise ValueError(f"'{text}' is no size: write bytes, or 64K, 10M, 1.5G")
    return int(size)


def parse_filter(text: str) -> Filter:
    """Return the condition of ``swapped``, ``size >= 10M``, ``threads=1`` or ``user=www*``.

    Raises
    ------
    ValueError
        It is no condition, or its column does not exist.
    """
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"'{text}' is no filter: write a column, or a column, a comparison and a value "
            f"(swapped, size>=10M, user=root); the columns are {', '.join(COLUMNS)}"
        )
    column = parse_column(match[1])
    comparison, value = match[2], match[3]
    if column in TEXTS:
        if comparison not in (None, "="):
            raise ValueError(f"'{text}' is no filter: {column} is a text, write {column}=PATTERN")
        return Filter(column, "=", value or "?*")
    return Filter(column, comparison or ">", _number(column, value) if value else 0)


def _number(column: str, text: str) -> int:
    if column in SIZE_COLUMNS:
        return parse_size(text)
    base = 16 if column in ADDRESSES else 10
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        kind = "address: write it in hexadecimal" if base == 16 else "number"
        raise ValueError(f"'{text}' is no {kind}, as {column} is")
    return value


def parse_least(text: str) -> tuple[str, int]:
    """Return the column and the size of ``present=1M``; the column is empty for ``1M``.

    Raises
    ------
    ValueError
        It is no size, or there is no such column of sizes.
    """
    before, equals, after = text.rpartition("=")
    column = parse_column(before, SIZE_COLUMNS) if equals else ""
    return column, parse_size(after)


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of ``present,pss``.

    Raises
    ------
    ValueError
        One of them does not exist.
    """
    return tuple(dict.fromkeys(parse_column(name, SHOWN_COLUMNS) for name in text.split(",")))


def parse_column(text: str, known: Sequence[str] = COLUMNS) -> str:
    """Return the column that a text names, as ``swapped_shared``, or ``Swapped-Shared``.

    Raises
    ------
    ValueError
        There is no such column.
    """
    name = text.strip().lower().replace("-", "_")
    if name in known:
        return name
    import difflib  # rarely needed

    similar = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in known else None
    similar = similar or difflib.get_close_matches(name, known, 1)
    what = "column of sizes" if known is SIZE_COLUMNS else "column"
    meant = f"did you mean '{similar[0]}'?" if similar else f"there are {', '.join(known)}"
    raise ValueError(f"there is no {what} '{text.strip()}'; {meant}")


def matches(pattern: str, text: str) -> bool:
    """Return whether a text matches a shell pattern, or contains a pattern without wildcards."""
    if any(char in pattern for char in "*?["):
        return fnmatch.fnmatchcase(text, pattern) or text == pattern
    return pattern in text


def column_of(report: Report, column: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return a column of sizes, or of other numbers.

    Raises
    ------
    UnsupportedError
        The kernel could not fill it, or a snapshot does not keep it.
    """
    if column in report.labels:
        return np.array(report.labels[column], np.uint64)
    if column not in report.columns:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"there is no column {column} here: a snapshot does not keep it, or this kernel cannot "
            f"fill it ('fastpagemap doctor' says why); there are {', '.join(report.columns)}",
        )
    sizes: np.ndarray[tuple[int], np.dtype[np.uint64]] = report.usage[column]
    return sizes
