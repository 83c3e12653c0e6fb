"""What forked processes still have in common with their parent: as tables, as JSON."""

from __future__ import annotations

import bisect
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fastpagemap.model.mapping import Mapping
from fastpagemap.report.aligned import aligned
from fastpagemap.report.text import human, name_of, plural

__all__ = ["NEW", "NOTHING", "Family", "Member", "Part", "add", "json_line", "mapping_name"]
__all__ += ["place", "tables"]

# Heads, and the cells of each row.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

NEW = "(new in the worker)"
# Bytes: of rows that differ by less the larger one comes first.
_NOTABLE = 1 << 16
_IN_TABLE = ("rss", "pss", "union", "unique")


class Part(NamedTuple):
    """Bytes in RAM: mapped by others as well, or mapped only here."""

    by_others: int
    exclusive: int


NOTHING = Part(0, 0)


class Member(NamedTuple):
    """One process; `role`: parent, worker, or other: a child that has called exec."""

    pid: int
    role: str
    name: str
    rss: int
    pss: int
    uss: int


class Family(NamedTuple):
    """A parent and its workers at one time; of parts the keys are pid, and then a name."""

    time: float
    parent: int
    members: list[Member]
    together: dict[str, int]  # what Group.total() says
    mappings: dict[int, dict[str, Part]]
    objects: dict[int, dict[str, Part]]


def mapping_name(mapping: Mapping) -> str:
    """Return the address of a mapping, and what it is of."""
    return f"{mapping.start:012x} {name_of(mapping.path)}"


def place(mapping: Mapping, parents: Sequence[Mapping]) -> str:
    """Return the name of the parent's mapping that this is, or was before either grew."""
    at = bisect.bisect_left(parents, mapping.end, key=lambda each: each.start) - 1
    if at >= 0 and mapping.start < parents[at].end:
        return mapping_name(parents[at])
    return NEW


def add(names: Iterable[str], parts: Sequence[Part]) -> dict[str, Part]:
    """Sum by name."""
    answer: dict[str, Part] = {}
    for each, part in zip(names, parts, strict=True):
        answer[each] = Part(*map(sum, zip(answer.get(each, NOTHING), part, strict=True)))
    return answer


def tables(now: Family, first: Family, limit: int, width: int | None) -> Iterator[str]:
    """Yield what there is by process, by mapping and by object, with the change since `first`.

    `width`: the columns of a terminal; None in a pipe.
    """
    workers = sum(member.role == "worker" for member in now.members)
    family = f"process {now.parent} and {workers} {plural(workers, 'worker')}"
    yield family if now is first else f"{family}, after {now.time - first.time:.1f} s"
    fit = functools.partial(_fitted, now is first, width)
    yield from fit(*_by_process(now, first))
    yield ""
    yield from fit(*_by_part("mapping of the parent", now, now.mappings, first.mappings, limit))
    if any(now.objects.values()):
        yield ""
        yield from fit(*_by_part("object of the parent", now, now.objects, first.objects, limit))


def _fitted(
    unchanged: bool, width: int | None, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> Iterator[str]:
    """Yield the lines of a table, on the first look without the last but one column: `change`."""
    if unchanged:
        heads, *rows = ([*cells[:-2], cells[-1]] for cells in (heads, *rows))
    yield from aligned(heads, rows, width)


def _by_process(now: Family, first: Family) -> Table:
    columns = [name for name in _IN_TABLE if name in now.together]
    before = {member.pid: member.uss for member in first.members}
    rows = []
    for member in now.members:
        sizes = [human(member.rss), human(member.pss), *["-"] * (len(columns) - 2)]
        changed = change(member.uss - before.get(member.pid, 0))
        name = f"{member.role} {member.name}"
        rows.append([str(member.pid), *sizes, human(member.uss), changed, name])
    totals = [human(now.together[name]) for name in columns]
    count = len(now.members)
    last = f"{count} {plural(count, 'process')}"
    rows.append(["together", *totals, "-", "-", last])
    return ("pid", *columns, "uss", "change", "process"), rows


def _by_part(
    what: str,
    now: Family,
    parts: dict[int, dict[str, Part]],
    first: dict[int, dict[str, Part]],
    limit: int,
) -> Table:
    rows = _rows(now.parent, parts, first)
    cells = []
    for row in rows[:limit]:
        sizes = map(human, (row.by_others, row.exclusive, row.in_workers, row.in_one))
        cells.append([*sizes, change(row.change), row.name])
    if rows[limit:]:
        cells.append(["-", "-", "-", "-", "-", f"{len(rows) - limit} more"])
    return ("by_others", "exclusive", "in_workers", "in_one", "change", what), cells


class Row(NamedTuple):
    """A mapping or an object of the parent, in bytes.

    `by_others`: what others map, too; `exclusive`: what only the parent maps; `in_workers`,
    `in_one`: what is exclusive in the workers together, and in the one that has most; `change`: of
    in_workers.
    """

    name: str
    by_others: int
    exclusive: int
    in_workers: int
    in_one: int
    change: int


def _rows(
    parent: int, parts: dict[int, dict[str, Part]], first: dict[int, dict[str, Part]]
) -> list[Row]:
    """Return the rows: those first that changed most, then those of which most was copied."""
    mine = parts.get(parent, {})
    workers = {pid: each for pid, each in parts.items() if pid != parent}
    rows = []
    for name in dict.fromkeys([*mine, *itertools.chain(*workers.values())]):
        own = [each.get(name, NOTHING).exclusive for each in workers.values()]
        before = sum(first.get(pid, {}).get(name, NOTHING).exclusive for pid in workers)
        sizes = mine.get(name, NOTHING)
        rows.append(Row(name, *sizes, sum(own), max(own, default=0), sum(own) - before))
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[int, int, int]:
    present = row.by_others + row.exclusive
    return -(abs(row.change) // _NOTABLE), -(row.in_workers // _NOTABLE), -present


def change(size: int) -> str:
    """Return a size with its sign."""
    return f"{'+' if size > 0 else '-'}{human(abs(size))}" if size else "0"


def json_line(now: Family, first: Family) -> str:
    """Return all of it as one line of JSON, in bytes."""
    return json.dumps(
        {
            "time": now.time,
            "parent": now.parent,
            "processes": [member._asdict() for member in now.members],
            "together": now.together,
            "mappings": [row._asdict() for row in _rows(now.parent, now.mappings, first.mappings)],
            "objects": [row._asdict() for row in _rows(now.parent, now.objects, first.objects)],
        }
    )
