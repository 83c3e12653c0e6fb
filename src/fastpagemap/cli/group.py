"""All commands, as one click group. A command returns the lines to print."""

from __future__ import annotations

import importlib

import click

#: In the order of ``--help``; each is the module of its name in ``cli/commands/``.
COMMANDS = (
    "report",
    "files",
    "map",
    "watch",
    "top",
    "dump",
    "diff",
    "dirty",
    "doctor",
    "completion",
)
EXAMPLES = """
\b
Examples:
  fastpagemap 1234                          one row for each mapping of process 1234
  fastpagemap report --all --sort swapped   who is in swap, the most first
  fastpagemap files model.bin               what of a file is in the page cache, and who maps it
  fastpagemap map postgres -o memory.png    the address space as a picture
  fastpagemap watch postgres                the same, live
  fastpagemap top                           all processes, live
  fastpagemap dump 1234 -o before.fpm       keep all of it in a file
  fastpagemap COMMAND --help                more of each, with examples

'fastpagemap PID' is short for 'fastpagemap report PID'.
"""


class Commands(click.Group):
    """The commands, each imported when it is used. A bare process id means ``report``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fastpagemap.cli.commands.{name}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first argument; a number is a process id for ``report``."""
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

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote; '-' is
    such a file on standard input.
    """
