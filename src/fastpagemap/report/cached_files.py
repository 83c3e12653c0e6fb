"""What of files is in the page cache, and who maps them: as tables, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from fastpagemap.report.aligned import aligned, size
from fastpagemap.report.formats import FORMAT, where
from fastpagemap.report.report import About, Unreadable
from fastpagemap.report.text import ending, printable

__all__ = ["CachedFile", "User", "json_lines", "plain"]

_SIZES = ("size", "allocated", "cached", "dirty", "writeback", "swapped")


@dataclass(frozen=True)
class User:
    """A process that maps a file: how much of it, and how much is present there, in bytes."""

    pid: int
    name: str
    mapped: int
    present: int


@dataclass(frozen=True)
class CachedFile:
    """A file, and what of it is in the page cache, in bytes; None where that cannot be known."""

    path: str
    size: int
    allocated: int
    cached: int
    dirty: int | None
    writeback: int | None
    swapped: int | None
    processes: list[User] = field(default_factory=list)


def plain(files: Sequence[CachedFile], width: int | None = None) -> Iterator[str]:
    """Yield a line for each file, and below them, for each that is mapped, its processes.

    `width`: the columns of a terminal; None in a pipe.
    """
    rows = [
        [*(size(getattr(file, name)) for name in _SIZES), str(len(file.processes)), file.path]
        for file in files
    ]
    yield from aligned((*_SIZES, "processes", "path"), rows, width, ending)
    for file in files:
        if file.processes:
            users = sorted(file.processes, key=lambda user: (-user.present, user.pid))
            yield ""
            yield f"processes that map {printable(file.path)}"
            yield from aligned(
                ("pid", "mapped", "present", "name"),
                [
                    [str(user.pid), size(user.mapped), size(user.present), user.name]
                    for user in users
                ],
                width,
            )


def json_lines(
    files: Sequence[CachedFile],
    refused: dict[str, str],
    unreadable: Sequence[Unreadable],
    about: About,
) -> Iterator[str]:
    """Yield the lines of one JSON object; sizes are in bytes, null where they cannot be known."""
    found = {
        "format": FORMAT,
        **where(about),
        "files": [asdict(file) for file in files],
        "refused": [{"path": path, "reason": reason} for path, reason in refused.items()],
        "unreadable": [one._asdict() for one in unreadable],
    }
    yield from json.dumps(found, indent=2).splitlines()
