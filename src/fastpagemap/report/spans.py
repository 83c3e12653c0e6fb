"""Spans: neighbouring mappings of one path; and the stretches of them that were never touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import KERNEL_HALF, Mapping
from fastpagemap.model.runs import Runs


class Span(NamedTuple):
    """Neighbouring mappings of one path."""

    start: int
    end: int
    path: str
    mappings: int

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.end - self.start


def spans_of(mappings: Sequence[Mapping]) -> list[Span]:
    """Join neighbouring mappings of the same path, such as the parts of a library."""
    spans: list[Span] = []
    for mapping in mappings:
        if mapping.start >= KERNEL_HALF:  # [vsyscall], whose pages cannot be read
            continue
        last = spans[-1] if spans else None
        if last and (last.end, last.path) == (mapping.start, mapping.path):
            spans[-1] = Span(last.start, mapping.end, last.path, last.mappings + 1)
        else:
            spans.append(Span(mapping.start, mapping.end, mapping.path, 1))
    return spans


class Holes(NamedTuple):
    """Stretches without a touched page: the index of the span, where each starts and ends."""

    span: npt.NDArray[np.intp]
    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]


def holes_of(bounds: npt.NDArray[np.uint64], touched: Runs) -> Holes:
    """Return all stretches of the spans that no run covers."""
    if not len(bounds):
        empty = np.empty(0, np.uint64)
        return Holes(np.empty(0, np.intp), empty, empty)
    owner = np.searchsorted(bounds[:, 0], touched["start"], "right") - 1
    mine = (owner >= 0) & (touched["end"] <= bounds[np.maximum(owner, 0), 1])
    owner, touched = owner[mine], touched[mine]
    # Each border of a span counts as a run of length 0. Where two spans touch, the end of the first
    # comes before the start of the second.
    number = np.arange(len(bounds))
    which = np.concatenate((number, number, owner))
    lows = np.concatenate((bounds[:, 1], bounds[:, 0], touched["start"]))
    highs = np.concatenate((bounds[:, 1], bounds[:, 0], touched["end"]))
    order = np.lexsort((highs, lows))
    which, lows, highs = which[order], lows[order], highs[order]
    holes = (lows[1:] > highs[:-1]) & (which[1:] == which[:-1])
    return Holes(which[1:][holes], highs[:-1][holes], lows[1:][holes])
