"""``fastpagemap watch``: checks the terminal, then starts the full-screen view."""

from __future__ import annotations

from typing import Any

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.full_screen import need_terminal, show
from fastpagemap.cli.options import interval_option, raw_options, timeout_option


@click.command(
    short_help="The same on the whole screen, live.",
    epilog="""
\b
Examples:
  fastpagemap watch 1234               a process, by its id
  fastpagemap watch checkpointer       by its name, or a word of its command line
  fastpagemap watch 1234 --interval 5  every five seconds
  sudo fastpagemap watch 1234 --dirty  with what is written, too
  fastpagemap watch before.fpm         what 'fastpagemap dump' kept
""",
)
@click.argument("target", shell_complete=complete_target)
@interval_option(
    "Between refreshes. Pages are looked at less often where that would cost too much; the "
    "screen says how old they are.",
    default=1.0,
    least=0.1,
)
@click.option(
    "--dirty",
    is_flag=True,
    help="Tell what is written, by clearing the soft-dirty bits of TARGET at each look. That "
    "changes it: whoever else tracks its writes by them (CRIU) loses track.",
)
@raw_options
@timeout_option
def watch(target: str, **options: Any) -> int:
    """Show the memory of TARGET on the whole screen, page by page, and what happens to it.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.

    One cell is one page or a group of them, coloured by state. Move through the mappings, search
    them, choose their columns, zoom, go to an address: '?' shows the keys, and how old what is
    shown can be. What comes in, is swapped out and is written a
    second is counted from one look at the pages to the next: what happened and was undone in
    between is not in it. Written needs --dirty, and a kernel that keeps soft-dirty bits. Where
    TARGET locks its memory later on, the screen says so, and shows what was seen before.
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
