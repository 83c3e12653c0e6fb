"""Collect what ``fastpagemap report`` shows, apart from how it is drawn."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastpagemap import PAGE_SIZE, Mapping, PageMap
from fastpagemap.cli.kinds import kinds
from fastpagemap.engine.usage import COLUMNS

if TYPE_CHECKING:
    from fastpagemap import Snapshot
    from fastpagemap.snapshot.diff import Diff

Usage = np.ndarray[Any, np.dtype[np.void]]
Labels = dict[str, list[Any]]

#: All columns of sizes there can be, in bytes; a kernel may lack soft_dirty and huge.
SIZES = tuple(name for name in COLUMNS if name not in ("start", "end"))
#: What else is known of a row, by what rows are.
LABELS = {
    "mapping": ("start", "end", "permissions", "offset", "device", "inode", "kind", "path"),
    "process": ("pid", "mappings", "name"),
    "path": ("mappings", "path"),
    "kind": ("mappings", "kind"),
}


class About(NamedTuple):
    """Whose memory it is, or was, and when it was looked at."""

    pid: int | None
    name: str
    time: float
    kernel: str
    page_size: int
    snapshot: bool = False
    #: The user whose memory it is; None where it is not known, or several users'.
    uid: int | None = None


class Unreadable(NamedTuple):
    """A process that could not be read, and why."""

    pid: int
    name: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Rows of what is in memory, in bytes.

    Attributes
    ----------
    about : About
        The process, or the machine.
    by : str
        What a row is: a ``mapping``, a ``process``, or all mappings of a ``path`` or ``kind``.
    labels : dict of str to list
        What else is known of each row: the columns of ``LABELS[by]``.
    usage : ndarray
        Structured, the columns of ``SIZES`` that this kernel could fill, row for row.
    unreadable : list of Unreadable
        The processes that are not in it, though they have memory.
    more : dict
        What else there is to say: of a comparison, what was compared.
    """

    about: About
    by: str
    labels: Labels
    usage: Usage
    unreadable: list[Unreadable] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.usage)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of sizes there are."""
        return self.usage.dtype.names or ()

    def total(self, column: str) -> int:
        """Sum one column, in bytes."""
        return int(self.usage[column].sum())

    def taken(self, rows: Any) -> Report:
        """Return the rows of these indices, or for which a mask is true."""
        rows = np.arange(len(self))[rows]
        labels = {
            name: [values[row] for row in rows.tolist()] for name, values in self.labels.items()
        }
        return replace(self, labels=labels, usage=self.usage[rows])


def of_mappings(about: About, mappings: Sequence[Mapping], usage: Usage) -> Report:
    """Return a report with a row for each mapping."""
    found = list(zip(*mappings, strict=True)) or [()] * len(Mapping._fields)
    columns = dict(zip(Mapping._fields, map(list, found), strict=True))
    columns["kind"] = kinds(mappings)
    labels = {name: columns[name] for name in LABELS["mapping"]}
    return Report(about, "mapping", labels, _sizes(usage))


def collect(pid: int) -> Report:
    """Read the mappings of a process and their usage."""
    with PageMap(pid) as pagemap:
        mappings = pagemap.mappings()
        usage = pagemap.usage(mappings)
        uid = pagemap.uid
    return of_mappings(_now(pid, name_of(pid), uid), mappings, usage)


def of_snapshot(snapshot: Snapshot) -> Report:
    """Return a report of what a process's memory was."""
    return of_mappings(_then(snapshot), snapshot.mappings, snapshot.usage())


def of_diff(diff: Diff) -> Report:
    """Return a report of what has changed, with a row for each mapping in which anything has."""
    whole = of_mappings(_then(diff.after), diff.rows, diff.usage())
    changed = np.zeros(len(whole), bool)
    for name in whole.columns:
        if name != "size":
            changed |= whole.usage[name] != 0
    found = whole.taken(changed)
    found.more.update(
        before=_then(diff.before),
        same_process=diff.same_process,
        mapped=sum(mapping.end - mapping.start for mapping in diff.mapped),
        unmapped=sum(mapping.end - mapping.start for mapping in diff.unmapped),
    )
    return found


def _then(snapshot: Snapshot) -> About:
    return About(
        snapshot.pid,
        snapshot.name,
        snapshot.time,
        snapshot.kernel,
        snapshot.page_size,
        True,
        snapshot.uid,
    )


def collect_all(
    pids: Iterable[int], group: str | None = None, choose: Callable[[Report], Report] | None = None
) -> Report:
    """Read processes, one after the other.

    Parameters
    ----------
    pids : iterable of int
        Those to read.
    group : {'path', 'kind'}, optional
        What a row is; a process by default.
    choose : callable, optional
        Takes the report of one process, gives it back with the mappings that are to count.
    """
    return _whole(pids) if group is None else _of_each(pids, group, choose)


def _whole(pids: Iterable[int]) -> Report:
    """Return a report with a row for each process: its mappings need not be told apart."""
    unreadable: list[Unreadable] = []
    owners: set[int | None] = set()
    labels: Labels = {label: [] for label in LABELS["process"]}
    sums: list[Any] = []
    names: Sequence[str] = SIZES
    for pid in pids:
        name = name_of(pid)
        with _noting(unreadable, pid, name), PageMap(pid) as pagemap:
            usage = pagemap.usage()
            names = usage.dtype.names or ()
            # all its columns are uint64
            owners.add(pagemap.uid)
            sums.append(usage.view(np.uint64).reshape(-1, len(names)).sum(axis=0))
            for label, value in (("pid", pid), ("mappings", len(usage)), ("name", name)):
                labels[label].append(value)
    usage = np.zeros(len(sums), [(name, np.uint64) for name in names])
    for index, name in enumerate(names):
        usage[name] = [row[index] for row in sums]
    about = _now(None, "", _only(owners))
    return Report(about, "process", labels, _sizes(usage), unreadable)


def _of_each(pids: Iterable[int], group: str, choose: Callable[[Report], Report] | None) -> Report:
    """Return the sums, over all processes, of the mappings that have a label in common."""
    unreadable: list[Unreadable] = []
    owners: set[int | None] = set()
    labels: Labels = {label: [] for label in LABELS[group]}
    usages: list[Usage] = [np.zeros(0, [(name, np.uint64) for name in SIZES])]
    for pid in pids:
        with _noting(unreadable, pid, name_of(pid)):
            one = collect(pid)
            owners.add(one.about.uid)
            one = grouped(choose(one) if choose else one, group)
            for label in labels:
                labels[label] += one.labels[label]
            usages.append(one.usage)
    usage = np.concatenate(usages[1:] or usages)
    about = _now(None, "", _only(owners))
    return grouped(Report(about, group, labels, usage, unreadable), group)


def _only(owners: set[int | None]) -> int | None:
    """Return the one user that all processes belong to; None if there are several."""
    return next(iter(owners)) if len(owners) == 1 else None


@contextlib.contextmanager
def _noting(unreadable: list[Unreadable], pid: int, name: str) -> Iterator[None]:
    """Note why a process could not be read; one that has no memory, or has gone, is left out."""
    try:
        yield
    except ProcessLookupError:
        pass
    except OSError as error:
        unreadable.append(Unreadable(pid, name, error.strerror or str(error)))


def grouped(report: Report, label: str) -> Report:
    """Return the sums of all rows that have a label in common, in the order of first appearance."""
    order = dict.fromkeys(report.labels[label])
    number = {value: index for index, value in enumerate(order)}
    which = np.array([number[value] for value in report.labels[label]], np.intp)
    return _summed(report, which, len(number), label, {label: list(number)})


def _summed(report: Report, which: Any, count: int, by: str, labels: Labels) -> Report:
    usage = np.zeros(count, report.usage.dtype)
    for name in report.columns:
        np.add.at(usage[name], which, report.usage[name])
    each = report.labels.get("mappings", np.ones(len(report), np.intp))
    mappings = np.zeros(count, np.intp)
    np.add.at(mappings, which, each)
    labels = {"mappings": mappings.tolist(), **labels}
    return replace(report, by=by, labels=labels, usage=usage)


def processes() -> list[int]:
    """Return the pids of all processes, in order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def name_of(pid: int) -> str:
    """Return the name ps shows, or nothing where it cannot be read: only the title needs it."""
    try:
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(fd, 256)).removesuffix("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _now(pid: int | None, name: str, uid: int | None = None) -> About:
    return About(pid, name, time.time(), os.uname().release, PAGE_SIZE, uid=uid)


def _sizes(usage: Usage) -> Usage:
    """Return the columns of sizes alone."""
    names = [name for name in usage.dtype.names or () if name not in ("start", "end")]
    return usage[names].astype([(name, np.uint64) for name in names])


def rows(report: Report, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the named columns of each row, sizes as ints."""
    columns = [
        report.labels[name] if name in report.labels else report.usage[name].tolist()
        for name in names
    ]
    return zip(*columns, strict=True)
