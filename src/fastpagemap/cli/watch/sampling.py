"""Samples of a process for ``fastpagemap watch``, and how often they are taken; no screen here.

A sample costs processor time, and holds the target's lock for a moment. So each kind of sample has
a share of one processor's time: the more a sample cost, the later the next one is taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.changes import clipped, moved, replaced
from fastpagemap.cli.watch.reader import Reader, RemoteReader
from fastpagemap.cli.worker import WorkerEnded
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.mapping import Mapping
from fastpagemap.model.runs import RUN_DTYPE, State
from fastpagemap.snapshot.snapshot import Snapshot

__all__ = ["Live", "Pace", "Rates", "Sample", "SnapshotSource"]

Runs = npt.NDArray[np.void]
Column = npt.NDArray[np.uint64]

#: Shares of one processor's time: for the sums of all mappings, and for the pages shown.
SUMS_SHARE, PAGES_SHARE = 0.003, 0.006


class Rates(NamedTuple):
    """What happened in a second, since the last sample; None where that is not known."""

    # page faults of the whole process, as the kernel counts them
    minor: float | None = None
    major: float | None = None
    # bytes of the pages that are shown
    faulted_in: float | None = None
    swapped_out: float | None = None
    written: float | None = None


NO_RATES = Rates()


@dataclass(frozen=True)
class Sample:
    """What is known of a process; `summed` and `seen` say how old it is.

    Attributes
    ----------
    mappings : list of Mapping
        In address order.
    present, swapped : ndarray of uint64
        Bytes of each mapping.
    runs : ndarray of RUN_DTYPE
        The states of all pages that were read so far.
    view : View
        The addresses whose pages were all read last.
    summed, seen : float
        When the sums, and the pages of the view, were read: seconds of ``time.monotonic``.
    rates : Rates
        Of the time between the sample before and this one.
    ended : str
        Why no new sample can be taken; empty while one can.
    trouble : str
        Why this sample has nothing new; the next one may.
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
    trouble: str = ""
    page_size: int = PAGE_SIZE


class Pace:
    """When to take the next sample.

    Not before `interval` has passed, and not before the cost of the last sample is a `share` of the
    time since it began.
    """

    def __init__(self, interval: float, share: float) -> None:
        self.interval, self.share = interval, share
        self._next = -np.inf

    def due(self, now: float) -> bool:
        """Return whether it is time for a sample."""
        return now >= self._next

    def hurry(self) -> None:
        """Make a sample due at once: the view has changed."""
        self._next = -np.inf

    def spent(self, began: float, cost: float) -> None:
        """Note when a sample began, and what it cost, in seconds of processor time."""
        # Ticks never come exactly at the interval, so half an interval is tolerated.
        self._next = began + max(self.interval / 2, cost / self.share - self.interval / 2)


class Live:
    """A process that is sampled again and again.

    Parameters
    ----------
    pid : int
        The process.
    interval : float
        Seconds between samples, at least.
    dirty : bool
        Clear the soft-dirty bits after each sample, so that the next one shows what was written
        since.
    timeout : float, optional
        The seconds that the process may keep its reader waiting, here at the beginning. Without it,
        the process is read in this process, and may keep it for ever.

    Raises
    ------
    OSError
        As ``PageMap``, and ``PageMap.clear_soft_dirty`` where that is wanted; ``NoAnswer``.
    """

    live = True

    def __init__(
        self,
        pid: int,
        interval: float = 1.0,
        *,
        dirty: bool = False,
        timeout: float | None = None,
    ) -> None:
        make = partial(Reader, pid, dirty)
        self._reader = make() if timeout is None else RemoteReader(pid, make, timeout)
        self.pid, self.dirty = pid, dirty
        try:
            self.name, self.uid, self.knows_written = self._reader.about()
        except BaseException:
            self.close()
            raise
        self._sums, self._pages = Pace(interval, SUMS_SHARE), Pace(interval, PAGES_SHARE)
        self._faults = _Meter()
        self._last: Sample | None = None
        self._began, self._spent = 0.0, 0.0

    def close(self) -> None:
        """Let go of the process."""
        self._reader.close()

    def sample(self, view: View) -> Sample:
        """Return the newest sample; first renew the parts of it that are due."""
        if self._last and self._last.ended:
            return self._last
        try:
            self._last = self._renewed(view)
        except (ProcessLookupError, WorkerEnded) as error:
            if self._last is None:
                raise
            nothing = Rates(0, 0, 0, 0, 0 if self._last.rates.written is not None else None)
            gone = isinstance(error, ProcessLookupError)
            why = "has ended, or called exec" if gone else "can be read no more"
            self._last = replace(self._last, rates=nothing, ended=why, trouble="")
        except (OSError, MemoryError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error) or "out of memory"
            self._last = replace(self._last or self._empty(), rates=NO_RATES, trouble=why)
        return self._last

    def add_cost(self, cost: float) -> None:
        """Add to the cost of the last sample that of its picture, in seconds of processor time."""
        self._spent += cost
        self._pages.spent(self._began, self._spent)

    def _renewed(self, view: View) -> Sample:
        now = time.monotonic()
        sample = self._last or self._empty()
        if self._sums.due(now):
            sample = self._read_sums(sample, now)
        if view != sample.view:
            self._pages.hurry()
        if self._pages.due(now):
            sample = self._read_pages(sample, view, now)
        minor, major = self._faults.rates(self._reader.stat(), now)
        rates = sample.rates._replace(minor=minor, major=major)
        return replace(sample, rates=rates, trouble="")

    def _empty(self) -> Sample:
        none, runs = np.zeros(0, np.uint64), np.zeros(0, RUN_DTYPE)
        return Sample([], none, none, runs, View(0, 0), 0.0, 0.0)

    def _read_sums(self, sample: Sample, now: float) -> Sample:
        """Read the mappings, and how much of each is present and swapped."""
        began = self._clock()
        mappings, present, swapped = self._reader.sums()
        self._sums.spent(now, self._clock() - began)
        return replace(sample, mappings=mappings, present=present, swapped=swapped, summed=now)

    def _read_pages(self, sample: Sample, view: View, now: float) -> Sample:
        """Read the state of every page of a view; the first time, of all pages."""
        began = self._clock()
        first = not sample.seen
        if first or view == View():
            runs = whole = self._reader.pages(None)
        else:
            runs = self._reader.pages(view)
            whole = replaced(sample.runs, view, runs)
        rates = self._rates(sample, view, runs, now) if sample.view == view else NO_RATES
        self._began, self._spent = now, self._clock() - began
        self._pages.spent(self._began, self._spent)
        return replace(sample, runs=whole, view=view, seen=now, rates=rates)

    def _clock(self) -> float:
        """Return the seconds of processor time that this thread and the reader have used."""
        return time.thread_time() + self._reader.spent

    def _rates(self, sample: Sample, view: View, runs: Runs, now: float) -> Rates:
        """Compare the pages of a view with those of the sample before."""
        before = clipped(sample.runs, view)
        if self.dirty:  # all of them were cleared
            before["state"] &= ~np.uint64(int(State.SOFT_DIRTY))
        seconds = max(now - sample.seen, 1e-3)
        found = {name: size / seconds for name, size in moved(before, runs).items()}
        if not self.knows_written:
            del found["written"]
        return Rates(**found)


class _Meter:
    """Turns the page faults that /proc/PID/stat counts into rates."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def rates(self, stat: bytes, now: float) -> tuple[float | None, float | None]:
        """Return minor and major faults per second since the last call."""
        # The name may hold blanks and brackets, so the fields begin after the last bracket.
        fields = stat.rpartition(b")")[2].split()
        counted = now, int(fields[7]), int(fields[9])
        last, self._last = self._last, counted
        if last is None or now <= last[0]:
            return None, None
        seconds = now - last[0]
        return (counted[1] - last[1]) / seconds, (counted[2] - last[2]) / seconds


class SnapshotSource:
    """A snapshot: one sample that never changes."""

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

    def sample(self, view: View) -> Sample:
        """Return the sample, whatever the view."""
        return self._sample

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def add_cost(self, cost: float) -> None:
        """Do nothing: no sample is ever taken again, so none has to wait."""
