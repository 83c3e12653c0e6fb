"""From the command to the screen of ``fastpagemap watch``: what has to hold before it is taken."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable

import click

from fastpagemap.cli.watch.sampling import Live

__all__ = ["run", "save"]


def run(pid: int, interval: float, dirty: bool) -> Iterable[str]:
    """Watch a process until the user leaves; return nothing to print."""
    _need_terminal()
    from fastpagemap.cli.watch.app import Watch

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


def save(content: str, stem: str) -> str:
    """Write a picture into a new file of this directory, or none; return its name."""
    for number in itertools.count(1):
        path = f"{stem}-{number}.svg"
        try:
            with open(path, "x", encoding="utf-8") as file:
                try:
                    file.write(content)
                    file.flush()
                except OSError:
                    os.unlink(path)
                    raise
        except FileExistsError:
            continue
        return path
    raise AssertionError("there is always another number")
