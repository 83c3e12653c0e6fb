"""Options that several commands have, and how the text of an option is parsed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fastpagemap.cli import asking

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


def raw_options(function: Function) -> Function:
    """Add the options of raw files to a command."""
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
        help="The file holds entries, saved with dd from /proc/PID/pagemap.",
    )
    return raw(start(function))


def _number(context: Any, parameter: Any, value: float) -> float:
    """Return a number of seconds; a range of click's lets nan pass."""
    if math.isnan(value):
        raise click.BadParameter("'nan' is no number of seconds")
    return value


def timeout_option(function: Function) -> Function:
    """Add the option that says how long a process may keep its reader waiting."""
    return click.option(
        "--timeout",
        type=click.FloatRange(0.01, 86400),
        callback=_number,
        metavar="SECONDS",
        default=asking.TIMEOUT,
        show_default=True,
        help="Give a process up that keeps its reader waiting so long: it has locked its memory.",
    )(function)
