"""``fastpagemap doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import timeout_option
from fastpagemap.process.capabilities import capabilities
from fastpagemap.process.environment import environment
from fastpagemap.report.text import printable


@click.command(
    short_help="Versions, and what this user can ask this kernel.",
    epilog="""
\b
Examples:
  fastpagemap doctor                 your own processes
  sudo fastpagemap doctor 1234       process 1234, as root
  fastpagemap doctor before.fpm      a file: also of which process it is, when and where it was made
""",
)
@click.argument("target", shell_complete=complete_target, required=False)
@timeout_option
def doctor(target: str | None, timeout: float) -> Iterable[str]:
    """Show versions and privileges, and what this user can ask this kernel about TARGET.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote. Without
    one, the answer is about your own processes. For what is missing, it says what would provide it.
    Please add the output when you report a fault. It has no addresses and no paths, unless TARGET
    is a file.
    """
    whose = None if target is None else targets.resolve(target)
    if whose is None:
        return _own()
    if isinstance(whose, int):
        asked = asking.about(whose, capabilities, timeout)
        return [*_environment(), "", *str(asked).splitlines()]
    from fastpagemap.report import origin

    return [*origin.lines(whose), "", *str(whose.capabilities).splitlines()]


def _own() -> Iterator[str]:
    """Yield what is known of the machine first: where nothing can be asked, that is wanted most."""
    yield from _environment()
    yield ""
    yield from str(capabilities()).splitlines()


def _environment() -> Iterator[str]:
    for name, text in environment().items():
        yield f"{name:<21} {printable(text)}"
