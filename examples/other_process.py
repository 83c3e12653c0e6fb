"""How much memory another process accesses and writes: the way is chosen, and said."""

import contextlib
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from damon import Damon, Refused, Spans
from page_idle import PageIdle

import fastpagemap as fpm
from fastpagemap import State

Runs = npt.NDArray[Any]


def watching(stack: contextlib.ExitStack, pid: int, interval: float) -> Damon | PageIdle | None:
    """Return the best way that can be had to tell what a process accesses, and say which."""
    reasons = []
    for way in (PageIdle, Damon):
        try:
            found: Damon | PageIdle = stack.enter_context(way(pid, interval))
        except Refused as reason:
            reasons.append(f"\n  by {way.NAME}: {reason}")
        else:
            print(f"accessed: by {found.NAME}: {found.HOW}")
            return found
    print("accessed: not told", *reasons, sep="")
    return None


def tells_writes(may_clear: bool) -> bool:
    """Return whether what a process writes can be told, and say how."""
    told = fpm.capabilities().soft_dirty and may_clear
    if told:
        print("written: by soft-dirty bits: exact to the page or huge page; they are cleared")
    elif fpm.capabilities().soft_dirty:
        print("written: not told: it would clear the soft-dirty bits of the process: see --yes")
    else:
        print("written: not told: this kernel has no CONFIG_MEM_SOFT_DIRTY")
    return told


def other_process(pid: int, interval: float, count: int, may_clear: bool) -> None:
    """Print how much memory a process has, accesses and writes in each interval."""
    with contextlib.ExitStack() as stack:
        pagemap = stack.enter_context(fpm.PageMap(pid))
        way = watching(stack, pid, interval)
        clears = tells_writes(may_clear)
        if way is None and not clears:
            sys.exit(1)
        line("seconds", "present", "accessed", "written")
        for _ in range(count):
            began = time.monotonic()
            if clears:
                pagemap.clear_soft_dirty()
            spans = None
            if way is None:
                time.sleep(interval)
            else:
                spans = way.accessed()
            runs = pagemap.states()
            present = runs[(runs["state"] & State.PRESENT) != 0]
            # every page of a new mapping is dirty: those that were never touched do not count
            there = runs[(runs["state"] & (State.PRESENT | State.SWAPPED)) != 0]
            dirty = there[(there["state"] & State.SOFT_DIRTY) != 0]
            accessed = "-" if spans is None else mib(overlap(spans, present))
            sizes = (mib(size_of(present)), accessed, mib(size_of(dirty)) if clears else "-")
            line(f"{time.monotonic() - began:.1f}", *sizes)


def size_of(runs: Runs) -> int:
    """Return the bytes in runs."""
    return int((runs["end"] - runs["start"]).sum())


def overlap(spans: Spans, runs: Runs) -> int:
    """Return the bytes of runs that lie in spans; each is sorted and disjoint."""
    if not (spans and len(runs)):
        return 0
    sizes = runs["end"] - runs["start"]
    sums = np.cumsum(sizes)
    # the bytes of runs below each edge of one; below an address in between, as many in proportion
    edges = np.column_stack([runs["start"], runs["end"]]).ravel()
    below = np.column_stack([sums - sizes, sums]).ravel()
    low, high = np.array(spans).T
    return round((np.interp(high, edges, below) - np.interp(low, edges, below)).sum())


def mib(size: int) -> str:
    """Return a size as text."""
    return f"{size / 2**20:.1f} MiB"


def line(*cells: object) -> None:
    """Print a line of a table at once."""
    print("".join(f"{cell!s:>12}" for cell in cells), flush=True)
