"""Rows about several processes: what each of a group has, and who shares memory with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastpagemap.report.report import About, Report, Unreadable, Usage
from fastpagemap.report.text import human, printable

__all__ = ["GROUP_SIZES", "MEMBER_SIZES", "SHARER_SIZES", "Sharer", "last_sizes", "notes"]
__all__ += ["of_group", "of_sharers", "table_columns", "total_of"]

#: What is told of each process of a group.
MEMBER_SIZES = ("rss", "pss", "uss", "swapped", "swapped_pss", "swapped_uss", "unknown")
#: What is told of each process that shares memory with one.
SHARER_SIZES = ("overlap", "mapped")

#: What is told of a group alone.
GROUP_SIZES = ("union", "unique", "swapped_union", "swapped_unique")

# The columns of a table about a group: its last line has some that its rows do not have.
_IN_TABLES = (
    *("rss", "pss", "uss", "union", "unique"),
    *("swapped", "swapped_pss", "swapped_uss", "swapped_union", "swapped_unique", "unknown"),
)
# Ended processes that a note lists: a cgroup may have all threads of the kernel.
_MAX_LISTED = 12
_NEED_FRAMES = "union", "unique", "swapped_union"
_NEED_OTHERS = "swapped_unique", "swapped_pss", "swapped_uss"


class Sharer(NamedTuple):
    """A process that maps memory of another one, and how much, in bytes."""

    pid: int
    name: str
    overlap: int
    mapped: int


def of_group(
    about: About,
    names: dict[int, str],
    usage: Usage,
    total: dict[str, int],
    ended: Sequence[int] = (),
    unreadable: Sequence[Unreadable] = (),
    commands: Mapping[int, str] = MappingProxyType({}),
) -> Report:
    """Return a report with a row for each process of a group.

    Parameters
    ----------
    about : About
        When and where it was read.
    names : dict of int to str
        The name of each process.
    usage : ndarray
        As ``Group.usage`` returns it.
    total : dict of str to int
        What ``Group.total`` returns.
    ended : sequence of int
        The processes that ended before they were counted.
    unreadable : sequence of Unreadable
        Those that are not counted either.
    commands : mapping of int to str
        The command lines, of those that have given theirs.
    """
    labels = _labels(usage["pid"].tolist(), names, commands)
    columns = [name for name in MEMBER_SIZES if name in (usage.dtype.names or ())]
    sizes = usage[columns].astype([(name, np.uint64) for name in columns])
    more = {"ended": list(ended)}
    return Report(about, "member", labels, sizes, list(unreadable), more, total)


def of_sharers(
    about: About,
    mapped: int,
    shared: int,
    found: Sequence[Sharer],
    unreadable: Sequence[Unreadable] = (),
    commands: Mapping[int, str] = MappingProxyType({}),
) -> Report:
    """Return a report with a row for each process that maps memory of one, the largest first.

    Parameters
    ----------
    about : About
        Whose memory it is.
    mapped, shared : int
        How many bytes that process maps, and how many of them any other process maps, too.
    found : sequence of Sharer
    unreadable : sequence of Unreadable
        Those that were not asked.
    commands : mapping of int to str
        As for `of_group`.
    """
    found = sorted(found, key=lambda one: -one.overlap)
    sizes = np.zeros(len(found), [(name, np.uint64) for name in SHARER_SIZES])
    for name in SHARER_SIZES:
        sizes[name] = [getattr(one, name) for one in found]
    names = {one.pid: one.name for one in found}
    labels = _labels(list(names), names, commands)
    more, any_other = {"mapped": mapped}, {"overlap": shared}
    return Report(about, "sharer", labels, sizes, list(unreadable), more, any_other)


def _labels(
    pids: list[int], names: Mapping[int, str], commands: Mapping[int, str]
) -> dict[str, list[Any]]:
    return {
        "pid": pids,
        "name": [names.get(pid, "") for pid in pids],
        "command": [commands.get(pid, "") for pid in pids],
    }


def table_columns(report: Report) -> tuple[str, ...]:
    """Return the columns of a table: those of the rows, and those of the last line alone."""
    if report.shown or report.by != "member":
        return report.shown or report.columns
    return tuple(
        name for name in _IN_TABLES if name in report.columns or name in (report.together or ())
    )


def last_sizes(report: Report, columns: Sequence[str]) -> list[int | None]:
    """Return the sizes of a table's last line; None where it has none."""
    if report.together is None:
        return [report.total(name) for name in columns]
    return [report.together.get(name) for name in columns]


def total_of(report: Report, column: str) -> int:
    """Return a size that is 0 only where the column of a table is 0 everywhere."""
    rows = report.total(column) if column in report.columns else 0
    return rows + (report.together or {}).get(column, 0)


def _ended(pids: Sequence[int]) -> Iterator[str]:
    if len(pids) == 1:
        yield f"process {pids[0]} has ended, or has no memory: it is left out"
    elif pids:
        some = ", ".join(map(str, pids[:_MAX_LISTED]))
        more = f" and {len(pids) - _MAX_LISTED} more" if len(pids) > _MAX_LISTED else ""
        yield f"processes {some}{more} have ended, or have no memory: they are left out"


def notes(report: Report) -> Iterator[str]:
    """Yield what is to be said of a group beside its table."""
    if report.by != "member":
        return
    total = report.together or {}
    yield from _ended(report.more["ended"])
    if _NEED_FRAMES[0] not in total:
        yield (
            f"without {', '.join(_NEED_FRAMES)}: these need CAP_SYS_ADMIN, and root's "
            "/proc/kpagecount"
        )
    elif missing := [name for name in _NEED_OTHERS if name not in (*total, *report.columns)]:
        yield (
            f"without {', '.join(missing)}: another process cannot be read or seen, and may have "
            "swap"
        )
    if total.get("changed"):
        yield printable(f"{human(total['changed'])} was unmapped while it was counted")
