"""The questions about a page, and the bits of its state that answer each. Pure: no I/O."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel import sinks
from .entry import output, values
from .runs import Addresses, State

__all__ = ["MARKER", "NEVER_SHARED", "QUESTIONS", "Mask", "Match", "States", "mask", "matching"]

Mask = npt.NDArray[np.bool_]
"""One bool a page."""
States = npt.NDArray[np.uint16]

# Internal states: a swap entry that is no swap, and write protection by userfaultfd.
MARKER = 1 << 10
_UFFD_WP = 1 << 11
NEVER_SHARED = 1 << 12
"""Of a plan: the pages are never SHARED, whatever entries say."""


class Match(NamedTuple):
    """The pages with ``(state & bits) == value``."""

    bits: int
    value: int


def _has(state: int) -> Match:
    return Match(int(state), int(state))


QUESTIONS = {
    "present": _has(State.PRESENT),
    "not_present": Match(int(State.PRESENT), 0),
    "empty": Match(int(State.PRESENT | State.SWAPPED) | MARKER, 0),
    "swapped": _has(State.SWAPPED),
    # What the page table alone tells.
    "swap_entry": _has(State.SWAPPED),
    "swapped_shared": _has(State.SWAPPED_SHARED),
    "unknown": _has(State.UNKNOWN),
    "shared": _has(State.SHARED),
    "exclusive": _has(State.EXCLUSIVE),
    # Mapped once for certain: the entry of a huge page does not tell that of all its pages.
    "alone": Match(
        int(State.PRESENT | State.EXCLUSIVE | State.HUGE), int(State.PRESENT | State.EXCLUSIVE)
    ),
    "soft_dirty": _has(State.SOFT_DIRTY),
    "uffd_wp": _has(_UFFD_WP),
    "guard": _has(State.GUARD),
    # The huge zero page does not count as one.
    "huge": Match(int(State.HUGE | State.ZERO), int(State.HUGE)),
    "zero": _has(State.PRESENT | State.ZERO),
}


def mask(entries: npt.NDArray[Any], question: str, out: Mask | None = None) -> Mask:
    """Return which entries answer a question with yes."""
    flat = values(entries)
    out = output(out, flat.shape, np.dtype(bool))
    sinks.mask(flat, out.view(np.uint8), *QUESTIONS[question])
    return out


def matching(states: States | Addresses, question: str) -> Mask:
    """Return which states answer a question with yes."""
    bits, value = QUESTIONS[question]
    found: Mask = (states & np.uint16(bits)) == np.uint16(value)
    return found
