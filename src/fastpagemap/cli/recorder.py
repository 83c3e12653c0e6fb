"""Read processes again and again, and add what has changed to the files of a `Recording`."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

import click

from fastpagemap.cli.asking import Asking
from fastpagemap.cli.collect import Fields, about_now, affordable, read_mappings, reason
from fastpagemap.cli.processes import name_of
from fastpagemap.cli.worker import NoAnswer, WorkerEnded
from fastpagemap.report.changes import Changes, Key, joined
from fastpagemap.report.recording import Recording
from fastpagemap.report.report import About, Report, Unreadable
from fastpagemap.report.text import printable
from fastpagemap.report.unreadable import MAX_NAMED, summary

__all__ = ["Budget", "Recorder", "Signals"]

#: Processor time that was not used may be used so many seconds later.
CREDIT = 60.0
#: Seconds until a process is asked again that did not answer.
SILENT_PAUSE = 60.0


class Budget:
    """When processes may be read again: processor time is to be a `share` of all time at most."""

    def __init__(self, interval: float, share: float) -> None:
        self.interval, self.share = interval, share
        self._paid = 0.0

    def next(self, began: float, cost: float) -> float:
        """Return when to begin again, after a reading that began then, and its cost in seconds."""
        self._paid = max(self._paid, began - CREDIT) + cost / self.share
        return max(began + self.interval, self._paid)


class Signals:
    """Has SIGINT, SIGTERM and SIGHUP end a wait, in place of the program. For the main thread."""

    def __enter__(self) -> Signals:
        self._told, self._telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._telling, warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
        os.close(self._told)
        os.close(self._telling)

    def wait(self, seconds: float) -> bool:
        """Wait so many seconds; return at once, and True, after a signal."""
        return bool(select.select([self._told], [], [], max(seconds, 0))[0])


class Recorder:
    """Reads processes, and adds what has changed to files.

    Parameters
    ----------
    choose : callable
        Returns the pids of the processes to read, each time; None where there will be no more.
    files : Recording
    fields : tuple of str, optional
        The columns of ``PageMap.usage``.
    timeout : float
        The seconds that a process may keep its reader waiting.
    typed : collection of int, optional
        The pids that someone typed: if they cannot be read, they are listed.
    """

    def __init__(
        self,
        choose: Callable[[], Collection[int] | None],
        files: Recording,
        fields: Fields,
        timeout: float,
        typed: Collection[int] = (),
    ) -> None:
        self._choose, self.files = choose, files
        self._read = partial(_read, fields=fields)
        self._timeout = timeout
        self._typed = typed
        self._changes = Changes()
        self._asking: Asking[int, Report] | None = None
        self._spent = 0.0
        self._silent: dict[int, float] = {}
        self._said_full = False
        #: The processes that were ever recorded, and those that ever could not be.
        self.seen: set[Key] = set()
        self.refused: dict[int, str] = {}

    def run(self, budget: Budget, signals: Signals, count: int | None) -> None:
        """Record until a signal, until no process is left, or `count` times."""
        done = 0
        try:
            while (pids := self._choose()) is not None:
                began, before = time.monotonic(), self.spent()
                self._sample(pids)
                done += 1
                again = budget.next(began, self.spent() - before)
                if done == count or signals.wait(again - time.monotonic()):
                    break
        finally:
            if self._asking:
                self._asking.close()
            self.files.save()

    def spent(self) -> float:
        """Return the seconds of processor time that this has taken, workers included."""
        return time.process_time() + self._spent + (self._asking.spent if self._asking else 0.0)

    def _sample(self, pids: Collection[int]) -> None:
        about = about_now(None, "")
        if self.files.is_over(about.time):
            self._save()
        if self.files.since is None:
            self._begin(about)
        rows: list[Report] = []
        read, refused = set[Key](), set[int]()
        for pid, outcome in affordable(self._outcomes(pids), "path"):
            if isinstance(outcome, Report):
                read.add((outcome.about.pid, outcome.about.start_time))
                rows += self._changes.since_last(outcome)
            elif not isinstance(outcome, ProcessLookupError):
                refused.add(pid)
                self._refuse(pid, reason(outcome))
        self.seen |= read
        if self.refused and not self.seen:
            raise OSError(self.unreadable())
        rows += self._changes.ended(read, refused | self._silent.keys())
        if sum(map(len, rows)):
            self.files.add(joined(rows, about))
        self.files.note(about)

    def _outcomes(self, pids: Iterable[int]) -> Iterator[tuple[int, Report | Exception]]:
        """Yield what was read of each process; skip those that did not answer a while ago."""
        now = time.monotonic()
        self._silent = {pid: end for pid, end in self._silent.items() if end > now}
        left = iter([pid for pid in pids if pid not in self._silent])
        assert self._asking is not None
        while self._asking.fill(left):
            pid, outcome = self._asking.next()
            if isinstance(outcome, (NoAnswer, WorkerEnded)):
                self._silent[pid] = now + SILENT_PAUSE
            yield pid, outcome

    def _begin(self, about: About) -> None:
        """Begin a file with everything that is mapped, read by a new worker."""
        self._changes.forget()
        if self._asking:
            self._spent += self._asking.spent
            self._asking.close()
        self._asking = Asking(self._read, self._timeout)
        self.files.begin(about)

    def _save(self) -> None:
        """Write what there is; say it once, if that cannot be, and go on."""
        try:
            self.files.save()
            self._said_full = False
        except OSError as error:
            if not self._said_full:
                _say(f"{error.strerror or error}; recording goes on, and tries it again")
            self._said_full = True

    def _refuse(self, pid: int, why: str) -> None:
        if pid not in self.refused:
            self.refused[pid] = why
            if len(self.refused) <= MAX_NAMED and self.seen:
                _say(f"process {pid} ({name_of(pid)}): {why}")

    def unreadable(self) -> str:
        """Return how many processes could not be read, and why at first."""
        found = [Unreadable(pid, name_of(pid), why) for pid, why in self.refused.items()]
        return summary(found, self._typed)


def _read(pid: int, fields: Fields) -> Report:
    if pid == os.getpid():  # the worker that this is
        raise ProcessLookupError
    return read_mappings(pid, True, fields)


def _say(text: str) -> None:
    click.echo(f"fastpagemap: {printable(text)}", err=True)
