"""How many bytes of a whole process are present, swapped, shared and so on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..process.process import Process
from .cached import CACHE_COLUMNS
from .shares import SHARE_COLUMNS
from .usage import COLUMNS, fillable, listed_names, usage

__all__ = ["SUMMED", "Sums", "summed_columns", "sums_of"]

SUMMED = tuple(name for name in COLUMNS if name not in ("start", "end"))
"""The columns of usage that make sense as a sum, without those that cost more."""


class Sums(NamedTuple):
    """How many mappings a process has, and the sum of each column over them, in bytes."""

    mappings: int
    sizes: list[int]


def summed_columns(fields: Iterable[str] | None) -> tuple[str, ...]:
    """Return the columns to sum, by default all of `SUMMED` that this kernel can fill.

    Raises
    ------
    ValueError
        There is no such column.
    UnsupportedError
        This kernel cannot fill it.
    """
    names = listed_names(fields)
    known = (*SUMMED, *SHARE_COLUMNS, *CACHE_COLUMNS)
    for name in names or ():
        if name not in known:
            raise ValueError(f"no column {name!r}: of a process there are {', '.join(known)}")
    return tuple(name for name in fillable(names) if name in known)


def sums_of(process: Process, columns: tuple[str, ...]) -> Sums:
    """Return the sums of some columns over all mappings of a process."""
    rows = usage(process, None, columns)
    return Sums(len(rows), [int(rows[name].sum()) for name in columns])
