"""All commands, as one click group. A command returns the lines to print."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

import click

#: In the order of ``--help``; each is the module of its name in ``cli/commands/``.
COMMANDS = (
    "report",
    "files",
    "map",
    "watch",
    "top",
    "dump",
    "record",
    "diff",
    "writes",
    "forks",
    "run",
    "memray",
    "doctor",
    "completion",
)
#: Former names, which --help does not list.
RENAMED = {"dirty": "writes"}
EXAMPLES = """
\b
Examples:
  fastpagemap 1234                          one row for each mapping of process 1234
  fastpagemap checkpointer                  of a program, or of a word of a command line
  fastpagemap report --all --sort swapped   all processes, those with most in swap first
  fastpagemap files model.bin               what of a file is in the page cache, and who maps it
  fastpagemap map 1234 -o memory.png        the address space as a picture
  fastpagemap watch 1234                    the same, live
  fastpagemap top                           all processes, live
  fastpagemap dump 1234 -o before.fpm       keep the state of all pages in a file
  fastpagemap record postgres -o files      keep what changes, as Parquet files
  fastpagemap report --help                 help for a command, with examples

'fastpagemap TARGET' is short for 'fastpagemap report TARGET'. Names of commands come first: for a
process called 'watch', write 'fastpagemap report watch'.
"""


#: What is not for ``report``, although it is no command.
OWN_OPTIONS = ("-h", "--help", "-V", "--version")


class Commands(click.Group):
    """The commands, each imported when it is used. What is none is for ``report``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        name = RENAMED.get(name, name)
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fastpagemap.cli.commands.{name}")
        command: click.Command = getattr(module, name)
        _describe(command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``report`` before a TARGET or an option that stands in place of a command."""
        if not args and not ctx.resilient_parsing:
            text = "say a process or a command, such as 'fastpagemap 1234' or 'fastpagemap top'"
            raise click.UsageError(text, ctx)
        if args and args[0] == "help":  # as of git
            args = [*args[1:2], "--help"]
        if args and args[0] not in (*COMMANDS, *RENAMED, *OWN_OPTIONS):
            if not ctx.resilient_parsing:
                _refuse_misspelt(args[0])
            args = ["report", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the first word to a command; if none fits, to a TARGET."""
        from fastpagemap.cli.completion import complete_target

        found = super().shell_complete(ctx, incomplete)
        return found or complete_target(ctx, self.params[0], incomplete)


def _describe(command: click.Command) -> None:
    """Give a command its docstring as the description, where Python drops docstrings (-OO)."""
    if command.help is not None or command.callback is None:
        return
    import ast  # only here: else click finds the docstring
    import inspect

    with contextlib.suppress(OSError):  # there may be no source
        for node in ast.parse(inspect.getsource(command.callback)).body:
            if isinstance(node, ast.FunctionDef):
                command.help = ast.get_docstring(node)


def _refuse_misspelt(word: str) -> None:
    """Raise an error for what looks like a command, and is no TARGET."""
    if word.isdecimal():
        return
    import difflib  # only here: most reports are of a process id

    similar = difflib.get_close_matches(word, COMMANDS, 1)
    if not similar:
        return
    from fastpagemap.cli.naming import named

    if not os.path.exists(word) and not named(word):
        raise click.UsageError(
            f"'{word}' is no command, process or file; did you mean '{similar[0]}'?"
        )


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
@click.version_option(None, "-V", "--version", package_name="fastpagemap")
def cli() -> None:
    """Show what Linux knows of a process's memory, page by page.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote; '-' is
    such a file on standard input. The name of a process is that of its program, or a word of its
    command line, such as 'ml.py' in 'python3 ml.py'.
    """


_describe(cli)


@cli.result_callback()
@click.pass_context
def _result(ctx: click.Context, result: Any) -> Any:
    """Return what a command returned; errors of its lines name the command, as its own do."""
    return _lines_of(ctx, result) if isinstance(result, Iterator) else result


def _lines_of(ctx: click.Context, lines: Iterator[str]) -> Iterator[str]:
    try:
        yield from lines
    except click.UsageError as error:
        if error.ctx is None:
            name = ctx.invoked_subcommand
            error.ctx = click.Context(ctx.command, parent=ctx, info_name=name)
        raise
