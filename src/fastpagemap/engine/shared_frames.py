"""The frames that one process shares with any other, to be compared with those of many others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..model.entry import PAGE_SIZE
from ..process.frame_probes import page_mapcounts
from ..process.process import Process
from .frames import frames_and_counts, gather

__all__ = ["common", "shared_frames"]

Numbers = npt.NDArray[np.uint64]


def shared_frames(process: Process, counts: int) -> tuple[Numbers, int]:
    """Return the frames of a process that are mapped more than once, and what it maps, in bytes.

    Who gives one back meanwhile, and who takes it for itself, do not share it.

    Parameters
    ----------
    process : Process
    counts : int
        An open /proc/kpagecount.

    Returns
    -------
    tuple
        The frame numbers, sorted, and the distinct memory.
    """
    found = gather(process)
    ((frames, mapped),) = frames_and_counts([found], counts)
    # The average of a large folio may be 1, though some of its pages are shared.
    least = 2 if page_mapcounts() else 1
    pages = int(found.alone.sum()) + int(np.count_nonzero(mapped))
    return frames[mapped >= least], pages * PAGE_SIZE


def common(one: Numbers, other: Numbers) -> int:
    """Return how many bytes are in both of two sorted sets of frames."""
    few, many = sorted((one, other), key=len)
    at = np.searchsorted(many, few)
    at, few = at[at < len(many)], few[at < len(many)]
    return int(np.count_nonzero(many[at] == few)) * PAGE_SIZE
