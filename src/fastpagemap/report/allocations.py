"""What a program allocated, line by line, and how much of that is there: as a table, as JSON."""

from __future__ import annotations

import json
import linecache
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastpagemap.engine.memray_capture import Site, Stack, call_site
from fastpagemap.report.aligned import aligned
from fastpagemap.report.text import human, printable

__all__ = ["COLUMNS", "Allocations", "by_site", "by_stack", "json_line", "table"]

Key = TypeVar("Key")

#: The columns of sizes, and the field of `PageMap.residency` that each is the sum of.
COLUMNS = {"allocated": "", "present": "present", "swapped": "swapped", "shared": "shared"}
# Characters of a place in the source, and of the line itself.
_PLACE, _SOURCE = 36, 70


class Allocations(NamedTuple):
    """One row a call site, the largest first, and what the whole process has; in bytes."""

    sites: list[Site]
    sizes: dict[str, npt.NDArray[Any]]  # by column
    allocations: int
    process: dict[str, int]

    def sums(self) -> dict[str, int]:
        """Return the sums of the columns."""
        return {name: int(column.sum()) for name, column in self.sizes.items()}


def by_site(
    live: npt.NDArray[Any],
    stack_of: dict[int, Stack],
    residency: npt.NDArray[Any],
    process: dict[str, int],
) -> Allocations:
    """Sum what is known of each live allocation by call site."""
    site_of = {number: call_site(stack) for number, stack in stack_of.items()}
    sites, sizes = _summed(live, site_of, residency)
    order = [at for at in np.argsort(sizes["allocated"])[::-1] if sizes["allocated"][at]]
    sizes = {name: column[order] for name, column in sizes.items()}
    return Allocations([sites[at] for at in order], sizes, len(live), process)


def by_stack(
    live: npt.NDArray[Any], stack_of: dict[int, Stack], residency: npt.NDArray[Any]
) -> tuple[list[Stack], dict[str, npt.NDArray[Any]]]:
    """Sum the same by stack, the outermost frame first, for `fastpagemap.profiles`."""
    stacks, sizes = _summed(live, stack_of, residency)
    return [stack[::-1] for stack in stacks], {**sizes, "size": sizes["allocated"]}


def _summed(
    live: npt.NDArray[Any], key_of: dict[int, Key], residency: npt.NDArray[Any]
) -> tuple[list[Key], dict[str, npt.NDArray[Any]]]:
    """Return what stacks may be of, and for each the sums of `COLUMNS`."""
    stacks, index = np.unique(live["stack"], return_inverse=True)
    keys: list[Any] = sorted(set(key_of.values()))
    number = {each: at for at, each in enumerate(keys)}
    row = np.array([number[key_of[stack]] for stack in stacks.tolist()], np.intp)[index]
    sizes = {name: np.zeros(len(keys), np.uint64) for name in COLUMNS}
    for name, field in COLUMNS.items():
        np.add.at(sizes[name], row, residency[field] if field else live["size"])
    return keys, sizes


def table(found: Allocations, limit: int, width: int | None) -> Iterator[str]:
    """Yield a title, `limit` call sites, the rest, the sum, and what the process has in all.

    `width`: the columns of a terminal, to which lines of source are cut; None in a pipe.
    """
    sums = found.sums()
    yield (
        f"{found.allocations} allocations alive: {human(sums['allocated'])} allocated, "
        f"{human(sums['present'])} present"
    )
    rows = []
    for at, site in enumerate(found.sites[:limit]):
        sizes = [human(int(column[at])) for column in found.sizes.values()]
        source = linecache.getline(site.file, site.line).strip()[:_SOURCE]
        rows.append([*sizes, f"{where(site, _PLACE):{_PLACE}}  {source}"])
    if found.sites[limit:]:
        rest = [human(int(column[limit:].sum())) for column in found.sizes.values()]
        rows.append([*rest, f"{len(found.sites) - limit} more"])
    rows.append([*map(human, sums.values()), f"{len(found.sites)} call sites"])
    yield from aligned((*COLUMNS, "where"), rows, width)
    yield (
        f"whole process: {human(found.process['present'])} present, "
        f"{human(found.process['swapped'])} swapped, with what memray does not record"
    )


def json_line(found: Allocations) -> str:
    """Return all of it as one line of JSON, in bytes."""
    columns = {name: column.tolist() for name, column in found.sizes.items()}
    rows = [
        {**site._asdict(), **{name: column[at] for name, column in columns.items()}}
        for at, site in enumerate(found.sites)
    ]
    whole = {"allocations": found.allocations, "totals": found.sums(), "process": found.process}
    return json.dumps({**whole, "rows": rows})


def where(site: Site, width: int) -> str:
    """Return ``file:line function``, the file from here or with its folder, cut from the left."""
    if not site.file:
        return site.function
    path = Path(site.file).absolute()
    below = path.is_relative_to(Path.cwd())
    file = os.path.relpath(path) if below else "/".join(path.parts[-2:])
    text = printable(f"{file}:{site.line} {site.function}")
    return text if len(text) <= width else "…" + text[1 - width :]
