"""``fastpagemap top``: all processes on the whole screen, live."""

from __future__ import annotations

import click

from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.full_screen import need_terminal, show
from fastpagemap.cli.options import interval_option
from fastpagemap.cli.selecting import chosen_processes
from fastpagemap.cli.targets import processes_of


@click.command(
    short_help="All processes on the whole screen, live.",
    epilog="""
\b
Examples:
  fastpagemap top                all processes, those with most in RAM first
  fastpagemap top postgres       the processes of that name, and their children
  fastpagemap top 1234           a process and its children, side by side
  fastpagemap top --user postgres --name 'postgres:*'
  sudo fastpagemap top           also other users' processes
""",
)
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_target)
@interval_option(
    "Time between refreshes. Pages are read less often if that would cost too much; the "
    "column 'age' shows how long ago that was.",
    default=1.0,
    least=0.1,
)
@click.option(
    "--name",
    metavar="PATTERN",
    help="Only processes whose name or command line contains this text, or a word that matches "
    "this shell pattern.",
)
@click.option("--user", metavar="NAME", help="Only the processes of a user, by name or number.")
def top(targets: tuple[str, ...], interval: float, name: str | None, user: str | None) -> int:
    """Show all processes on the whole screen, and how their memory changes.

    With TARGET, show only these processes and their descendants, such as a server and its workers.
    TARGET is a process id, or a name: then all processes of that name are shown.

    Sort by any column, choose columns, search names and command lines. '?' shows the keys, and how
    old the figures can be. Enter watches a process page by page, as 'fastpagemap watch' does. If a
    process cannot be read, its row says why; if it does not answer, the others are still shown.
    'fastpagemap report --all' prints the same once.
    """
    need_terminal("top", "; 'fastpagemap report --all' prints the same once")
    from fastpagemap.cli.watch.census import Census
    from fastpagemap.cli.watch.chosen import Chosen
    from fastpagemap.cli.watch.top import Top

    roots = [pid for text in targets for pid in processes_of(text)]
    if name is not None or user is not None:
        chosen_processes(name, user)  # raises an error, if there is none
    census = Census(interval, roots, chosen=Chosen(name, user))
    return show(Top(census, _in_words(targets, name, user)))


def _in_words(targets: tuple[str, ...], name: str | None, user: str | None) -> str:
    """Return which processes are shown."""
    what = f"{' '.join(targets)} and children" if targets else "all processes"
    if user is not None:
        what += f" of user {user}"
    return f"{what} with '{name}'" if name is not None else what
