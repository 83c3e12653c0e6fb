"""Ask for each allocation that memray has recorded of a process, and that is still alive."""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy.typing as npt

from fastpagemap.cli import asking
from fastpagemap.cli.progress import waiting
from fastpagemap.engine.memray_capture import Stack, alive, open_capture, process_of, read
from fastpagemap.pagemap import PageMap
from fastpagemap.process.namespaces import own_number
from fastpagemap.report import allocations

__all__ = ["Found", "look"]


class Found(NamedTuple):
    """Live allocations, their stacks and what is there of them; and what the process has in all."""

    live: npt.NDArray[Any]
    stacks: dict[int, Stack]
    residency: npt.NDArray[Any]
    process: dict[str, int]

    def by_site(self) -> allocations.Allocations:
        """Return the sums by call site."""
        return allocations.by_site(*self)

    def by_stack(self) -> tuple[list[Stack], dict[str, npt.NDArray[Any]]]:
        """Return stacks, the outermost frame first, and their sums."""
        return allocations.by_stack(self.live, self.stacks, self.residency)


def look(
    pid: int, capture: str, *, starter: str | None = None, timeout: float | None = None
) -> Found:
    """Read a capture file, then ask its process; `starter` is as for `memray_capture.read`.

    Raises
    ------
    OSError
        memray does not record the process into the file, or one of them cannot be read.
    """
    with waiting("looking at what is allocated"):
        asking.about(pid, functools.partial(_residency, capture=capture, live=None), timeout)
        events, stacks = _read(pid, capture, starter)
        live = alive(events)
        ask = functools.partial(_residency, capture=capture, live=live)
        residency, process = asking.about(pid, ask, timeout)
    return Found(live, stacks, residency, process)


def _read(pid: int, capture: str, starter: str | None) -> tuple[Any, dict[int, Stack]]:
    own = own_number(pid)
    try:
        with open_capture(capture) as reader:
            recorded = process_of(reader)
            if recorded == own:
                return read(reader, starter)
    except OSError as error:
        raise OSError(f"{capture}: {error}") from error
    except (ValueError, LookupError) as error:  # names that are no text, numbers of no stack
        raise OSError(f"{capture} is damaged: memray cannot read it: {error}") from error
    # a forked child maps its parent's file, too
    raise OSError(f"{capture} is of process {recorded}, which memray records into it")


def _residency(pid: int, capture: str, live: npt.NDArray[Any] | None) -> Any:
    """Return the residency of allocations, and sums of the process; nothing if there are none."""
    with PageMap(pid) as pagemap:
        if not _records(pagemap, capture):
            raise OSError(f"memray does not record it at this moment into {capture}")
        if live is None:
            return None
        residency = pagemap.residency(live["address"], live["size"])
        columns = "present", "swapped"
        usage = pagemap.usage(fields=columns)
    return residency, {name: int(usage[name].sum()) for name in columns}


def _records(pagemap: PageMap, capture: str) -> bool:
    """Return whether a process maps a capture file, as memray does as long as it records.

    Not yet, or not any more, after an exec. In a container the file may have another path.
    """
    about, name = os.stat(capture), os.path.basename(capture)
    return any(
        mapping.path == capture
        or (mapping.inode == about.st_ino and os.path.basename(mapping.path) == name)
        for mapping in pagemap.mappings()
    )
