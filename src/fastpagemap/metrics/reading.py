"""What is read of each process for metrics, and what its group is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from ..engine.process_sums import sums_of
from ..process.cgroups import cgroup_of, unit_of
from ..process.probes import categories
from ..process.process import Process
from ..processes import outcomes
from .errand import MAX_LEFT_BEHIND, Errand

__all__ = ["GROUPINGS", "PATIENCE_S", "Reader", "cheap_fields", "rows"]


class Row(NamedTuple):
    """A process that was read: what its group is called, its pid, and its bytes by column."""

    name: str
    pid: int
    sizes: dict[str, int]


Rows: TypeAlias = tuple[list[Row], int]
"""Processes, and how many of those with memory could not be read."""

Name: TypeAlias = Callable[[Process], str]

#: Seconds that a process may keep its reader waiting. Once one has done that, the others have less
#: in the same scrape, and all together no more than these: Prometheus gives up after 10 s.
PATIENCE_S = 1.0
_SHORT_S, _MAX_WAITED_S = 0.2, 4.0
_CHEAP = ("size", "present", "swapped", "swapped_shared", "unknown")


def _name_of(process: Process) -> str:
    with process.outlived():
        return process.name()


def _by_cgroup(tell: Callable[[bytes], str | None]) -> Name:
    """Return what names the group of a process by what its /proc/PID/cgroup tells."""

    def name(process: Process) -> str:
        try:
            with process.outlived():
                return tell(process.read("cgroup")) or ""
        except (FileNotFoundError, PermissionError):  # a kernel without cgroups, a sandbox
            return ""

    return name


#: What the group of a process is called, by what they are grouped by; empty if that is not known.
GROUPINGS: dict[str, Name] = {
    "name": _name_of,
    "cgroup": _by_cgroup(cgroup_of),
    "unit": _by_cgroup(unit_of),
}


def cheap_fields() -> tuple[str, ...]:
    """Return the columns of ``PageMap.usage`` that are counted at every scrape."""
    return (*_CHEAP, *(("huge",) if categories() else ()))


def rows(
    processes: Iterable[Any], fields: tuple[str, ...], name: Name = lambda process: ""
) -> Rows:
    """Read processes, one after the other."""
    reading = _Reading(list(processes), fields, name)
    reading()
    return _rows_of(reading.found)


def _rows_of(found: dict[int, Row | Exception]) -> Rows:
    processes, unreadable = [], 0
    for outcome in found.values():
        if not isinstance(outcome, Exception):
            processes.append(outcome)
        elif not isinstance(outcome, ProcessLookupError):
            unreadable += 1
    return processes, unreadable


class Reader:
    """Reads processes; those that keep their memory locked are left out until they let go.

    Parameters
    ----------
    name : callable
        What the group of a process is called. It is asked of the process that was read, as another
        one may have its pid right after.
    """

    def __init__(self, name: Name) -> None:
        self._name = name
        self._locked: dict[Any, Errand[None]] = {}
        self._answered: set[Any] = set()

    def rows(self, processes: Iterable[Any], fields: tuple[str, ...]) -> Rows:
        """Read processes, as ``rows`` does; one that is locked is one that cannot be read.

        So is one for which there is no time or no thread left. Those that have answered before come
        first, and more threads may wait for them: new ones do not keep them from being read,
        however many of these are locked.
        """
        self._locked = {pid: each for pid, each in self._locked.items() if each.is_alive()}
        listed = list(processes)
        pids = {_pid(each) for each in listed}
        self._answered &= pids
        left = [each for each in listed if _pid(each) not in self._locked]
        known = [each for each in left if _pid(each) in self._answered]
        new = [each for each in left if _pid(each) not in self._answered]
        found: dict[int, Row | Exception] = {}
        waited = self._read(known, fields, found, 2 * MAX_LEFT_BEHIND, 0.0)
        self._read(new, fields, found, MAX_LEFT_BEHIND, waited)
        self._answered |= found.keys()
        rows, unreadable = _rows_of(found)
        return rows, unreadable + len(pids - found.keys())

    def _read(
        self,
        left: list[Any],
        fields: tuple[str, ...],
        found: dict[int, Row | Exception],
        most: int,
        waited: float,
    ) -> float:
        """Read processes while fewer than `most` threads wait; return the seconds waited so far."""
        while left and len(self._locked) < most and waited < _MAX_WAITED_S:
            reading = _Reading(left, fields, self._name)
            errand, patience = Errand(reading), _SHORT_S if waited else PATIENCE_S
            if errand.ends(patience):
                errand.answer()
                left = []
            else:
                waited += patience
                locked, left = reading.give_up()
                self._locked[_pid(locked)] = errand
            _add(reading.found.copy().items(), found)
        return waited


class _Reading:
    """Reads processes one after the other; it is known whose turn it is, and what was found."""

    def __init__(self, processes: list[Any], fields: tuple[str, ...], name: Name) -> None:
        self._processes, self._fields, self._name = processes, fields, name
        self._turns, self._given_up = 0, False
        self.found: dict[int, Row | Exception] = {}

    def __call__(self) -> None:
        _add(outcomes(self._each(), self._ask), self.found)

    def _ask(self, process: Process) -> Row:
        sizes = sums_of(process, self._fields, counted=False).sizes
        return Row(self._name(process), process.pid, dict(zip(self._fields, sizes, strict=True)))

    def give_up(self) -> tuple[Any, list[Any]]:
        """Read no more; return the process whose turn it is, and those that come after it."""
        self._given_up = True
        turns = max(self._turns, 1)
        return self._processes[turns - 1], self._processes[turns:]

    def _each(self) -> Iterator[Any]:
        for each in self._processes:
            if self._given_up:
                return
            self._turns += 1
            yield each


def _add(more: Iterable[tuple[int, Row | Exception]], found: dict[int, Row | Exception]) -> None:
    """Add outcomes, but none that only tells why a process that has one could not be read."""
    for pid, outcome in more:
        if not isinstance(outcome, Exception) or pid not in found:
            found[pid] = outcome


def _pid(process: Any) -> Any:
    return getattr(process, "pid", process)
