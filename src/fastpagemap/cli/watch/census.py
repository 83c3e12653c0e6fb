"""All processes of the machine, or a family of them, sampled again and again; no screen here.

What /proc/PID/stat tells is read at each refresh. Looking at pages costs more, so that it has a
budget, and those come first whose page faults or resident pages have changed.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fastpagemap.cli.asking import Asking
from fastpagemap.cli.collect import reason
from fastpagemap.cli.processes import command_of, has_memory, processes
from fastpagemap.cli.watch.chosen import Chosen
from fastpagemap.cli.watch.pace import Meter, Pace
from fastpagemap.cli.watch.reader import PATIENCE
from fastpagemap.engine.process_sums import sums_of
from fastpagemap.engine.shares import SHARE_COLUMNS
from fastpagemap.pagemap import PageMap
from fastpagemap.process import stat
from fastpagemap.process.namespaces import directory_of
from fastpagemap.process.process import open_process

__all__ = ["Census", "Member"]

#: Shares of one processor's time: for the list of processes, and for looking at their pages.
SCAN_SHARE, LOOKS_SHARE = 0.01, 0.03
#: The part of the latter that one process may take, so that a large one leaves some to the others.
MEMBER_SHARE = LOOKS_SHARE / 4
#: Seconds that a look at one process is expected to cost, before it was looked at.
EXPECTED_COST = 0.003
#: Seconds after which what there is is shown, though not everything is there yet.
MAX_LOOKING = 0.5
#: Seconds until a process is asked again that could not be looked at.
REFUSED_PAUSE = 60.0

Question = tuple[int, tuple[str, ...]]


class Look(NamedTuple):
    """What was seen of a process, and the seconds of processor time that it took."""

    sizes: dict[str, int]
    mappings: int
    command: str
    cost: float


def look(question: Question) -> Look:
    """Look at a process, in a worker."""
    pid, fields = question
    began = time.thread_time()
    found = sums_of(open_process(pid), fields)
    sizes = dict(zip(fields, found.sizes, strict=True))
    return Look(sizes, found.mappings, command_of(pid), time.thread_time() - began)


@dataclass
class Member:
    """A process, and what is known of it; None and 0 where it is not.

    Attributes
    ----------
    about : Stat
        What the kernel said of it last.
    uid : int
        The user that it runs as.
    minor, major : float or None
        Page faults a second.
    seen : Look or None
        What was seen when its pages were looked at last, and at `when`.
    refused : str
        Why they were not.
    """

    pid: int
    about: stat.Stat
    uid: int
    minor: float | None = None
    major: float | None = None
    seen: Look | None = None
    when: float = 0.0
    refused: str = ""
    #: It has changed since; it is not looked at again before that time.
    changed: bool = True
    not_before: float = 0.0
    meter: Meter = field(default_factory=Meter, repr=False)

    def update(self, about: stat.Stat, now: float) -> None:
        """Note what the kernel says of it now."""
        before, self.about = self.about, about
        self.minor, self.major = self.meter.rates(about, now)
        marks = [(it.minor, it.major, it.resident, it.size) for it in (before, about)]
        self.changed |= marks[0] != marks[1]

    def answer(self, outcome: Look | Exception, now: float) -> None:
        """Note what was seen of it, or why nothing was."""
        self.changed = False
        if not isinstance(outcome, Exception):
            self.seen, self.when, self.refused = outcome, now, ""
            self.not_before = now + outcome.cost / MEMBER_SHARE
            return
        if isinstance(outcome, PermissionError):
            self.refused = "not permitted"
        else:
            self.refused = "ended" if isinstance(outcome, ProcessLookupError) else reason(outcome)
        self.not_before = now + REFUSED_PAUSE


class Census:
    """Samples processes.

    Parameters
    ----------
    interval : float
        Seconds between samples, at least.
    roots : collection of int, optional
        Only these processes and their descendants.
    fields : tuple of str
        The columns of ``PageMap.usage`` that are read.
    chosen : Chosen, optional
        Those that are sampled, of all or of these.
    """

    def __init__(
        self,
        interval: float,
        roots: Collection[int] = (),
        fields: tuple[str, ...] = ("present", "swapped"),
        chosen: Chosen | None = None,
    ) -> None:
        self.interval, self.roots, self.fields = interval, frozenset(roots), fields
        self._chosen = chosen or Chosen()
        self._members: dict[tuple[int, int], Member] = {}
        #: Who was among the roots and their descendants when they were listed last.
        self._relatives: set[tuple[int, int]] = set()
        self._scan, self._looks = Pace(interval, SCAN_SHARE), Pace(interval, LOOKS_SHARE)
        self._asking: Asking[Question, Look] = Asking(look, PATIENCE)
        self._left: Iterator[Question] = iter(())
        #: The columns that were read of all processes.
        self._read: set[str] | None = None
        self._began, self._spent, self._is_free = 0.0, 0.0, False
        #: The columns that this kernel can tell.
        self.columns = (*(PageMap().usage([]).dtype.names or ()), *SHARE_COLUMNS)
        #: When the processes were listed.
        self.listed = 0.0
        #: Whether a sample did not come to all processes that it was to look at.
        self.unfinished = False

    def sample(self) -> list[Member]:
        """Return all processes, in the order of their pids; first look at those that are due."""
        now = time.monotonic()
        if self._scan.due(now):
            began = time.thread_time()
            self._list(now)
            self._scan.spent(now, time.thread_time() - began)
        if not self.unfinished or self._read != set(self.fields):
            self._choose(now)
        self.unfinished = self._look(now + MAX_LOOKING)
        return [self._members[key] for key in sorted(self._members)]

    def close(self) -> None:
        """Let go of the reader."""
        self._asking.close()

    # ---- which processes there are ----

    def _list(self, now: float) -> None:
        """Note which processes there are now, and what the kernel says of them."""
        found = {}
        for pid in processes():
            about = stat.read(pid)
            if about and not about.is_kernel_thread and (about.size or has_memory(pid)):
                found[pid] = about
        wanted = self._family(found) if self.roots else found
        kept = {}
        for pid in self._chosen.among(wanted):
            key, about = (pid, found[pid].started), found[pid]
            member = self._members.get(key)
            if member is None:
                # Many end at once: those are not worth a look.
                member = Member(pid, about, -1, not_before=now + self.interval / 2)
            member.uid = _owner(pid)  # a server's child becomes another user's
            member.update(about, now)
            kept[key] = member
        self._members, self.listed = kept, now

    def _family(self, found: dict[int, stat.Stat]) -> dict[int, stat.Stat]:
        """Return the roots, their descendants, and who was one before its parent ended."""
        children: dict[int, list[int]] = {}
        for pid, about in found.items():
            children.setdefault(about.parent, []).append(pid)
        known = [pid for pid, about in found.items() if (pid, about.started) in self._relatives]
        waiting, family = [*self.roots, *known], set[int]()
        while waiting:
            pid = waiting.pop()
            if pid in found and pid not in family:
                family.add(pid)
                waiting += children.get(pid, ())
        self._relatives = {(pid, found[pid].started) for pid in family}
        return {pid: found[pid] for pid in family}

    # ---- looking at them ----

    def _choose(self, now: float) -> None:
        """Choose the processes to look at now: as many as the budget has room for."""
        everyone = self._read is None or not self._read.issuperset(self.fields)
        self._read = set(self.fields)
        if not (everyone or self._looks.due(now)):
            return
        self._began, self._spent = now, 0.0
        # The first look at all of them is beyond the budget: there would be nothing to see.
        self._is_free = everyone
        due = [m for m in self._members.values() if everyone or m.not_before <= now]
        due.sort(key=lambda m: (m.when > 0 and not m.changed, m.when))
        if not everyone:
            costs = itertools.accumulate(m.seen.cost if m.seen else EXPECTED_COST for m in due)
            budget = self.interval * LOOKS_SHARE
            due = due[: max(sum(cost <= budget for cost in costs), 1)]
        self._left = iter([(m.pid, self.fields) for m in due])

    def _look(self, end: float) -> bool:
        """Look at the processes that were chosen; return whether there are some left."""
        before = self._asking.spent
        by_pid = {member.pid: member for member in self._members.values()}
        while more := self._asking.fill(self._left):
            if time.monotonic() >= end:
                break
            (pid, _), outcome = self._asking.next()
            if pid in by_pid:
                by_pid[pid].answer(outcome, time.monotonic())
        self._spent += self._asking.spent - before
        if not more and not self._is_free:
            self._looks.spent(self._began, self._spent)
        return more


def _owner(pid: int) -> int:
    try:
        return os.stat(directory_of(pid)).st_uid
    except OSError:
        return -1
