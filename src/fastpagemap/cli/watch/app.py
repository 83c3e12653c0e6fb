"""The program that shows full-screen views, one above the other."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.screen import Screen

from fastpagemap.cli.exit_codes import INTERRUPTED
from fastpagemap.cli.watch.census import Census
from fastpagemap.cli.watch.keys import APP_KEYS
from fastpagemap.cli.watch.screen import ListScreen
from fastpagemap.cli.watch.style import CSS
from fastpagemap.cli.watch.top import Top
from fastpagemap.cli.watch.view import Watch
from fastpagemap.report.text import printable

__all__ = ["Viewer"]


class Viewer(App[int]):
    """Shows a view; others may be put on it.

    Parameters
    ----------
    first : Screen
        The view that is shown first. Leaving it ends the program.
    """

    TITLE = "fastpagemap"
    ENABLE_COMMAND_PALETTE = False
    CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = APP_KEYS

    def __init__(self, first: Screen[None]) -> None:
        # Without this, NO_COLOR would mean shades of grey.
        super().__init__(ansi_color="NO_COLOR" in os.environ or None)
        self._first = first
        #: What ended the program, if that was an error.
        self.failure: Exception | None = None

    def get_default_screen(self) -> Screen[None]:
        """Return the first view."""
        return self._first

    def on_mount(self) -> None:
        """Have signals end the program as its keys do."""
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)

    def _handle_exception(self, error: Exception) -> None:
        """Have the command say in a line what went wrong, in place of textual's traceback."""
        super()._handle_exception(error)
        self.failure = self.failure or error
        getattr(self, "_exit_renderables", []).clear()

    def on_list_screen_failed(self, message: ListScreen.Failed) -> None:
        """End with an error."""
        self.failure = message.error
        self.exit(1)

    def on_top_opened(self, message: Top.Opened) -> None:
        """Watch a process."""
        self.push_screen(Watch(message.source, message.interval))

    def on_watch_children_wanted(self, message: Watch.ChildrenWanted) -> None:
        """Show a process and its children."""
        if not isinstance(self.screen, Watch):
            return  # the key was pressed twice
        pid, name = message.source.pid, printable(message.source.name)
        census = Census(message.interval, [pid])
        self.push_screen(Top(census, f"process {pid} {name} and its children"))

    def action_interrupt(self) -> None:
        """Exit with the code of a program that Ctrl-C ended."""
        self.exit(INTERRUPTED)
