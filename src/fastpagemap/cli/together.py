"""Read several processes together, for ``fastpagemap report``.

One that keeps its memory locked would hold up all: so each is asked for something small before all
are counted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from fastpagemap.cli import asking
from fastpagemap.cli.collect import only, readable
from fastpagemap.cli.processes import name_of, processes
from fastpagemap.cli.worker import NoAnswer, WorkerEnded, started
from fastpagemap.group import Group
from fastpagemap.pagemap import PageMap
from fastpagemap.report.members import Sharer, of_group, of_sharers
from fastpagemap.report.report import About, Report, Unreadable, Usage

__all__ = ["collect_group", "collect_sharers", "of_cgroup", "of_tree"]


class _Counted(NamedTuple):
    usage: Usage
    total: dict[str, int]
    ended: list[int]


def of_tree(pid: int, timeout: float | None) -> list[int]:
    """Return a process and all its descendants."""

    def tree(pid: int) -> list[int]:
        with Group.tree(pid) as group:
            return [*group.pids, *group.ended]

    return asking.about(pid, tree, timeout)


def of_cgroup(path: str, timeout: float | None) -> list[int]:
    """Return the processes in a cgroup and below it."""

    def members(path: str) -> list[int]:
        with Group.cgroup(path) as group:
            return [*group.pids, *group.ended]

    found: list[int] = _ask(members, path, timeout, f"the cgroup {path}")
    return found


def collect_group(pids: Iterable[int], *, owner: bool = False, timeout: float | None) -> Report:
    """Count processes together.

    Parameters
    ----------
    pids : iterable of int
        The processes; one that is named twice counts once.
    owner, timeout
        As for ``collect.collect``.

    Raises
    ------
    OSError
        None could be read.
    ProcessLookupError
        All of them have ended.
    """
    wanted = list(dict.fromkeys(pids))
    unreadable: list[Unreadable] = []
    owners: dict[int, int | None] = {}
    for pid, uid in readable(asking.each(wanted, _probe, timeout), unreadable):
        owners[pid] = uid if owner else None
    names = {pid: name_of(pid) for pid in owners}
    try:
        found: _Counted = _ask(_count, list(owners), timeout, "the group")
    except NoAnswer:
        # What is in swap is looked for in all processes. One of them may lock its memory.
        silent = _silent(set(processes()) - set(owners), timeout)
        if not silent:
            raise
        found = _ask(partial(_count, skipped=silent), list(owners), timeout, "the group")
    answered = set(owners) - set(found.ended)
    missed = answered | {one.pid for one in unreadable}
    ended = [pid for pid in wanted if pid not in missed]
    about = About.now(None, "", only(set(owners.values())))
    return of_group(about, names, found.usage, found.total, ended, unreadable)


def _probe(pid: int) -> int | None:
    """Ask a process for what needs the lock of its memory, and little else."""
    with PageMap(pid) as pagemap:
        pagemap.usage(pagemap.mappings()[:1], fields=["present"])
        return pagemap.uid


def _count(pids: list[int], skipped: frozenset[int] = frozenset()) -> _Counted:
    """Count processes together, without those that have ended meanwhile.

    Swap of the skipped ones, which are others, is not looked at.
    """
    ended: list[int] = []
    while True:
        try:
            group = Group(pids)
            break
        except ValueError:
            raise ProcessLookupError(errno.ESRCH, "no process of the group is left") from None
        except ProcessLookupError:
            gone = [pid for pid in pids if not _is_there(pid)]
            if not gone:
                raise
            pids, ended = [pid for pid in pids if pid not in gone], ended + gone
    with group:
        group._skipped = skipped
        total = group.total()
        usage = group.usage()
        sizes = dict(zip(total.dtype.names or (), total.tolist(), strict=True))
        return _Counted(usage, sizes, [*ended, *group.ended])


def _is_there(pid: int) -> bool:
    try:
        PageMap(pid).close()
        return True
    except ProcessLookupError:
        return False


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
    pid: int, others: Iterable[int], *, owner: bool = False, timeout: float | None
) -> Report:
    """Find out which of some processes map memory of a process, and how much.

    Raises
    ------
    PermissionError
        Frame numbers are hidden from this user.
    """
    mapped, shared, uid = asking.about(pid, _own, timeout)
    unreadable: list[Unreadable] = []

    def overlap(other: int) -> tuple[int, int]:
        with Group([pid, other]) as group:
            table = group.overlap()
            if len(table) < 2:
                raise ProcessLookupError(errno.ESRCH, "one of the two has ended")
            return int(table[0, 1]), int(table[1, 1])

    def found() -> Iterator[Sharer]:
        # This process has forked the workers: what it shares is no other program's.
        asked = (other for other in others if other not in (pid, os.getpid()))
        for other, (both, its) in readable(asking.each(asked, overlap, timeout), unreadable):
            if both:
                yield Sharer(other, name_of(other), both, its)

    sharers = list(found())
    about = About.now(pid, name_of(pid), uid if owner else None)
    return of_sharers(about, mapped, shared, sharers, unreadable)


def _own(pid: int) -> tuple[int, int, int]:
    """Return what a process maps, what of it others map as well, and whose it is."""
    with Group([pid]) as group, PageMap(pid) as pagemap:
        mapped = int(group.overlap()[0, 0])
        own = int(pagemap.usage(fields=["uss"])["uss"].sum())
        return mapped, max(mapped - own, 0), pagemap.uid
