"""What is read of each process for metrics, and what its group is called."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from .._kernel.descriptor import open_file
from .._kernel.lines import read_all
from ..process import stat
from ..process.capabilities import categories
from ..process.cgroups import cgroup_of, unit_of
from ..process.namespaces import directory_of
from ..processes import usage_of
from .errand import MAX_LEFT_BEHIND, Errand

__all__ = ["GROUPINGS", "PATIENCE_S", "Reader", "cheap_fields", "rows"]

Rows: TypeAlias = tuple[list[tuple[int, dict[str, int]]], int]
"""Pids with their bytes by column, and how many processes with memory could not be read."""

#: Seconds that a process may keep its reader waiting. Once one has done that, the others have less
#: in the same scrape: Prometheus gives up after 10 s.
PATIENCE_S = 1.0
_SHORT_S = 0.2
_CHEAP = ("size", "present", "swapped", "swapped_shared", "unknown")


def _name_of(pid: int) -> str:
    its = stat.read(pid)
    return its.name if its else ""


def _by_cgroup(tell: Callable[[bytes], str | None]) -> Callable[[int], str]:
    """Return what names the group of a process by what its /proc/PID/cgroup tells."""

    def name(pid: int) -> str:
        try:
            file = open_file(f"{directory_of(pid)}/cgroup", os.O_RDONLY)
            return tell(read_all(file.fd, "cgroup")) or ""
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return ""

    return name


#: What the group of a process is called, by what they are grouped by; empty if it has ended.
GROUPINGS: dict[str, Callable[[int], str]] = {
    "name": _name_of,
    "cgroup": _by_cgroup(cgroup_of),
    "unit": _by_cgroup(unit_of),
}


def cheap_fields() -> tuple[str, ...]:
    """Return the columns of ``PageMap.usage`` that are counted at every scrape."""
    return (*_CHEAP, *(("huge",) if categories() else ()))


def rows(processes: Iterable[Any], fields: tuple[str, ...]) -> Rows:
    """Read processes, one after the other."""
    left_out: dict[int, Exception] = {}
    found = usage_of(processes, fields=fields, left_out=left_out)
    columns = [found[name].tolist() for name in fields]
    sizes = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
    unreadable = [each for each in left_out.values() if not isinstance(each, ProcessLookupError)]
    return list(zip(found["pid"].tolist(), sizes, strict=True)), len(unreadable)


class Reader:
    """Reads processes; those that keep their memory locked are left out until they let go."""

    def __init__(self) -> None:
        self._locked: dict[int, Errand[Rows]] = {}

    def rows(self, processes: Iterable[Any], fields: tuple[str, ...]) -> Rows:
        """Read processes, as ``rows`` does; one that is locked is one that cannot be read.

        Raises
        ------
        TimeoutError
            Too many threads of this object still wait for processes that have not let go.
        """
        wanted, patience = list(processes), PATIENCE_S
        while True:
            self._locked = {pid: each for pid, each in self._locked.items() if each.is_alive()}
            if len(self._locked) >= MAX_LEFT_BEHIND:
                raise TimeoutError(f"{len(self._locked)} processes keep their memory locked")
            left = [each for each in wanted if _pid(each) not in self._locked]
            turns = _Turns(left)
            errand = Errand(functools.partial(rows, turns, fields))
            if errand.ends(patience):
                found, unreadable = errand.answer()
                return found, unreadable + len(
                    {_pid(each) for each in wanted} & self._locked.keys()
                )
            turns.given_up = True
            self._locked[turns.current] = errand
            patience = _SHORT_S


class _Turns:
    """Processes one after the other; it is known whose turn it is."""

    def __init__(self, processes: list[Any]) -> None:
        self._processes = processes
        self.current, self.given_up = 0, False

    def __iter__(self) -> Iterator[Any]:
        for each in self._processes:
            if self.given_up:
                return
            self.current = _pid(each)
            yield each


def _pid(process: Any) -> Any:
    return getattr(process, "pid", process)
