"""Where on the screen an address is: spans put side by side, the gaps between them cut out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import Mapping

__all__ = ["Area", "View", "cell_pages"]

Addresses = npt.NDArray[np.uint64]
Runs = npt.NDArray[np.void]

#: Touched stretches that are closer to each other than this part of all that is touched are one.
_NEAR = 200
_FEWEST = 1 << 16  # bytes


class View(NamedTuple):
    """What is looked at: the addresses from `start` to `end`, whatever is mapped there."""

    start: int = 0
    end: int = 1 << 63  # the kernel's half is nobody's memory

    def holds(self, other: View) -> bool:
        """Whether all of another view is in this one."""
        return self.start <= other.start and other.end <= self.end


class Area:
    """Spans of addresses, sorted and apart, put side by side; an offset is a place among them.

    Parameters
    ----------
    starts, ends : array_like of int
        The spans.
    """

    def __init__(self, starts: Any, ends: Any) -> None:
        self.starts = np.asarray(starts, np.uint64)
        self.ends = np.asarray(ends, np.uint64)
        self.offsets = np.concatenate(([0], np.cumsum(self.ends - self.starts))).astype(np.uint64)

    @classmethod
    def of(cls, mappings: Sequence[Mapping], view: View) -> Self:
        """Return what of the mappings lies in a view."""
        spans = [(max(m.start, view.start), min(m.end, view.end)) for m in mappings]
        bounds = np.array([span for span in spans if span[0] < span[1]], np.uint64).reshape(-1, 2)
        return cls(bounds[:, 0], bounds[:, 1])

    @property
    def size(self) -> int:
        """How many bytes it has, the gaps left out."""
        return int(self.offsets[-1])

    def touched(self, runs: Runs) -> Self:
        """Return the part in which there is anything, short stretches of nothing included."""
        low, high = self._clipped(runs)
        at = np.searchsorted(self.starts, low, "right")
        gap = max(int((high - low).sum()) // _NEAR, _FEWEST)
        apart = (at[1:] != at[:-1]) | (low[1:] - high[:-1] > np.uint64(gap))
        first = np.concatenate(([True], apart))[: len(low)]
        last = np.concatenate((apart, [True]))[: len(low)]
        return type(self)(low[first], high[last])

    def placed(self, runs: Runs) -> Runs:
        """Return the runs with offsets in place of addresses; what is outside is cut off.

        No run may reach from one span into another: those of ``PageMap.states`` never do.
        """
        low, high = self._clipped(runs)
        at = np.searchsorted(self.starts, low, "right") - 1
        placed = np.empty(len(low), runs.dtype)
        placed["start"] = low - self.starts[at] + self.offsets[at]
        placed["end"] = high - self.starts[at] + self.offsets[at]
        placed["state"] = runs["state"][self._inside(runs)]
        return placed

    def address(self, offset: int) -> int:
        """Return which address is at an offset; beyond the last span, its end."""
        if not len(self.starts):
            return 0
        if offset >= self.size:
            return int(self.ends[-1])
        at = int(np.searchsorted(self.offsets, np.uint64(max(offset, 0)), "right")) - 1
        return int(self.starts[at]) + max(offset, 0) - int(self.offsets[at])

    def offset(self, address: int) -> int:
        """Return where an address is; that of the next span for one in a gap."""
        at = int(np.searchsorted(self.ends, np.uint64(address), "right"))
        if at == len(self.ends):
            return self.size
        return int(self.offsets[at]) + max(address - int(self.starts[at]), 0)

    def moved(self, view: View, size: float, shift: float, grain: int) -> View | None:
        """Return a view moved and made larger or smaller; None where it has all there is here.

        Parameters
        ----------
        view : View
            The view as it is.
        size, shift : float
            How large it is to be, and how far it is to go, as parts of its size.
        grain : int
            Bytes of which all is a multiple: a page.
        """
        low, high = self.offset(view.start), self.offset(view.end)
        length = max(round((high - low) * size / grain), 1) * grain
        middle = (low + high) / 2 + (high - low) * shift
        low = round((middle - length / 2) / grain) * grain
        low = max(min(low, self.size - length), 0)
        if length >= self.size:
            return None
        return View(self.address(low), self.address(low + length - 1) + 1)

    def _inside(self, runs: Runs) -> npt.NDArray[np.bool_]:
        """Return which runs have a part here."""
        if not len(self.starts):
            return np.zeros(len(runs), bool)
        # the first span that ends after the start of the run
        at = np.searchsorted(self.ends, runs["start"], "right")
        inside: npt.NDArray[np.bool_] = at < len(self.ends)
        inside &= self.starts[np.minimum(at, len(self.ends) - 1)] < runs["end"]
        return inside

    def _clipped(self, runs: Runs) -> tuple[Addresses, Addresses]:
        """Return starts and ends of what is here of the runs."""
        some = runs[self._inside(runs)]
        at = np.searchsorted(self.ends, some["start"], "right")
        return np.maximum(some["start"], self.starts[at]), np.minimum(some["end"], self.ends[at])


def cell_pages(pages: int, room: int) -> int:
    """Return how many pages a cell has, so that no more than `room` cells show `pages`.

    A power of two, or one and a half times one: the picture stays as it is while memory grows.
    """
    least = -(-pages // max(room, 1))
    power = 1 << max(least - 1, 0).bit_length()
    return power // 4 * 3 if power >= 4 and power // 4 * 3 >= least else max(power, 1)


_RANGE = re.compile(
    r"(?:0x)?(?P<start>[0-9a-f]+) *(?:- *(?:0x)?(?P<end>[0-9a-f]+)"
    r"|[+] *(?P<size>[0-9]+) *(?P<unit>[kmgt]?)(?:i?b)?i?)"
    r"|p *(?P<first>[0-9]+)(?: *- *(?P<last>[0-9]+))?",
    re.IGNORECASE,
)


def parse_range(text: str, area: Area, page_size: int) -> View:
    """Return the view that someone asked for, in whole pages.

    Parameters
    ----------
    text : str
        ``7f0000-7f8000``, addresses in hexadecimal; ``7f0000+1Mi``, one and a size; or ``p0-15``,
        the pages of `area` from number 0 to number 15.

    Raises
    ------
    ValueError
        It is none of these, or has no page.
    """
    wanted = _RANGE.fullmatch(text.strip())
    if not wanted:
        raise ValueError("a range is 7f0000-7f8000, 7f0000+64Ki, or p0-15: pages by number")
    if wanted["first"]:
        first, last = int(wanted["first"]), int(wanted["last"] or wanted["first"])
        if not first <= last < area.size // page_size:
            raise ValueError(f"the pages here are p0-{max(area.size // page_size - 1, 0)}")
        return View(area.address(first * page_size), area.address(last * page_size) + page_size)
    start = int(wanted["start"], 16)
    if wanted["size"]:
        end = start + (int(wanted["size"]) << 10 * " kmgt".index(wanted["unit"].lower() or " "))
    else:
        end = int(wanted["end"], 16)
    if not start < end <= View().end:
        raise ValueError(f"{start:x}-{end:x} has no page of a process in it")
    return View(start // page_size * page_size, -(-end // page_size) * page_size)
