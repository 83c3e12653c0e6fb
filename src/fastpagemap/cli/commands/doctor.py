"""``fastpagemap doctor``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import timeout_option
from fastpagemap.process.capabilities import capabilities


@click.command(
    short_help="What this kernel and this user can be asked.",
    epilog="""
\b
Examples:
  fastpagemap doctor                 of one's own processes
  sudo fastpagemap doctor 1234       of that process, by root
  fastpagemap doctor before.fpm      of what, when and where it was made, too
""",
)
@click.argument("target", shell_complete=complete_target, required=False)
@timeout_option
def doctor(target: str | None, timeout: float) -> Iterable[str]:
    """Show what this kernel, and this user, can be asked of TARGET, or of any process of one's own.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote. What is
    missing is named with what it would need. Of a file, also of which process it is, when it was
    made and on which kernel.
    """
    whose = None if target is None else targets.resolve(target)
    if whose is None:
        return str(capabilities()).splitlines()
    if isinstance(whose, int):
        return str(asking.about(whose, capabilities, timeout)).splitlines()
    from fastpagemap.report import origin

    return [*origin.lines(whose), "", *str(whose.capabilities).splitlines()]
