"""The columns of numbers that the lists of the full-screen views have; no screen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastpagemap.engine.shares import SHARE_COLUMNS
from fastpagemap.report.report import SIZES
from fastpagemap.report.text import human

__all__ = ["SIZE_COLUMNS", "Column"]


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
