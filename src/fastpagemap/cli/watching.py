"""From the command to the screen of ``fastpagemap watch``: what has to hold before it is taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from fastpagemap.cli.sampling import Live, Still

__all__ = ["run"]


def run(pid: int, interval: float, dirty: bool) -> Iterable[str]:
    """Watch a process until the user leaves; return nothing to print."""
    _need_terminal()
    from fastpagemap.cli.watch import Watch

    app = Watch(Live(pid, interval, dirty=dirty), interval)
    code = app.run()
    if app.failure:
        raise app.failure
    if code == 130:
        raise KeyboardInterrupt
    return ()


def _need_terminal() -> None:
    """Refuse where the screen could not be seen, or no key be read."""
    streams = {"standard output": sys.__stdout__, "standard input": sys.__stdin__}
    streams["standard error"] = sys.__stderr__  # it is what textual draws on
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            raise click.UsageError(f"watch needs a terminal, and {name} is none")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise click.UsageError("watch needs a terminal that can do more than TERM=dumb")
