"""Where the machine's swap is, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from fastpagemap.engine.machine_swap import Unmapped
from fastpagemap.report.aligned import aligned
from fastpagemap.report.formats import FORMAT, where
from fastpagemap.report.report import About, Unreadable
from fastpagemap.report.text import ending, human, plural

__all__ = ["MachineSwap", "Row", "json_lines", "plain"]

_COLUMNS = ("private", "shared", "pss", "uss")


@dataclass(frozen=True)
class Row:
    """What a process has in swap, in bytes; `unknown`: what may be there or not."""

    pid: int
    name: str
    private: int
    shared: int
    pss: int
    uss: int
    unknown: int


@dataclass(frozen=True)
class MachineSwap:
    """Where the swap of a machine is, in bytes, each place once.

    `used_before` and `used` are what meminfo says, before the processes were read and afterwards.
    """

    rows: list[Row]
    unmapped: list[Unmapped]
    in_processes: int
    in_unmapped: int
    used_before: int
    used: int
    cached: int
    # Notes on what could not be looked at.
    notes: list[str] = field(default_factory=list)

    @property
    def unexplained(self) -> int:
        """What meminfo counted all the while, and was not found."""
        return max(0, -self.surplus)

    @property
    def surplus(self) -> int:
        """What was found beyond what meminfo counted all the while: swap changes meanwhile."""
        return self.in_processes + self.in_unmapped - min(self.used_before, self.used)


def plain(found: MachineSwap, width: int | None = None) -> Iterator[str]:
    """Yield a line for each process, one for each file that none maps, and the sums.

    `width`: the columns of a terminal; None in a pipe.
    """
    rows = sorted(found.rows, key=lambda row: (-row.pss, row.pid))
    cells = [
        [str(row.pid), *(human(getattr(row, name)) for name in _COLUMNS), row.name] for row in rows
    ]
    cells.append(["total", "-", "-", human(found.in_processes), "-", _counted(rows)])
    yield from aligned(("pid", *_COLUMNS, "name"), cells, width)
    if found.unmapped:
        files = sorted(found.unmapped, key=lambda file: (-file.swapped, file.path))
        yield ""
        yield "shared memory that no process maps"
        yield from aligned(
            ("held_by", "swapped", "path"),
            [[str(file.pid or "-"), human(file.swapped), file.path] for file in files],
            width,
            ending,
        )
    yield ""
    yield from _sums(found)


def _counted(rows: Sequence[Row]) -> str:
    return f"{len(rows)} {plural(len(rows), 'process')}, each place once"


def _sums(found: MachineSwap) -> Iterator[str]:
    changed, more = found.used != found.used_before, found.surplus
    sums = [
        [human(found.used), "used (SwapTotal - SwapFree of /proc/meminfo)"],
        *([[human(found.used_before), "used when the reading began"]] if changed else []),
        [human(found.in_processes), "in processes"],
        [human(found.in_unmapped), "in shared memory that no process maps"],
        [human(found.unexplained), "unexplained"],
        *([[human(more), "more was found: swap changed meanwhile"]] if more > 0 else []),
        [human(found.cached), "in RAM as well (SwapCached): it may explain as much"],
    ]
    width = max(len(size) for size, _ in sums)
    for size, what in sums:
        yield f"{size.rjust(width)}  {what}"
    unknown = sum(row.unknown for row in found.rows)
    if unknown:
        yield f"{human(unknown).rjust(width)}  of shared memory may be in swap or not"


def json_lines(found: MachineSwap, unreadable: Sequence[Unreadable], about: About) -> Iterator[str]:
    """Yield the lines of one JSON object, in bytes."""
    whole = {
        "format": FORMAT,
        **where(about),
        "rows_are": "process",
        **asdict(found),
        "unexplained": found.unexplained,
        "unreadable": [one._asdict() for one in unreadable],
    }
    yield from json.dumps(whole, indent=2).splitlines()
