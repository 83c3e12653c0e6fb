"""Rows of what is in memory: the data that tables, files and notebooks show.

A `Report` is made from data: mappings and their usage, a snapshot, or a comparison of two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastpagemap.engine.cached import CACHE_COLUMNS
from fastpagemap.engine.shares import SHARE_COLUMNS
from fastpagemap.engine.usage import COLUMNS
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.kinds import IsShmem, kinds
from fastpagemap.model.mapping import Mapping

if TYPE_CHECKING:
    from fastpagemap.snapshot.data import SnapshotData
    from fastpagemap.snapshot.diff import Diff
    from fastpagemap.snapshot.snapshot import Snapshot

Usage = np.ndarray[Any, np.dtype[np.void]]
Labels = dict[str, list[Any]]

#: All columns of sizes, in bytes. A kernel may lack soft_dirty, huge and zero.
SIZES = tuple(name for name in COLUMNS if name not in ("start", "end"))
#: Columns that are dearer, so that they are filled only where they are asked for.
MORE_SIZES = (*SHARE_COLUMNS, *CACHE_COLUMNS)
#: The columns of a row that are not sizes, by what a row is.
LABELS: dict[str, tuple[str, ...]] = {
    "mapping": ("start", "end", "permissions", "offset", "device", "inode", "kind", "path"),
    "process": ("pid", "user", "parent", "threads", "mappings", "name", "command"),
    "path": ("mappings", "path"),
    "kind": ("mappings", "kind"),
    "member": ("pid", "name", "command"),
    "sharer": ("pid", "name", "command"),
}


class About(NamedTuple):
    """Whose memory a report shows, and when and where it was read."""

    pid: int | None
    name: str
    time: float
    kernel: str
    page_size: int
    snapshot: bool = False
    #: The user whose memory it is; None where it is not known, was not asked, or is several users'.
    uid: int | None = None
    #: Of one process: when it was started, as in /proc/PID/stat, and its memory's control group.
    start_time: int | None = None
    cgroup: str | None = None
    #: Where it was read, and since when that machine runs; None of a snapshot, which has neither.
    host: str | None = None
    boot_id: str | None = None
    #: When it was read, in seconds since boot: a clock that nobody sets; None of a snapshot.
    uptime: float | None = None

    @classmethod
    def now(
        cls,
        pid: int | None,
        name: str,
        uid: int | None = None,
        start_time: int | None = None,
        cgroup: str | None = None,
        host: str | None = None,
        boot_id: str | None = None,
    ) -> About:
        """Describe memory that was just read on this machine."""
        return cls(
            pid, name, time.time(), os.uname().release, PAGE_SIZE, uid=uid,
            start_time=start_time, cgroup=cgroup, host=host, boot_id=boot_id,
            uptime=time.clock_gettime(time.CLOCK_BOOTTIME),
        )  # fmt: skip

    @classmethod
    def of_snapshot(cls, snapshot: SnapshotData) -> About:
        """Describe the memory in a snapshot."""
        return cls(
            snapshot.pid,
            snapshot.name,
            snapshot.time,
            snapshot.kernel,
            snapshot.page_size,
            snapshot=True,
            uid=snapshot.uid,
        )


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
        What a row is: a ``mapping``, a ``process``, all mappings of a ``path`` or ``kind``, a
        ``member`` of a group of processes, or a ``sharer`` of one's memory.
    labels : dict of str to list
        The columns of ``LABELS[by]``, and those of a process's origin that were read.
    usage : ndarray
        Structured, the columns of ``SIZES`` that this kernel could fill, row for row.
    unreadable : list of Unreadable
        The processes that have memory but could not be read.
    more : dict
        Of a comparison: what was compared, and how much was mapped and unmapped.
    together : dict of str to int, optional
        The sizes of all rows together, where these are no sums: memory of several counts once.
    shown : tuple of str, optional
        The columns of a table about a group, if some were named: of rows, and of `together` alone.
    """

    about: About
    by: str
    labels: Labels
    usage: Usage
    unreadable: list[Unreadable] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    together: dict[str, int] | None = None
    shown: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.usage)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of sizes in this report."""
        return self.usage.dtype.names or ()

    def total(self, column: str) -> int:
        """Sum one column, in bytes."""
        return int(self.usage[column].sum())

    def take(self, rows: Any) -> Report:
        """Return a report of some rows, given by their indices or by a mask."""
        rows = np.arange(len(self))[rows]
        labels = {
            name: [values[row] for row in rows.tolist()] for name, values in self.labels.items()
        }
        return replace(self, labels=labels, usage=self.usage[rows])


def of_mappings(
    about: About, mappings: Sequence[Mapping], usage: Usage, is_shmem: IsShmem | None = None
) -> Report:
    """Return a report with a row for each mapping.

    Parameters
    ----------
    about : About
        Whose mappings they are.
    mappings : sequence of Mapping
        In the order of the rows of `usage`.
    usage : ndarray
        As ``PageMap.usage`` and ``Snapshot.usage`` return it.
    is_shmem : callable, optional
        Tells shared memory from other files; see `kinds`.
    """
    found = list(zip(*mappings, strict=True)) or [()] * len(Mapping._fields)
    columns = dict(zip(Mapping._fields, map(list, found), strict=True))
    columns["kind"] = kinds(mappings, is_shmem)
    labels = {name: columns[name] for name in LABELS["mapping"]}
    return Report(about, "mapping", labels, sizes_of(usage))


def of_snapshot(snapshot: Snapshot) -> Report:
    """Return a report of the memory in a snapshot."""
    return of_mappings(About.of_snapshot(snapshot), snapshot.mappings, snapshot.usage())


def of_diff(diff: Diff[Snapshot]) -> Report:
    """Return a report of what changed, with a row for each mapping in which anything changed."""
    whole = of_mappings(About.of_snapshot(diff.after), diff.rows, diff.usage())
    changed = np.zeros(len(whole), bool)
    for name in whole.columns:
        if name != "size":
            changed |= whole.usage[name] != 0
    found = whole.take(changed)
    found.more.update(
        before=About.of_snapshot(diff.before),
        same_process=diff.same_process,
        mapped=sum(mapping.end - mapping.start for mapping in diff.mapped),
        unmapped=sum(mapping.end - mapping.start for mapping in diff.unmapped),
    )
    return found


def grouped(report: Report, label: str) -> Report:
    """Sum the rows that have the same label. Groups stand in the order of their first rows."""
    number = {value: index for index, value in enumerate(dict.fromkeys(report.labels[label]))}
    group_of_row = np.array([number[value] for value in report.labels[label]], np.intp)
    usage = np.zeros(len(number), report.usage.dtype)
    for name in report.columns:
        np.add.at(usage[name], group_of_row, report.usage[name])
    counts = report.labels.get("mappings", np.ones(len(report), np.intp))
    mappings = np.zeros(len(number), np.intp)
    np.add.at(mappings, group_of_row, counts)
    labels = {"mappings": mappings.tolist(), label: list(number)}
    return replace(report, by=label, labels=labels, usage=usage)


def sizes_of(usage: Usage) -> Usage:
    """Return the columns of sizes, as uint64, without the addresses."""
    names = [name for name in usage.dtype.names or () if name not in ("start", "end")]
    return usage[names].astype([(name, np.uint64) for name in names])


def rows(report: Report, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the named columns of each row, sizes as ints; None where rows have no such column."""
    columns = [
        report.labels[name]
        if name in report.labels
        else report.usage[name].tolist()
        if name in report.columns
        else [None] * len(report)
        for name in names
    ]
    return zip(*columns, strict=True)
