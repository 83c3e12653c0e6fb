"""What can be asked on the command line. A command returns the lines to print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from fastpagemap import capabilities
from fastpagemap.cli import tables
from fastpagemap.cli.report import collect


class _Commands(click.Group):
    """A group in which a bare process id means ``report``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].isdecimal():
            args = ["report", *args]
        return super().resolve_command(ctx, args)


def _process_id(text: str) -> int:
    # Digits only: int() would take "1_0" and " 7 ", too. No kernel has pids of ten digits.
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise click.BadParameter(f"'{text}' is no process id; 'pgrep NAME' or 'ps -e' shows them")
    return int(text)


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'fastpagemap PID' is short for 'fastpagemap report PID'.",
)
@click.version_option(package_name="fastpagemap")
def cli() -> None:
    """Show what Linux knows of a process's memory, page by page."""


@cli.command()
@click.argument("pid", type=_process_id)
def report(pid: int) -> Iterable[str]:
    """Show one row for each mapping of process PID, and the totals.

    Columns the kernel cannot fill are left out. A terminal gets a table that fits it; a pipe or a
    file gets plain columns with whole paths. Ki, Mi, Gi are 1024, 1024**2, 1024**3 bytes.
    """
    return _report(pid)


@cli.command()
@click.argument("pid", type=_process_id, required=False)
def doctor(pid: int | None) -> Iterable[str]:
    """Show what this kernel, and this user, can be asked of process PID, or of any of one's own.

    What is missing is named with what it would need.
    """
    yield from str(capabilities(pid)).splitlines()


@cli.command()
@click.argument("pid", type=_process_id)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    metavar="S",
    show_default=True,
    help="Seconds between refreshes.",
)
@click.option(
    "--dirty",
    is_flag=True,
    help="Tell what is written, by clearing the soft-dirty bits of PID at each look: "
    "whoever else tracks it by them (CRIU) loses track.",
)
def watch(pid: int, interval: float, dirty: bool) -> Iterable[str]:
    """Show the memory of process PID on the whole screen, and what happens to it."""
    from fastpagemap.cli.watch import run

    return run(pid, interval, dirty)


def _report(pid: int) -> Iterator[str]:
    """Draw the report, not before the first line is asked for: see `fastpagemap.cli.main`."""
    found = collect(pid)
    if sys.stdout is not None and sys.stdout.isatty():
        yield from tables.for_terminal(found)
    else:
        yield from tables.plain(found)
