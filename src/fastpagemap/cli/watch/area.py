"""Where on the screen an address is: spans stand side by side, without the gaps between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import KERNEL_HALF, Mapping
from fastpagemap.model.runs import Addresses, Runs, close_gaps

__all__ = ["Area", "View", "cell_pages", "parse_place"]


#: A gap between touched stretches is shown if it is no longer than this part of all touched bytes,
#: or than MIN_GAP_BYTES.
_GAP_DIVISOR = 200
_MIN_GAP_BYTES = 1 << 16


class View(NamedTuple):
    """The addresses that are shown, from `start` to `end`, whatever is mapped there."""

    start: int = 0
    end: int = KERNEL_HALF  # no process can use the addresses beyond

    def holds(self, other: View) -> bool:
        """Return whether this view contains all of another one."""
        return self.start <= other.start and other.end <= self.end


class Area:
    """Sorted spans of addresses, side by side.

    An offset is a position in them, in bytes, that does not count the gaps.

    Parameters
    ----------
    starts, ends : array_like of int
        The spans, which must not overlap.
    """

    def __init__(self, starts: Any, ends: Any) -> None:
        self.starts = np.asarray(starts, np.uint64)
        self.ends = np.asarray(ends, np.uint64)
        self.offsets = np.concatenate(([0], np.cumsum(self.ends - self.starts))).astype(np.uint64)

    @classmethod
    def of(cls, mappings: Sequence[Mapping], view: View) -> Self:
        """Return the parts of the mappings that lie in a view."""
        spans = [(max(m.start, view.start), min(m.end, view.end)) for m in mappings]
        bounds = np.array([span for span in spans if span[0] < span[1]], np.uint64).reshape(-1, 2)
        return cls(bounds[:, 0], bounds[:, 1])

    @property
    def size(self) -> int:
        """Its bytes, without the gaps."""
        return int(self.offsets[-1])

    def touched(self, runs: Runs) -> Self:
        """Return the part that the runs cover, with the short gaps between them."""
        low, high = self._clipped(runs)
        gap = max(int((high - low).sum()) // _GAP_DIVISOR, _MIN_GAP_BYTES)
        return type(self)(*close_gaps(low, high, gap + 1, self.ends))

    def placed(self, runs: Runs) -> Runs:
        """Return the runs, clipped to this area, with offsets in place of addresses.

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
        """Return the address at an offset; beyond the last span, its end."""
        if not len(self.starts):
            return 0
        if offset >= self.size:
            return int(self.ends[-1])
        at = int(np.searchsorted(self.offsets, np.uint64(max(offset, 0)), "right")) - 1
        return int(self.starts[at]) + max(offset, 0) - int(self.offsets[at])

    def offset(self, address: int) -> int:
        """Return the offset of an address; in a gap, that of the next span."""
        at = int(np.searchsorted(self.ends, np.uint64(address), "right"))
        if at == len(self.ends):
            return self.size
        return int(self.offsets[at]) + max(address - int(self.starts[at]), 0)

    def moved(self, view: View, size: float, shift: float, grain: int) -> View | None:
        """Return a view, moved and resized; None if it would show all of this area.

        Parameters
        ----------
        view : View
            The view as it is.
        size, shift : float
            The new size, and the distance to move, both as multiples of the old size.
        grain : int
            Bytes per page; sizes and distances are rounded to it.
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
        """Return which runs overlap this area."""
        if not len(self.starts):
            return np.zeros(len(runs), bool)
        # the first span that ends after the start of the run
        at = np.searchsorted(self.ends, runs["start"], "right")
        inside: npt.NDArray[np.bool_] = at < len(self.ends)
        inside &= self.starts[np.minimum(at, len(self.ends) - 1)] < runs["end"]
        return inside

    def _clipped(self, runs: Runs) -> tuple[Addresses, Addresses]:
        """Return starts and ends of the runs, clipped to this area."""
        some = runs[self._inside(runs)]
        at = np.searchsorted(self.ends, some["start"], "right")
        return np.maximum(some["start"], self.starts[at]), np.minimum(some["end"], self.ends[at])


def cell_pages(pages: int, max_cells: int) -> int:
    """Return how many pages one cell shows, so that `max_cells` are enough for `pages`.

    It is a power of two, or 1.5 times one: so the picture rarely changes while memory grows.
    """
    least = -(-pages // max(max_cells, 1))
    power = 1 << max(least - 1, 0).bit_length()
    return power // 4 * 3 if power >= 4 and power // 4 * 3 >= least else max(power, 1)


_RANGE = re.compile(
    r"(?:0x)?(?P<start>[0-9a-f]+) *(?:- *(?:0x)?(?P<end>[0-9a-f]+)"
    r"|[+] *(?P<size>[0-9]+) *(?P<unit>[kmgt]?)(?:i?b)?i?)?"
    r"|p *(?P<first>[0-9]+)(?: *- *(?P<last>[0-9]+))?",
    re.IGNORECASE,
)


def parse_place(text: str, area: Area, page_size: int) -> View | int:
    """Return the view that a text describes, in whole pages, or the address that it is.

    Parameters
    ----------
    text : str
        ``7f0000-7f8000``, addresses in hexadecimal; ``7f0000+1Mi``, one and a size; ``p0-15``,
        the pages of `area` from number 0 to number 15; or ``7f0000``, an address alone.

    Raises
    ------
    ValueError
        It is none of these, or has no page.
    """
    wanted = _RANGE.fullmatch(text.strip())
    if not wanted:
        raise ValueError("write 7f0000, 7f0000-7f8000, 7f0000+64Ki, or p0-15: pages by number")
    if wanted["first"]:
        first, last = int(wanted["first"]), int(wanted["last"] or wanted["first"])
        if not first <= last < area.size // page_size:
            raise ValueError(f"the pages here are p0-{max(area.size // page_size - 1, 0)}")
        return View(area.address(first * page_size), area.address(last * page_size) + page_size)
    start = int(wanted["start"], 16)
    if wanted["size"]:
        end = start + (int(wanted["size"]) << 10 * " kmgt".index(wanted["unit"].lower() or " "))
    elif wanted["end"]:
        end = int(wanted["end"], 16)
    else:
        return start
    if not start < end <= View().end:
        raise ValueError(f"{start:x}-{end:x} has no page of a process in it")
    return View(start // page_size * page_size, -(-end // page_size) * page_size)
