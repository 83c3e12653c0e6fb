"""Where a snapshot comes from: of which process, when, on which kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastpagemap.report.text import human, printable
from fastpagemap.snapshot.snapshot import Snapshot

__all__ = ["lines"]

#: Characters of a command line.
MAX_COMMAND = 100


def lines(snapshot: Snapshot) -> Iterator[str]:
    """Yield a line for each thing that is known, beside what the kernel could answer."""
    process = f"{snapshot.pid} {printable(snapshot.name)}"
    found = {"process": process if snapshot.pid else "not known: made from saved entries"}
    if snapshot.command:
        rest = "" if len(snapshot.command) <= MAX_COMMAND else "…"
        found["command"] = printable(snapshot.command[:MAX_COMMAND]) + rest
    if snapshot.uid is not None:
        found["user id"] = str(snapshot.uid)
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(snapshot.time))
    found["taken" if snapshot.pid else "entries read"] = when
    found["kernel"] = f"Linux {printable(snapshot.kernel)}, {printable(snapshot.machine)}"
    size = human(sum(mapping.end - mapping.start for mapping in snapshot.mappings))
    found["mappings"] = f"{len(snapshot.mappings)}, of {size}"
    found["runs of pages"] = str(len(snapshot.states))
    for name, value in found.items():
        yield f"{name:<21} {value}"
