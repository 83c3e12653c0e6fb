"""The list of processes of ``fastpagemap top``, to move through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.cells import set_cell_size

from fastpagemap.cli.processes import user_name
from fastpagemap.cli.watch.census import Member
from fastpagemap.cli.watch.columns import SIZE_COLUMNS, Column
from fastpagemap.cli.watch.listing import Listing, Rows
from fastpagemap.report.text import beginning, printable

__all__ = ["Processes", "rows"]

#: Characters that a process's name may have in the kernel, and that are shown of a user's.
NAME_WIDTH, USER_WIDTH = 15, 8
#: Columns of the screen in which more than the name is worth showing.
MIN_MORE = 10


def _count(number: float) -> str:
    return f"{number:.0f}"


def _age(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 100 else f"{seconds / 60:.0f}m"


#: Columns that cost nothing: they are there for every process.
COUNTERS = (
    Column("minor", "minor/s", _count, 8),
    Column("major", "major/s", _count, 8),
    Column("age", "age", _age, 4),
    Column("mappings", "mappings", _count, 8),
    Column("threads", "threads", _count, 7),
    Column("parent", "parent", _count, 7),
)
DEFAULT_COLUMNS = ("present", "swapped", "minor", "major", "age")


def rows(members: Sequence[Member], fields: Sequence[str], now: float) -> Rows:
    """Return what is shown of processes; what is not known of one is NaN."""
    numbers: dict[str, list[Any]] = {
        name: [member.seen and member.seen.sizes.get(name) for member in members] for name in fields
    }
    numbers["minor"] = [member.minor for member in members]
    numbers["major"] = [member.major for member in members]
    numbers["age"] = [now - member.when if member.when else None for member in members]
    numbers["mappings"] = [member.seen and member.seen.mappings for member in members]
    numbers["threads"] = [member.about.threads for member in members]
    numbers["parent"] = [member.about.parent for member in members]
    # None becomes NaN
    return Rows(members, {name: np.array(found, float) for name, found in numbers.items()})


def _user(uid: int) -> str:
    """Return the name of a user, shortened."""
    name = user_name(uid)
    return name if len(name) <= USER_WIDTH else f"{name[: USER_WIDTH - 1]}+"


class Processes(Listing):
    """Processes to move through, in the order of their pids unless a column orders them."""

    FIRST = f"{'pid':>7} user"
    FIRST_WIDTH = 7 + 1 + USER_WIDTH
    COLUMNS = (*SIZE_COLUMNS, *COUNTERS)

    def __init__(self, id: str) -> None:
        super().__init__(id, DEFAULT_COLUMNS, "present")

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns shown for which pages have to be looked at."""
        return tuple(column.name for column in SIZE_COLUMNS if column.name in self.shown)

    def identity(self, item: Any) -> Any:
        """Return the pid, and when the process was started."""
        return item and (item.pid, item.about.started)

    def words(self, item: Member) -> str:
        """Return the name, and the command line."""
        return f"{item.about.name} {item.seen.command if item.seen else ''}"

    def first(self, item: Member) -> str:
        """Return the pid and the user."""
        return f"{item.pid:>7} {_user(item.uid)}"

    def last_head(self, width: int) -> str:
        """Return what the text is."""
        return "name" if width < NAME_WIDTH + MIN_MORE else f"{'name':<{NAME_WIDTH}} command"

    def last(self, item: Member, width: int) -> str:
        """Return the name, and why not more is known, or what there is room for of the command."""
        name = printable(item.about.name)
        if item.refused:
            return beginning(f"{name} ({item.refused})", width)
        if not item.seen or width < NAME_WIDTH + MIN_MORE:
            return beginning(name, width)
        # one that is escaped may be longer than the kernel's names are
        name = set_cell_size(beginning(name, NAME_WIDTH), NAME_WIDTH)
        return f"{name} {beginning(item.seen.command, width - NAME_WIDTH - 1)}"
