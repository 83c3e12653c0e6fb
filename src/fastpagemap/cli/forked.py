"""Read what forked processes still share with their parent, for ``fastpagemap forks``.

By process, `Members` tells it. By mapping and by object, bit 56 of a page's entry does, which says
that it is mapped exactly once. So what is a worker's own is what it has copied, or touched first
since the fork.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastpagemap.cli import asking, together
from fastpagemap.cli.processes import name_of
from fastpagemap.engine.members import Members
from fastpagemap.model.entry import Category
from fastpagemap.model.mapping import Mapping
from fastpagemap.pagemap import PageMap
from fastpagemap.process.family import Known, open_again
from fastpagemap.process.probes import categories
from fastpagemap.report.forked import Family, Member, Part, add, mapping_name, place

__all__ = ["Objects", "look", "objects_in"]

_U64 = npt.NDArray[np.uint64]

#: For each name of a program's objects: the addresses and the sizes of all that it leads to.
Objects = dict[str, tuple[_U64, _U64]]


def objects_in(path: str) -> Objects:
    """Return what a program has noted at its first fork; nothing before it."""
    try:
        with open(path, "rb") as file:
            counts: dict[str, int] = json.loads(file.readline())
            words = np.fromfile(file, np.uint64).reshape(2, -1)
    except FileNotFoundError:
        return {}
    ends = np.cumsum([*counts.values()]).tolist()
    found = {}
    for name, count, end in zip(counts, counts.values(), ends, strict=True):
        addresses, sizes = words[:, end - count : end]
        found[name] = (np.ascontiguousarray(addresses), np.ascontiguousarray(sizes))
    return found


def look(pid: int, objects: Objects, timeout: float | None) -> Family:
    """Look at a process and at all that were forked below it.

    Raises
    ------
    ProcessLookupError
        It has ended.
    """
    chosen = together.of_tree(pid, timeout)
    known = [Known(each, began) for each, began in chosen.items() if began is not None]
    return asking.about(pid, lambda pid: _look(pid, known, objects), timeout)


def _look(pid: int, known: list[Known], objects: Objects) -> Family:
    with PageMap(pid) as parent:  # first, as it says what is wrong with one that has no memory
        held, ended = open_again(known)
        group = Members(held, ended)
        rows, total = group.usage(), group.total()
        mappings = parent.mappings()
        heap = [mapping for mapping in mappings if _is_copied(mapping)]
        parts = {pid: add(map(mapping_name, heap), _measure(parent, heap))}
        of_objects = {pid: _of_objects(parent, objects)}
    members = []
    for row in rows:
        child, role = row["pid"].item(), "parent"
        if child != pid:
            role = "other"
            # one that has ended meanwhile is no worker any more
            with contextlib.suppress(ProcessLookupError), PageMap(child) as pagemap:
                theirs = pagemap.mappings()
                if _vdso(theirs) == _vdso(mappings):
                    role = "worker"
                    own = [mapping for mapping in theirs if _is_copied(mapping)]
                    parts[child] = add((place(each, heap) for each in own), _measure(pagemap, own))
                    of_objects[child] = _of_objects(pagemap, objects)
        sizes = row[["rss", "pss", "uss"]].tolist()
        members.append(Member(child, role, name_of(child), *sizes))
    together = dict(zip(total.dtype.names or (), total.tolist(), strict=True))
    return Family(time.time(), pid, members, together, parts, of_objects)


def _is_copied(mapping: Mapping) -> bool:
    """Whether writing to the mapping makes copies; mappings of mere code and constants left out."""
    return not mapping.shared and (mapping.writable or mapping.anonymous)


def _vdso(mappings: Sequence[Mapping]) -> int | None:
    """Return where the vDSO is: fork keeps it there, exec puts it at an address of chance."""
    return next((each.start for each in mappings if each.path == "[vdso]"), None)


def _measure(pagemap: PageMap, mappings: Sequence[Mapping]) -> list[Part]:
    """Return what of each mapping is mapped by others, too, and what is mapped only here."""
    fields = ["present", "exclusive"]
    if Category.PFNZERO in categories():  # before, the zero page counts as mapped by others
        fields.append("zero")
    parts = []
    for present, exclusive, *zero in pagemap.usage(mappings, fields=fields).tolist():
        parts.append(Part(max(present - exclusive - sum(zero), 0), exclusive))
    return parts


def _of_objects(pagemap: PageMap, objects: Objects) -> dict[str, Part]:
    found = {}
    for name, (addresses, sizes) in objects.items():
        rows = pagemap.residency(addresses, sizes)
        present, own = int(rows["present"].sum()), int(rows["exclusive"].sum())
        found[name] = Part(present - own, own)
    return found
