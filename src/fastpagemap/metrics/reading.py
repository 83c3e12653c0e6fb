"""What is read of each process for metrics, and what its group is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from .._kernel.descriptor import open_file
from .._kernel.lines import read_all
from ..process import stat
from ..process.capabilities import categories
from ..process.cgroups import cgroup_of, unit_of
from ..process.namespaces import directory_of
from ..processes import usage_of

__all__ = ["GROUPINGS", "cheap_fields", "rows"]

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


def rows(
    processes: Iterable[Any], fields: tuple[str, ...]
) -> tuple[list[tuple[int, dict[str, int]]], int]:
    """Return the pid of each process that can be read, and its bytes by column.

    Also how many cannot be read, though they have memory.
    """
    left_out: dict[int, Exception] = {}
    found = usage_of(processes, fields=fields, left_out=left_out)
    columns = [found[name].tolist() for name in fields]
    sizes = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
    unreadable = [each for each in left_out.values() if not isinstance(each, ProcessLookupError)]
    return list(zip(found["pid"].tolist(), sizes, strict=True)), len(unreadable)
