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
from fastpagemap.cli.watch.pace import Meter, Pace
from fastpagemap.cli.watch.reader import Reader, RemoteReader
from fastpagemap.cli.worker import WorkerEnded
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.mapping import Mapping
from fastpagemap.model.runs import RUN_DTYPE, Runs, State
from fastpagemap.process.stat import parse
from fastpagemap.report.report import SIZES
from fastpagemap.snapshot.snapshot import Snapshot

__all__ = ["DEFAULT_FIELDS", "Live", "Rates", "Sample", "SnapshotSource"]

Usage = npt.NDArray[np.void]

#: The columns of ``PageMap.usage`` that are read for each mapping, until others are asked for.
DEFAULT_FIELDS = ("size", "present", "swapped")
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
    usage : ndarray
        Bytes of each mapping, as ``PageMap.usage`` returns them.
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
    usage: Usage
    runs: Runs
    view: View
    summed: float
    seen: float
    rates: Rates = NO_RATES
    ended: str = ""
    trouble: str = ""
    page_size: int = PAGE_SIZE


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
            about = self._reader.about()
        except BaseException:
            self.close()
            raise
        self.name, self.uid, self.knows_written = about.name, about.uid, about.soft_dirty
        self.columns = about.columns
        self.fields: tuple[str, ...] = DEFAULT_FIELDS
        self._sums, self._pages = Pace(interval, SUMS_SHARE), Pace(interval, PAGES_SHARE)
        self._faults = Meter()
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
        if self.fields != sample.usage.dtype.names:
            self._sums.hurry()
        if self._sums.due(now):
            sample = self._read_sums(sample, now)
        if view != sample.view:
            self._pages.hurry()
        if self._pages.due(now):
            sample = self._read_pages(sample, view, now)
        minor, major = self._faults.rates(parse(self._reader.stat()), now)
        rates = sample.rates._replace(minor=minor, major=major)
        return replace(sample, rates=rates, trouble="")

    def _empty(self) -> Sample:
        none = np.zeros(0, [(name, np.uint64) for name in self.fields])
        return Sample([], none, np.zeros(0, RUN_DTYPE), View(0, 0), 0.0, 0.0)

    def _read_sums(self, sample: Sample, now: float) -> Sample:
        """Read the mappings, and how much of each is present, swapped and so on."""
        began = self._clock()
        mappings, usage = self._reader.sums(self.fields)
        self._sums.spent(now, self._clock() - began)
        return replace(sample, mappings=mappings, usage=usage, summed=now)

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


class SnapshotSource:
    """A snapshot: one sample that never changes."""

    live = dirty = knows_written = False

    def __init__(self, snapshot: Snapshot) -> None:
        self.pid, self.name, self.uid = snapshot.pid, snapshot.name, snapshot.uid
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(snapshot.time))
        self.about = f"of {when}, on Linux {snapshot.kernel} {snapshot.machine}"
        self._snapshot = snapshot
        known = snapshot.usage().dtype.names or ()
        self.columns = tuple(name for name in known if name in SIZES)
        self.fields: tuple[str, ...] = DEFAULT_FIELDS
        self._sample = self._summed(0.0)

    def _summed(self, when: float) -> Sample:
        made = self._snapshot
        return Sample(
            *(made.mappings, made.usage(fields=self.fields), made.states, View(), when, 0.0),
            page_size=made.page_size,
        )

    def sample(self, view: View) -> Sample:
        """Return the sample, whatever the view."""
        if self.fields != self._sample.usage.dtype.names:
            self._sample = self._summed(self._sample.summed)
        return self._sample

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def add_cost(self, cost: float) -> None:
        """Do nothing: no sample is ever taken again, so none has to wait."""
