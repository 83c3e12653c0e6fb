"""Read processes for ``fastpagemap report``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from fastpagemap.cli import asking
from fastpagemap.cli.naming import commands
from fastpagemap.cli.processes import name_of, parent_of, user_of
from fastpagemap.engine.process_sums import summed_columns, sums_of
from fastpagemap.engine.usage import rows_and_usage
from fastpagemap.process import stat
from fastpagemap.process.backing import Backings
from fastpagemap.process.cgroups import cgroup_of, unit_of
from fastpagemap.process.family import known
from fastpagemap.process.host import boot_id, host_name
from fastpagemap.process.process import Process, open_process
from fastpagemap.report.report import (
    LABELS,
    SIZES,
    About,
    Labels,
    Report,
    Unreadable,
    Usage,
    grouped,
    of_mappings,
    sizes_of,
)
from fastpagemap.report.unreadable import summary

Answer = TypeVar("Answer")
# The columns of PageMap.usage to fill; None for those that cost little.
Fields = tuple[str, ...] | None

#: Bytes that the paths of all mappings in a report may have together: a process chooses its own.
MAX_PATHS_SIZE = 1 << 28


def collect(
    pid: int,
    *,
    owner: bool = False,
    timeout: float | None = None,
    fields: Fields = None,
) -> Report:
    """Read the mappings of a process and their usage.

    Parameters
    ----------
    pid : int
        The process.
    owner : bool, optional
        Also read whose process it is, when it began, and its cgroup. Only a file that is written
        needs to know.
    timeout : float, optional
        The seconds that the process may keep its reader waiting. Without it, it is read in this
        process, and may keep it for ever.
    fields : tuple of str, optional
        The columns of ``PageMap.usage``; by default all that cost little.
    """

    def read(pid: int) -> Report:
        return read_mappings(pid, owner, fields)

    return asking.about(pid, read, timeout)


def read_mappings(pid: int, owner: bool, fields: Fields) -> Report:
    """Read a process here, in this process; see `collect`."""
    process = open_process(pid)
    mappings, usage = rows_and_usage(process, None, fields)
    its = _origin(process) if owner else Origin()
    about = about_now(pid, _name(process), its.uid, its.start_time, its.cgroup)
    return of_mappings(about, mappings, usage, Backings(process).is_shmem)


def collect_all(
    pids: Iterable[int],
    group: str | None = None,
    choose: Callable[[Report], Report] | None = None,
    *,
    owner: bool = False,
    timeout: float | None = None,
    fields: Fields = None,
) -> Report:
    """Read processes, one after the other. One that cannot be read keeps no other from it.

    Parameters
    ----------
    pids : iterable of int
        Those to read.
    group : {'path', 'kind'}, optional
        What a row is; a process by default.
    choose : callable, optional
        Takes the report of one process and returns it with the mappings that are to count.
    owner : bool, optional
        Also read whose processes they are.
    timeout : float, optional
        As for `collect`, for each process.
    fields : tuple of str, optional
        As for `collect`.

    Raises
    ------
    OSError
        None could be read.
    """
    if group is None:
        return _by_process(pids, owner, timeout, fields)

    def read(pid: int) -> Report:
        one = read_mappings(pid, owner, fields)
        return grouped(choose(one) if choose else one, group)

    return _by_group(asking.each(pids, read, timeout), group)


class Origin(NamedTuple):
    """Whose process it is, when it began, its memory's cgroup, its unit; None if not asked."""

    uid: int | None = None
    start_time: int | None = None
    cgroup: str | None = None
    unit: str | None = None


def _origin(process: Process) -> Origin:
    try:
        text = process.read("cgroup")
    except FileNotFoundError:  # a kernel without cgroups
        text = b""
    return Origin(process.uid(), known(process).began, cgroup_of(text), unit_of(text))


def _name(process: Process) -> str:
    """Return the name of the process that was read: its pid may be another's by now."""
    try:
        return process.name()
    except OSError:  # it has ended
        return ""


def about_now(
    pid: int | None,
    name: str,
    uid: int | None = None,
    start_time: int | None = None,
    cgroup: str | None = None,
) -> About:
    """Describe memory that was just read here, on this host."""
    return About.now(pid, name, uid, start_time, cgroup, host_name(), boot_id())


class _Row(NamedTuple):
    """What a row about a process is made from."""

    name: str
    origin: Origin
    user: str
    parent: int
    threads: int
    mappings: int
    sizes: list[int]


def _row_of(pid: int, owner: bool, columns: tuple[str, ...]) -> _Row:
    process = open_process(pid)
    sums = sums_of(process, columns)
    origin = _origin(process) if owner else Origin()
    its = stat.read(pid)
    threads = its.threads if its else 0
    name, parent, user = _name(process), parent_of(pid), user_of(pid)
    if not user:  # whose memory it was, nothing tells any more
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return _Row(name, origin, user, parent, threads, *sums)


def _by_process(pids: Iterable[int], owner: bool, timeout: float | None, fields: Fields) -> Report:
    """Return a report with a row for each process."""
    unreadable: list[Unreadable] = []
    more = ("start_time", "cgroup", "unit")
    labels: Labels = {label: [] for label in (*LABELS["process"], *more)}
    columns = summed_columns(fields)
    answers = asking.each(pids, lambda pid: _row_of(pid, owner, columns), timeout)
    found = dict(readable(answers, unreadable))
    # Afterwards: one that does not give its command line is in the report all the same.
    lines = commands(found)
    for pid, row in found.items():
        cells = {"pid": pid, "command": lines.get(pid, ""), **row._asdict()}
        cells.update(row.origin._asdict())
        for label in labels:
            labels[label].append(cells[label])
    usage = np.zeros(len(found), [(name, np.uint64) for name in columns])
    for index, name in enumerate(columns):
        usage[name] = [row.sizes[index] for row in found.values()]
    about = about_now(None, "", only({row.origin.uid for row in found.values()}))
    return Report(about, "process", labels, sizes_of(usage), unreadable)


def _by_group(answers: Iterator[tuple[int, Report | Exception]], group: str) -> Report:
    """Return the sums, over all processes, of the mappings that have the same path or kind."""
    unreadable: list[Unreadable] = []
    owners: set[int | None] = set()
    labels: Labels = {label: [] for label in LABELS[group]}
    usages: list[Usage] = [np.zeros(0, [(name, np.uint64) for name in SIZES])]
    for _, one in readable(affordable(answers, group), unreadable):
        owners.add(one.about.uid)
        for label in labels:
            labels[label] += one.labels[label]
        usages.append(one.usage)
    usage = np.concatenate(usages[1:] or usages)
    about = about_now(None, "", only(owners))
    return grouped(Report(about, group, labels, usage, unreadable), group)


def affordable(
    answers: Iterable[tuple[int, Report | Exception]], label: str
) -> Iterator[tuple[int, Report | Exception]]:
    """Yield answers while all their labels may be kept; in place of others, a MemoryError."""
    left = MAX_PATHS_SIZE
    for pid, answer in answers:
        outcome = answer
        if isinstance(answer, Report):
            size = sum(map(len, answer.labels[label]))
            if size <= left:
                left -= size
            else:
                outcome = MemoryError("its paths are too long")
        yield pid, outcome


def only(owners: set[int | None]) -> int | None:
    """Return the one user that all processes belong to; None if there are several."""
    return next(iter(owners)) if len(owners) == 1 else None


def readable(
    outcomes: Iterator[tuple[int, Answer | Exception]],
    unreadable: list[Unreadable],
    typed: Collection[int] = (),
) -> Iterator[tuple[int, Answer]]:
    """Do what `answered` does; raise OSError if some cannot be read, and none can.

    The error lists the pids that someone typed.
    """
    any_read = False
    for pid, answer in answered(outcomes, unreadable):
        any_read = True
        yield pid, answer
    if unreadable and not any_read:
        raise OSError(summary(unreadable, typed))


def answered(
    outcomes: Iterator[tuple[int, Answer | Exception]], unreadable: list[Unreadable]
) -> Iterator[tuple[int, Answer]]:
    """Yield the answers. Note why a process could not be read.

    One without memory, or that has ended, is skipped.
    """
    for pid, outcome in outcomes:
        if not isinstance(outcome, Exception):
            yield pid, outcome
        elif not isinstance(outcome, ProcessLookupError):
            unreadable.append(Unreadable(pid, name_of(pid), reason(outcome)))


def reason(error: Exception) -> str:
    """Return in words why a process could not be read."""
    if os.environ.get("FASTPAGEMAP_TRACEBACK") and not isinstance(error, (OSError, MemoryError)):
        raise error
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".removesuffix(": ")
    return f"unexpected {type(error).__name__}: {error}"
