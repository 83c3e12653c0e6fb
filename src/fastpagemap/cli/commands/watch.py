"""``fastpagemap watch``: checks the terminal, then starts the full-screen view."""

from __future__ import annotations

from typing import Any

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.full_screen import need_terminal, show
from fastpagemap.cli.options import interval_option, raw_options, timeout_option


@click.command(
    short_help="One process on the whole screen, live.",
    epilog="""
\b
Examples:
  fastpagemap watch 1234               a process, by its id
  fastpagemap watch checkpointer       by its name, or a word of its command line
  fastpagemap watch 1234 --interval 5  every five seconds
  sudo fastpagemap watch 1234 --dirty  also what is written
  fastpagemap watch before.fpm         a file that 'fastpagemap dump' wrote
""",
)
@click.argument("target", shell_complete=complete_target)
@interval_option(
    "Time between refreshes. Pages are read less often if that would cost too much; the "
    "screen shows how old they are.",
    default=1.0,
    least=0.1,
)
@click.option(
    "--dirty",
    is_flag=True,
    help="Show what is written. This clears the soft-dirty bits of TARGET at each look, so others "
    "who track its writes by them (CRIU) lose track.",
)
@raw_options
@timeout_option
def watch(target: str, **options: Any) -> int:
    """Show the memory of TARGET on the whole screen, page by page, and how it changes.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.

    A cell is one page or several pages, coloured by their state. Move through the mappings, search
    them, choose columns, zoom, or go to an address. '?' shows the keys, and how old the picture can
    be. The rates count what differs between two looks at the pages; a page that changed and changed
    back in between is not counted. The rate of writes needs --dirty and a kernel with soft-dirty
    bits. If TARGET locks its memory, the screen says so and keeps showing what was seen before.
    """
    need_terminal("watch")
    from fastpagemap.cli.watch.sampling import Live, SnapshotSource
    from fastpagemap.cli.watch.view import Watch

    whose = targets.resolve(target, options["raw"], options["timeout"])
    if not isinstance(whose, int):
        if options["dirty"]:
            raise click.UsageError("--dirty is for a process: nothing is written in a file")
        source: Live | SnapshotSource = SnapshotSource(whose)
    else:
        source = Live(
            whose, options["interval"], dirty=options["dirty"], timeout=options["timeout"]
        )
    return show(Watch(source, options["interval"]))
