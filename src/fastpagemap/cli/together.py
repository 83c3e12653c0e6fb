"""Read several processes together, for ``fastpagemap report``.

One that keeps its memory locked would hold up all: so each is asked for something small before all
are counted. A process is known by when it began, too, so that no other one with its pid is counted.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap._kernel.descriptor import Descriptor
from fastpagemap.cli import asking
from fastpagemap.cli.collect import about_now, only, readable
from fastpagemap.cli.naming import commands
from fastpagemap.cli.processes import processes
from fastpagemap.cli.progress import counted
from fastpagemap.cli.worker import NoAnswer, WorkerEnded, started
from fastpagemap.engine.members import ALL_PIDS, Members
from fastpagemap.engine.shared_frames import common, shared_frames
from fastpagemap.engine.usage import usage
from fastpagemap.process.family import (
    Known,
    descendants,
    known,
    known_at,
    listed,
    open_again,
    open_known,
)
from fastpagemap.process.frames import MAPCOUNTS, open_frames
from fastpagemap.process.mappings import mappings
from fastpagemap.process.process import Process
from fastpagemap.report.members import Sharer, of_group, of_sharers
from fastpagemap.report.report import Report, Unreadable, Usage

__all__ = ["Chosen", "collect_group", "collect_sharers", "of_cgroup", "of_tree"]

#: Processes to look at, by pid: when each began; None for whichever has that pid.
Chosen = dict[int, int | None]


class _Member(NamedTuple):
    known: Known
    name: str
    uid: int


class _Counted(NamedTuple):
    usage: Usage
    total: dict[str, int]
    ended: list[int]


def of_tree(pid: int, timeout: float | None) -> Chosen:
    """Return a process and all its descendants but this command."""
    me = os.getpid()
    return asking.about(pid, lambda pid: _but_this([known_at(pid), *descendants(pid)], me), timeout)


def of_cgroup(path: str, timeout: float | None) -> Chosen:
    """Return the processes in a cgroup and below it but this command."""
    me, what = os.getpid(), f"the cgroup {path}"
    found: Chosen = _ask(lambda path: _but_this(listed(path), me), path, timeout, what)
    if not found:
        raise ProcessLookupError(errno.ESRCH, f"{what} has no other process")
    return found


def _but_this(found: list[Known], asker: int) -> Chosen:
    """Return processes but the one that asks, and the worker that this is."""
    return {each.pid: each.began for each in found if each.pid not in (asker, os.getpid())}


def collect_group(
    chosen: Chosen,
    *,
    typed: Collection[int] = (),
    owner: bool = False,
    timeout: float | None,
) -> Report:
    """Count processes together.

    Parameters
    ----------
    chosen : Chosen
        The processes.
    typed : collection of int, optional
        Those of them that someone asked for one by one: an error lists them.
    owner, timeout
        As for ``collect.collect``.

    Raises
    ------
    OSError
        None could be read.
    ProcessLookupError
        All of them have ended.
    """
    unreadable: list[Unreadable] = []
    members = _readable(chosen, unreadable, timeout, typed)
    found = _counted(members, unreadable, timeout)
    answered = {*members, *(one.pid for one in unreadable)} - set(found.ended)
    ended = [pid for pid in chosen if pid not in answered]
    owners: set[int | None] = {member.uid if owner else None for member in members.values()}
    names = {pid: member.name for pid, member in members.items()}
    about = about_now(None, "", only(owners))
    lines = commands(names)  # after counting, see there
    whole = of_group(about, names, found.usage, found.total, ended, unreadable, lines)
    whole.labels["start_time"] = [members[pid].known.began for pid in whole.labels["pid"]]
    return whole


def _readable(
    began: Chosen,
    unreadable: list[Unreadable],
    timeout: float | None,
    typed: Collection[int] = (),
) -> dict[int, _Member]:
    """Return the processes that answer; note the others."""

    def probe(pid: int) -> _Member:
        return _probe(pid, began[pid])

    return dict(readable(asking.each(began, probe, timeout), unreadable, typed))


def _probe(pid: int, began: int | None = None) -> _Member:
    """Ask a process for what needs the lock of its memory, and little else."""
    process = Process(pid)
    found = known(process)
    if began not in (None, found.began):
        raise process.gone()
    usage(process, mappings(process)[:1], ["present"])
    return _Member(found, process.name(), process.uid())


def _counted(
    members: dict[int, _Member], unreadable: list[Unreadable], timeout: float | None
) -> _Counted:
    """Count processes together; if one does not answer, without it.

    What is in swap is looked for in all processes of the machine. So it may be another one.
    """

    def count(skipped: Collection[int]) -> _Counted:
        found: _Counted = _ask(
            lambda members: _count(members, skipped),
            [member.known for member in members.values()],
            timeout,
            "the group",
        )
        return found

    try:
        return count(())
    except NoAnswer:
        began: Chosen = {pid: each.known.began for pid, each in members.items()}
        members.clear()
        members.update(_readable(began, unreadable, timeout))
        others = set(processes()) - set(began)
    try:
        return count(_silent(others, timeout))
    except NoAnswer:  # it answers a small question alone
        return count(ALL_PIDS)


def _count(members: list[Known], skipped: Collection[int]) -> _Counted:
    """Count processes together, without those that have ended meanwhile.

    Swap of the skipped ones, which are others, is not looked at.
    """
    held, ended = open_again(members)
    if not held:
        raise ProcessLookupError(
            errno.ESRCH, "no process of the group is left: all have ended, or called exec"
        )
    group = Members(held, ended, skipped)
    while True:
        rows, gone = group.usage(), list(group.ended)
        total = group.total()
        if list(group.ended) == gone:  # both are about the same processes
            break
    sizes = dict(zip(total.dtype.names or (), total.tolist(), strict=True))
    return _Counted(rows, sizes, gone)


def _ask(function: Callable[[Any], Any], question: Any, seconds: float | None, what: str) -> Any:
    """Return the answer of a function that is called in a worker."""
    worker = started(function, seconds)
    try:
        worker.send(question)
        return worker.receive(seconds or 0)
    except (NoAnswer, WorkerEnded) as error:
        raise type(error)(error.errno, f"{what}: {error.strerror}") from None
    finally:
        worker.give_up()


def _silent(pids: Iterable[int], timeout: float | None) -> frozenset[int]:
    """Return which processes do not answer."""
    outcomes = asking.each(pids, _probe, timeout)
    return frozenset(pid for pid, outcome in outcomes if isinstance(outcome, NoAnswer))


def collect_sharers(
    pid: int, others: Chosen, *, owner: bool = False, timeout: float | None
) -> Report:
    """Find out which of some processes map memory of a process, and how much.

    Raises
    ------
    PermissionError
        Frame numbers are hidden from this user.
    ProcessLookupError
        The process has ended before all others were asked.
    """
    target, mapped, shared = asking.about(pid, _own, timeout)
    unreadable: list[Unreadable] = []

    # This process has forked the workers: what it shares is no other program's.
    wanted = [other for other in others if other not in (pid, os.getpid())]
    with counted("reading processes", wanted) as pids:
        overlaps = _Overlaps(target.known, others)
        answers = readable(asking.each(pids, overlaps, timeout), unreadable)
        sharers = [Sharer(other, *found) for other, found in answers if found[1]]
    asking.about(pid, lambda pid: _probe(pid, target.known.began), timeout)
    about = about_now(pid, target.name, target.uid if owner else None)
    lines = commands(sharer.pid for sharer in sharers)
    return of_sharers(about, mapped, shared, sharers, unreadable, lines)


class _Overlaps:
    """Tells how much memory of a process others map; in each worker it is looked at once."""

    def __init__(self, target: Known, began: Chosen) -> None:
        self._target, self._began = target, began

    def __call__(self, other: int) -> tuple[str, int, int]:
        """Return the name of another process, how much both map, and how much it maps."""
        counts, frames = self._shared
        process = open_known(other, self._began[other])
        its, mapped = shared_frames(process, counts.fd)
        return process.name(), common(frames, its), mapped

    @functools.cached_property
    def _shared(self) -> tuple[Descriptor, npt.NDArray[np.uint64]]:
        counts = open_frames(MAPCOUNTS)
        return counts, shared_frames(open_known(*self._target), counts.fd)[0]


def _own(pid: int) -> tuple[_Member, int, int]:
    """Return a process, what it maps, and what of it others map as well."""
    process = Process(pid)
    try:
        mapped = int(Members([process]).overlap()[0, 0])
    except ProcessLookupError:  # it is not asked about as one of a group
        raise process.gone() from None
    own = int(usage(process, None, ["uss"])["uss"].sum())
    member = _Member(known(process), process.name(), process.uid())
    return member, mapped, max(mapped - own, 0)
