"""What can be asked on the command line. A command returns the lines to print.

Each has a room of its own, which is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

#: Where each command is, in the order of ``--help``.
COMMANDS = {
    "report": "command_report",
    "map": "command_map",
    "watch": "command_watch",
    "dump": "command_dump",
    "diff": "command_dump",
    "dirty": "command_dirty",
    "doctor": "command_doctor",
    "completion": "completion",
    "manual": "command_manual",
}
EXAMPLES = """
\b
Examples:
  fastpagemap 1234                          one row for each mapping of process 1234
  fastpagemap report --all --sort swapped   who is in swap, the most first
  fastpagemap map postgres -o memory.png    the address space as a picture
  fastpagemap watch postgres                the same, live
  fastpagemap dump 1234 -o before.fpm       keep all of it in a file
  fastpagemap COMMAND --help                more of each, with examples

'fastpagemap PID' is short for 'fastpagemap report PID'.
"""
Parsed = TypeVar("Parsed")
Function = TypeVar("Function", bound=Callable[..., Any])


class Commands(click.Group):
    """A group in which a bare process id means ``report``, and nothing is imported in vain."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fastpagemap.cli.{COMMANDS[name]}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take a number for the process id that ``report`` is to be of."""
        if args[0].isdecimal():
            args = ["report", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
@click.version_option(package_name="fastpagemap")
def cli() -> None:
    """Show what Linux knows of a process's memory, page by page.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.
    """


def parsed(parse: Callable[[str], Parsed]) -> Callable[[Any, Any, Any], Any]:
    """Return a callback for an option: its text is parsed, a ValueError is misuse."""

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
    """Return an address, hexadecimal as maps has them, with or without 0x."""
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
