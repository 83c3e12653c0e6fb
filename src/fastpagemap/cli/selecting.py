"""Options that say which rows of a report are wanted, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fastpagemap.cli.completion import complete_list_of, complete_one_of
from fastpagemap.cli.naming import matching
from fastpagemap.cli.options import parsed
from fastpagemap.cli.processes import processes, user_given, user_of
from fastpagemap.report import conditions
from fastpagemap.report.selection import MAIN, Selection

__all__ = ["chosen_processes", "selection_of", "selection_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


_OPTIONS = (
    click.option(
        "--sort",
        metavar="COLUMN",
        callback=parsed(conditions.parse_column),
        shell_complete=complete_one_of(conditions.COLUMNS),
        help="Sort by this column, the largest first. By default, sort by address or pid.",
    ),
    click.option(
        "-n",
        "limit",
        metavar="COUNT",
        type=click.IntRange(min=1),
        help="Show only the first rows. The last line is still about all of them.",
    ),
    click.option(
        "--columns",
        metavar="NAME,...",
        default="",
        callback=parsed(lambda text: conditions.parse_columns(text) if text else ()),
        shell_complete=complete_list_of(conditions.SHOWN_COLUMNS),
        help="Show only these columns of sizes, in this order. For mappings, this is the only way "
        "to get pss, uss, cached, cache_dirty and cache_writeback.",
    ),
    click.option(
        "--path",
        metavar="PATTERN",
        help="Only mappings whose path contains this text or matches this shell pattern.",
    ),
    click.option(
        "--name",
        metavar="PATTERN",
        help="With --all: only processes whose name or command line contains this text, or a word "
        "that matches this shell pattern. With several TARGETs: only their rows.",
    ),
    click.option(
        "--user",
        metavar="NAME",
        help="With --all: only the processes of a user, by name or number.",
    ),
    click.option(
        "--filter",
        "filters",
        metavar="CONDITION",
        multiple=True,
        callback=parsed(conditions.parse_filter),
        shell_complete=complete_one_of(conditions.COLUMNS),
        help="Only rows where a column is not 0 ('swapped') or meets a condition ('size>=64M', "
        "'threads>8', 'user=www*'). If given several times, rows must meet all of them.",
    ),
    click.option(
        "--min",
        "least",
        metavar="[COLUMN=]SIZE",
        multiple=True,
        callback=parsed(conditions.parse_least),
        shell_complete=complete_one_of(conditions.SIZE_COLUMNS),
        help="Only rows of at least this size in COLUMN. By default, COLUMN is the column of sizes "
        "that --sort names, or else size (mappings), present (--all), rss (several TARGETs) or "
        "overlap (--who).",
    ),
    click.option(
        "--group",
        type=click.Choice(["path", "kind"]),
        help="Add up the mappings of each path, or of each kind: heap, stack, anonymous, shared "
        "memory, executable, file, device, kernel, unknown.",
    ),
)


def selection_options(function: Function) -> Function:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def selection_of(by: str, options: dict[str, Any]) -> Selection:
    """Return what is wanted of rows of this kind.

    Raises
    ------
    click.UsageError
        These rows have no such column, or an option is for others.
    """
    of_processes = by in ("process", "member", "sharer")
    if options["path"] is not None and of_processes:
        raise click.UsageError(
            "--path is for mappings: of processes, --name" + ", or --group" * (by == "process")
        )
    if options["name"] is not None and not (of_processes or options["everyone"]):
        raise click.UsageError("--name is for processes, with --all: of mappings, --path")
    if options["user"] is not None and not options["everyone"]:
        raise click.UsageError("--user goes with --all")
    sort = options["sort"] if options["sort"] in conditions.SIZE_COLUMNS else None
    least = [
        conditions.Filter(column or sort or MAIN[by], ">=", size)
        for column, size in options["least"]
    ]
    wanted = Selection(
        options["group"], options["path"], (*options["filters"], *least), options["sort"],
        options["columns"], options["name"], options["limit"], options["user"],
    )  # fmt: skip
    try:
        wanted.check(by)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return wanted


def chosen_processes(name: str | None, user: str | None) -> list[int]:
    """Return the processes that match a pattern, and are of a user; by default all.

    Raises
    ------
    ProcessLookupError
        There is none.
    """
    pids = processes() if name is None else matching(name, processes())
    whose = None if user is None else user_given(user)
    found = [pid for pid in pids if whose is None or whose == user_of(pid)]
    if not found:
        asked = {"is called": name, "is of user": user}
        what = " and ".join(f"{how} '{it}'" for how, it in asked.items() if it is not None)
        raise ProcessLookupError(f"no process {what}")
    return found
