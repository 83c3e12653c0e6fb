"""Starts the full-screen views, where there is a screen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fastpagemap.cli.watch.screen import ListScreen

__all__ = ["need_terminal", "show"]


def show(first: ListScreen) -> int:
    """Show a view until it is left, and return the exit code; raise what ended it, if an error."""
    from fastpagemap.cli.watch.app import Viewer
    from fastpagemap.cli.worker import heed_children

    heed_children()  # workers are started by other threads, too
    app = Viewer(first)
    code = app.run()
    if app.failure:
        raise app.failure
    return code or 0


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
