"""Cut a span into parts that are answered one after the other: with many pages, or with few.

A part with many pages costs least with a state for each; one with few, however large, with runs of
states.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..model.entry import PAGE_SIZE
from ..model.runs import Addresses, Spans, close_gaps

__all__ = ["WINDOW_PAGES", "Part", "cut", "windows"]

WINDOW_PAGES = 1 << 18
"""Pages of the largest part with many pages."""
# A smaller one costs more than runs.
_MIN_WINDOW_PAGES = 1 << 13


class Part(NamedTuple):
    """A part of a span; `many`: it has many pages."""

    start: int
    end: int
    many: bool


def cut(start: int, end: int, populated: Spans, borders: Addresses, max_gap: int) -> Iterator[Part]:
    """Cut a span into parts, in order.

    Parameters
    ----------
    start, end : int
        The span.
    populated : tuple of ndarray
        Where pages are, as sorted and disjoint spans.
    borders : ndarray of uint64
        Where parts with few pages are cut, sorted: so that none has too many runs.
    max_gap : int
        A smaller gap, in bytes, may be within a part with many pages.
    """
    lows, highs = close_gaps(*populated, max_gap, borders[:0])
    many = highs - lows >= np.uint64(_MIN_WINDOW_PAGES * PAGE_SIZE)
    for low, high in zip(lows[many].tolist(), highs[many].tolist(), strict=True):
        yield from _rest(start, low, borders)
        yield from windows(low, high)
        start = high
    yield from _rest(start, end, borders)


def windows(start: int, end: int) -> Iterator[Part]:
    """Yield the parts of a span that has many pages all over."""
    size = WINDOW_PAGES * PAGE_SIZE
    for at in range(start, end, size):
        yield Part(at, min(at + size, end), True)


def _rest(start: int, end: int, borders: Addresses) -> Iterator[Part]:
    """Yield the parts of a span with few pages, cut at borders."""
    inside = borders[(borders > start) & (borders < end)].tolist()
    for low, high in itertools.pairwise([start, *inside, end]):
        if low < high:
            yield Part(low, high, False)
