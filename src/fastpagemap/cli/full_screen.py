"""Starts the full-screen views, where there is a screen."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fastpagemap.cli.watch.screen import ListScreen

__all__ = ["need_terminal", "show"]

#: Shown in place of marks, where the terminal has none of them: dots, arrows, frames, bars.
PLAIN = {
    **dict(zip("…·▾↑↓←→╭╮╰╯│─", ".-v^v<>++++|-", strict=True)),
    **dict.fromkeys(map(chr, range(0x2580, 0x25A0)), " "),
}


def show(first: ListScreen) -> int:
    """Show a view until it is left, and return the exit code; raise what ended it, if an error."""
    from fastpagemap.cli.watch.app import Viewer
    from fastpagemap.cli.worker import heed_children

    heed_children()  # workers are started by other threads, too
    app = Viewer(first)
    with _plain_marks():
        code = app.run()
    if app.failure:
        raise app.failure
    return code or 0


@contextlib.contextmanager
def _plain_marks() -> Iterator[None]:
    """Have a terminal that is not of UTF-8 show what it lacks as a character it has.

    Python would write ``\\u2026``, and nothing on that line would stand where it should.
    """
    stream = sys.__stderr__
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    codecs.register_error("fastpagemap.plain", _plain)
    stream.reconfigure(errors="fastpagemap.plain")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from rich.cells import get_character_cell_size

    lost = error.object[error.start : error.end]
    shown = [PLAIN.get(char, "?" * get_character_cell_size(char)) for char in lost]
    return "".join(shown), error.end


def need_terminal(command: str, instead: str = "") -> None:
    """Raise an error if there is no screen to draw on, or no keyboard to read.

    Parameters
    ----------
    command : str
        What needs it.
    instead : str, optional
        The end of the message: what does without.

    Raises
    ------
    click.UsageError
        Standard input, output or error is no terminal. textual reads from the first and draws on
        the last.
    """
    streams = {"output": sys.__stdout__, "input": sys.__stdin__, "error": sys.__stderr__}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            raise click.UsageError(
                f"{command} needs a terminal, and standard {name} is none{instead}"
            )
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise click.UsageError(
            f"{command} needs a terminal with a screen; TERM says there is none{instead}"
        )
