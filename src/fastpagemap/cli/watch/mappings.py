"""The list of mappings of ``fastpagemap watch``, to move through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpagemap.cli.watch.columns import SIZE_COLUMNS
from fastpagemap.cli.watch.listing import Listing, Rows
from fastpagemap.cli.watch.sampling import DEFAULT_FIELDS, Sample
from fastpagemap.model.mapping import Mapping
from fastpagemap.report.text import ANON, ending, plural

__all__ = ["Mappings"]


class Mappings(Listing):
    """The mappings to move through; the first row is the whole process, which is None."""

    FIRST = "start        perm"
    FIRST_WIDTH = 17
    PINNED = 1
    COLUMNS = SIZE_COLUMNS

    def __init__(self, id: str) -> None:
        super().__init__(id, DEFAULT_FIELDS)
        self._put: tuple[float, Sequence[str]] | None = None

    def show(self, sample: Sample) -> None:
        """Show new mappings or sizes."""
        names = sample.usage.dtype.names or ()
        if self._put == (sample.summed, names):
            return
        self._put = sample.summed, names
        numbers = {}
        for name in names:
            numbers[name] = np.concatenate(([sample.usage[name].sum()], sample.usage[name]))
        self.put(Rows([None, *sample.mappings], numbers))

    def identity(self, item: Any) -> Any:
        """Return where a mapping begins."""
        return item and item.start

    def words(self, item: Mapping | None) -> str:
        """Return the path."""
        return "" if item is None else item.path or ANON

    def first(self, item: Mapping | None) -> str:
        """Return the address and the permissions."""
        return f"{item.start:012x} {item.permissions}" if item else "whole process"

    def last_head(self, width: int) -> str:
        """Return what the text is, however wide."""
        return "path"

    def last(self, item: Mapping | None, width: int) -> str:
        """Return the path, or of the whole process how many mappings there are."""
        if item:
            return ending(self.words(item), width)
        count = len(self.items) - 1
        return f"{count} {plural(count, 'mapping')}"
