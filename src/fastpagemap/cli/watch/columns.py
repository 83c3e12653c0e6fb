"""The columns of numbers that the lists of the full-screen views have; no screen here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastpagemap.engine.shares import SHARE_COLUMNS
from fastpagemap.report.report import SIZES
from fastpagemap.report.text import human

__all__ = ["SIZE_COLUMNS", "Column", "fitting"]


class Column(NamedTuple):
    """A column of numbers."""

    name: str
    head: str
    text: Callable[[Any], str]
    width: int = 7


#: Columns of ``PageMap.usage``, in bytes.
SIZE_COLUMNS = tuple(
    Column(name, name, human, max(len(name) + 1, 6)) for name in (*SIZES, *SHARE_COLUMNS)
)


def fitting(columns: Sequence[Column], width: int, order: str) -> list[Column]:
    """Return the first columns, as many as fit the width, and the one that orders the rows.

    Without that one, they would seem to be in no order.
    """
    ends = itertools.accumulate(1 + column.width for column in columns)
    found = list(columns[: sum(end <= width for end in ends)])
    last = next((column for column in columns if column.name == order), None)
    if last is None or last in found:
        return found
    return [*fitting(columns, width - 1 - last.width, ""), last]
