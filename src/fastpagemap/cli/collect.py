"""Read processes for ``fastpagemap report``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from fastpagemap.cli.processes import name_of
from fastpagemap.pagemap import PageMap
from fastpagemap.process.backing import Backings
from fastpagemap.report.kinds import IsShmem
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


def collect(pid: int, *, owner: bool = False) -> Report:
    """Read the mappings of a process and their usage.

    Parameters
    ----------
    pid : int
        The process.
    owner : bool, optional
        Also read whose process it is. Only a file that is written needs to know.
    """
    with PageMap(pid) as pagemap:
        mappings = pagemap.mappings()
        usage = pagemap.usage(mappings)
        about = About.now(pid, name_of(pid), pagemap.uid if owner else None)
        return of_mappings(about, mappings, usage, _is_shmem_of(pagemap))


def _is_shmem_of(pagemap: PageMap) -> IsShmem:
    """Return what tells whether a mapping of a process is shared memory."""
    return Backings(pagemap._process()).is_shmem


def collect_all(
    pids: Iterable[int],
    group: str | None = None,
    choose: Callable[[Report], Report] | None = None,
    *,
    owner: bool = False,
) -> Report:
    """Read processes, one after the other.

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
    """
    return _by_process(pids, owner) if group is None else _by_group(pids, group, choose, owner)


def _by_process(pids: Iterable[int], owner: bool) -> Report:
    """Return a report with a row for each process."""
    unreadable: list[Unreadable] = []
    owners: set[int | None] = set()
    labels: Labels = {label: [] for label in LABELS["process"]}
    sums: list[Usage] = []
    names: Sequence[str] = SIZES
    for pid in pids:
        name = name_of(pid)
        with _noting(unreadable, pid, name), PageMap(pid) as pagemap:
            usage = pagemap.usage()
            names = usage.dtype.names or ()
            owners.add(pagemap.uid if owner else None)
            # all its columns are uint64
            sums.append(usage.view(np.uint64).reshape(-1, len(names)).sum(axis=0))
            for label, value in (("pid", pid), ("mappings", len(usage)), ("name", name)):
                labels[label].append(value)
    usage = np.zeros(len(sums), [(name, np.uint64) for name in names])
    for index, name in enumerate(names):
        usage[name] = [row[index] for row in sums]
    about = About.now(None, "", _only(owners))
    return Report(about, "process", labels, sizes_of(usage), unreadable)


def _by_group(
    pids: Iterable[int], group: str, choose: Callable[[Report], Report] | None, owner: bool
) -> Report:
    """Return the sums, over all processes, of the mappings that have the same path or kind."""
    unreadable: list[Unreadable] = []
    owners: set[int | None] = set()
    labels: Labels = {label: [] for label in LABELS[group]}
    usages: list[Usage] = [np.zeros(0, [(name, np.uint64) for name in SIZES])]
    for pid in pids:
        with _noting(unreadable, pid, name_of(pid)):
            one = collect(pid, owner=owner)
            owners.add(one.about.uid)
            one = grouped(choose(one) if choose else one, group)
            for label in labels:
                labels[label] += one.labels[label]
            usages.append(one.usage)
    usage = np.concatenate(usages[1:] or usages)
    about = About.now(None, "", _only(owners))
    return grouped(Report(about, group, labels, usage, unreadable), group)


def _only(owners: set[int | None]) -> int | None:
    """Return the one user that all processes belong to; None if there are several."""
    return next(iter(owners)) if len(owners) == 1 else None


@contextlib.contextmanager
def _noting(unreadable: list[Unreadable], pid: int, name: str) -> Iterator[None]:
    """Note why a process could not be read. One without memory, or that has ended, is skipped."""
    try:
        yield
    except ProcessLookupError:
        pass
    except OSError as error:
        unreadable.append(Unreadable(pid, name, error.strerror or str(error)))
