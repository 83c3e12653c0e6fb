"""Options that several commands have, and how the text of an option is parsed."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import click
from click.core import ParameterSource

from fastpagemap.cli import asking
from fastpagemap.cli.completion import complete_file

Parsed = TypeVar("Parsed")
Function = TypeVar("Function", bound=Callable[..., Any])


def parsed(parse: Callable[[str], Parsed]) -> Callable[[Any, Any, Any], Any]:
    """Return a callback that parses the text of an option. A ValueError is misuse."""

    def one(text: str) -> Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    def callback(ctx: Any, parameter: Any, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(one, value))
        return None if value is None else one(value)

    return callback


def address(text: str) -> int:
    """Return an address that is written as in /proc/PID/maps: hexadecimal, with or without 0x."""
    try:
        return int(text, 16)
    except ValueError:
        raise ValueError(f"'{text}' is no address: write it in hexadecimal") from None


class Raw(NamedTuple):
    """The options of raw files: `given` says whether the file is one. False if there are none."""

    given: bool = False
    start: int = 0
    maps: str | None = None

    def __bool__(self) -> bool:
        """Return whether any of the options was given."""
        return any(self)


#: A snapshot, or a process.
NOT_RAW = Raw()


def raw_options(function: Function) -> Function:
    """Add the options of raw files to a command, which gets them as one argument, `raw`."""

    @functools.wraps(function)
    def with_raw(*, raw: bool, start: int, maps: str | None, **others: Any) -> Any:
        return function(raw=Raw(raw, start, maps), **others)

    mappings = click.option(
        "--maps",
        metavar="FILE",
        shell_complete=complete_file,
        help="With --raw: a copy of the process's maps or smaps, made at the same time. The names "
        "come from it.",
    )
    start = click.option(
        "--start",
        metavar="ADDRESS",
        default="0",
        callback=parsed(address),
        help="With --raw: the address of the first entry, in hexadecimal.",
    )
    raw = click.option(
        "--raw",
        is_flag=True,
        help="The file is /proc/PID/pagemap, or holds entries that dd has copied from one.",
    )
    return cast(Function, raw(start(mappings(with_raw))))


def output_path(ctx: Any, parameter: Any, path: str | None) -> str | None:
    """Return the path that bytes are written to, where '-' means standard output.

    Raises
    ------
    click.UsageError
        It is a terminal.
    """
    if path != "-":
        return path
    if sys.stdout is None:
        raise OSError("standard output is closed: nowhere to write the answer")
    if sys.stdout.isatty():
        name = parameter.opts[0]
        raise click.UsageError(
            f"{name} -: standard output is a terminal: send it to a file or pipe"
        )
    return "/dev/stdout"


def form_options(function: Function) -> Function:
    """Add --json and --csv to a command, which gets one of them, or None, as `form`."""

    @functools.wraps(function)
    def with_form(*, json: bool, csv: bool, **others: Any) -> Any:
        if json and csv:
            raise click.UsageError("--json or --csv: one of them")
        return function(form="json" if json else "csv" if csv else None, **others)

    as_csv = click.option("--csv", is_flag=True, help="Comma-separated, with a header.")
    as_json = click.option("--json", is_flag=True, help="One JSON object; rows are in 'rows'.")
    return cast(Function, as_json(as_csv(with_form)))


def limit_option(text: str, default: int) -> Callable[[Function], Function]:
    """Return the option that says how many rows a table has at most; see `check_limit`."""
    return click.option(
        "--limit",
        metavar="COUNT",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        help=text,
    )


def check_limit(as_json: bool) -> None:
    """Raise an error for --limit, if it was given: in JSON there are all rows."""
    source = click.get_current_context().get_parameter_source("limit")
    if as_json and source is not ParameterSource.DEFAULT:
        raise click.UsageError("--limit is about the table: --json has all rows")


def number(context: Any, parameter: Any, value: float | None) -> float | None:
    """Return a number of seconds; a range of click's lets nan pass."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("'nan' is no number of seconds")
    return value


def interval_option(
    text: str, default: float | None = None, least: float = 0.01
) -> Callable[[Function], Function]:
    """Return the option that says how many seconds are between two looks."""
    return click.option(
        "--interval",
        type=click.FloatRange(least, 86400),
        callback=number,
        metavar="SECONDS",
        default=default,
        show_default=default is not None,
        help=text,
    )


def timeout_option(function: Function) -> Function:
    """Add the option that says how long a process may keep its reader waiting."""
    return click.option(
        "--timeout",
        type=click.FloatRange(0.01, 86400),
        callback=number,
        metavar="SECONDS",
        default=asking.TIMEOUT,
        show_default=True,
        help="Give up a process that does not answer for so long, because its memory is locked.",
    )(function)
