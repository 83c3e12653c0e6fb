"""Collect what ``fastpagemap report`` shows, apart from how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpagemap import Mapping, PageMap


@dataclass(frozen=True)
class Report:
    """The mappings of one process and, row for row, what is in them in bytes."""

    pid: int
    name: str
    mappings: list[Mapping]
    usage: np.ndarray[Any, np.dtype[np.void]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of sizes this kernel could fill."""
        return tuple(name for name in self.usage.dtype.names or () if name not in ("start", "end"))

    def total(self, column: str) -> int:
        """Sum one column, in bytes."""
        return int(self.usage[column].sum())


def collect(pid: int) -> Report:
    """Read the mappings of a process and their usage."""
    with PageMap(pid) as pagemap:
        mappings = pagemap.mappings()
        return Report(pid, _name(pid), mappings, pagemap.usage(mappings))


def _name(pid: int) -> str:
    """Return the name ps shows, or nothing where it cannot be read: only the title needs it."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
