"""What ``fastpagemap watch`` knows of a process, and how often it looks: no screen here.

Looking costs the one who looks, and a moment of the target's lock. So each kind of look has a
share of one processor's time, and the more a look took, the longer it is until the next one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.changes import clipped, moved, replaced
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.mapping import Mapping
from fastpagemap.model.runs import RUN_DTYPE, State
from fastpagemap.pagemap import PageMap
from fastpagemap.process.capabilities import soft_dirty
from fastpagemap.process.process import Process
from fastpagemap.snapshot.snapshot import Snapshot

__all__ = ["Live", "Pace", "Rates", "Sample", "Still"]

Runs = npt.NDArray[np.void]
Column = npt.NDArray[np.uint64]

#: Shares of one processor: for the sums of all mappings, and for the pages that are shown.
SUMS, PAGES = 0.003, 0.006


class Rates(NamedTuple):
    """What happened a second, since the last look; None where that is not known."""

    # faults of the whole process, by the kernel's count
    minor: float | None = None
    major: float | None = None
    # bytes of the pages that are shown
    faulted_in: float | None = None
    swapped_out: float | None = None
    written: float | None = None


NO_RATES = Rates()


@dataclass(frozen=True)
class Sample:
    """What is known of a process at a moment, each part as old as it says.

    Attributes
    ----------
    mappings : list of Mapping
        In address order.
    present, swapped : ndarray of uint64
        Bytes of each mapping.
    runs : ndarray of RUN_DTYPE
        The states of all pages that have been looked at.
    view : View
        What was looked at last, page by page.
    summed, seen : float
        When the sums, and the pages of the view, were read: seconds of the clock.
    rates : Rates
        Of the time before.
    ended : str
        Why there is nothing new to see any more; empty while there is.
    page_size : int
        Bytes per page.
    """

    mappings: list[Mapping]
    present: Column
    swapped: Column
    runs: Runs
    view: View
    summed: float
    seen: float
    rates: Rates = NO_RATES
    ended: str = ""
    page_size: int = PAGE_SIZE


class Pace:
    """When to look again: not before `interval`, nor before the last look was a `share` of it."""

    def __init__(self, interval: float, share: float) -> None:
        self.interval, self.share = interval, share
        self._next = -np.inf

    def due(self, now: float) -> bool:
        """Whether it is time."""
        return now >= self._next

    def hurry(self) -> None:
        """Look at the next occasion: something else is to be shown."""
        self._next = -np.inf

    def spent(self, began: float, cost: float) -> None:
        """Note when a look began, and what it cost, in seconds of a processor."""
        # ticks come at about the interval, never exactly: half of one is near enough
        self._next = began + max(self.interval / 2, cost / self.share - self.interval / 2)


class Live:
    """A process, looked at again and again.

    Parameters
    ----------
    pid : int
        The process.
    interval : float
        Seconds between looks, at least.
    dirty : bool
        Clear soft-dirty after each look, so that the next one tells what was written since.

    Raises
    ------
    OSError
        As ``PageMap``, and ``PageMap.clear_soft_dirty`` where that is wanted.
    """

    live = True

    def __init__(self, pid: int, interval: float = 1.0, *, dirty: bool = False) -> None:
        self._process = Process(pid)
        self._pagemap = PageMap(pid)
        self._process.check_alive()  # so that both are the same process, not two of one pid
        self.pid, self.name = pid, os.fsdecode(self._process.read("comm").rstrip(b"\n"))
        self.uid = self._process.uid()
        self.dirty, self.knows_written = dirty, soft_dirty()
        if dirty:
            self._pagemap.clear_soft_dirty()
        # what the kernel can is found out now, not at the cost of the first look
        self._pages_of(View(0, PAGE_SIZE))
        self._pagemap.usage([], fields=("present", "swapped"))
        self._sums, self._pages = Pace(interval, SUMS), Pace(interval, PAGES)
        self._faults = _Meter()
        self._sample: Sample | None = None
        self._began, self._spent = 0.0, 0.0

    def look(self, view: View) -> Sample:
        """Return what is known now, after looking at what it is time to look at."""
        if self._sample and self._sample.ended:
            return self._sample
        try:
            self._sample = self._look(view)
        except ProcessLookupError:
            if self._sample is None:
                raise
            nothing = Rates(0, 0, 0, 0, 0 if self._sample.rates.written is not None else None)
            self._sample = replace(self._sample, rates=nothing, ended="has ended, or called exec")
        return self._sample

    def also(self, cost: float) -> None:
        """Count as the last look's what was spent on its picture, in seconds of a processor."""
        self._spent += cost
        self._pages.spent(self._began, self._spent)

    def _look(self, view: View) -> Sample:
        now = time.monotonic()
        sample = self._sample or self._first()
        if self._sums.due(now):
            sample = self._sum_up(sample, now)
        if view != sample.view:
            self._pages.hurry()
        if self._pages.due(now):
            sample = self._look_at_pages(sample, view, now)
        minor, major = self._faults.rates(self._process.read("stat"), now)
        return replace(sample, rates=sample.rates._replace(minor=minor, major=major))

    def _first(self) -> Sample:
        none, runs = np.zeros(0, np.uint64), np.zeros(0, RUN_DTYPE)
        return Sample([], none, none, runs, View(0, 0), 0.0, 0.0)

    def _sum_up(self, sample: Sample, now: float) -> Sample:
        """Read the mappings and what the kernel tells cheaply of each."""
        began = time.thread_time()
        mappings = [m for m in self._pagemap.mappings() if m.start < View().end]
        usage = self._pagemap.usage(mappings, fields=("present", "swapped"))
        self._sums.spent(now, time.thread_time() - began)
        present, swapped = usage["present"], usage["swapped"]
        return replace(sample, mappings=mappings, present=present, swapped=swapped, summed=now)

    def _look_at_pages(self, sample: Sample, view: View, now: float) -> Sample:
        """Read the state of every page of a view; of all pages, the first time."""
        began = time.thread_time()
        first = not sample.seen
        if first or view == View():
            runs = whole = self._pagemap.states()
        else:
            runs = self._pages_of(view)
            whole = replaced(sample.runs, view, runs)
        if self.dirty:
            self._pagemap.clear_soft_dirty()
        rates = self._rates(sample, view, runs, now) if sample.view == view else NO_RATES
        self._began, self._spent = now, time.thread_time() - began
        self._pages.spent(self._began, self._spent)
        return replace(sample, runs=whole, view=view, seen=now, rates=rates)

    def _pages_of(self, view: View) -> Runs:
        """Return the states of the pages of a view, whatever is mapped there."""
        return self._pagemap.states([Mapping(*view, "----", 0, 0, 0, "")])

    def _rates(self, sample: Sample, view: View, runs: Runs, now: float) -> Rates:
        """Compare what is seen with what was seen before."""
        before = clipped(sample.runs, view)
        if self.dirty:  # they were all cleared
            before["state"] &= ~np.uint64(State.SOFT_DIRTY)
        seconds = max(now - sample.seen, 1e-3)
        found = {name: size / seconds for name, size in moved(before, runs).items()}
        if not self.knows_written:
            del found["written"]
        return Rates(**found)


class _Meter:
    """Makes rates of the faults that /proc/PID/stat counts."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def rates(self, stat: bytes, now: float) -> tuple[float | None, float | None]:
        """Return minor and major faults a second since the last call."""
        # the name may hold blanks and brackets: what counts is behind its last bracket
        fields = stat.rpartition(b")")[2].split()
        counted = now, int(fields[7]), int(fields[9])
        last, self._last = self._last, counted
        if last is None or now <= last[0]:
            return None, None
        seconds = now - last[0]
        return (counted[1] - last[1]) / seconds, (counted[2] - last[2]) / seconds


class Still:
    """A snapshot, which stays as it is."""

    live = dirty = knows_written = False

    def __init__(self, snapshot: Snapshot) -> None:
        self.pid, self.name, self.uid = snapshot.pid, snapshot.name, snapshot.uid
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(snapshot.time))
        self.about = f"of {when}, on Linux {snapshot.kernel} {snapshot.machine}"
        usage = snapshot.usage(("present", "swapped"))
        self._sample = Sample(
            snapshot.mappings,
            usage["present"],
            usage["swapped"],
            snapshot.states,
            View(),
            0.0,
            0.0,
            page_size=snapshot.page_size,
        )

    def look(self, view: View) -> Sample:
        """Return what is known, whatever the view."""
        return self._sample

    def also(self, cost: float) -> None:
        """Nothing is looked at: nothing has to wait."""
