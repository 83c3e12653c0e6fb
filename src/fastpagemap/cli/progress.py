"""A progress bar on stderr, if it is a terminal and something takes more than a second."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

DELAY_SECONDS = 1.0


class _Bar:
    """A bar that appears after DELAY_SECONDS. Only then rich is imported."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._shown: Any = None
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(DELAY_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> _Bar:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._shown:
                self._shown.stop()

    def advance(self) -> None:
        """Count one more as done."""
        self.done += 1
        if self._shown:
            self._shown.update(0, completed=self.done)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        console = Console(stderr=True)
        if console.is_dumb_terminal:  # nothing could be taken away again
            return
        columns = [TextColumn("{task.description}"), BarColumn(), Elapsed()]
        if self.total is not None:
            columns.insert(2, MofNCompleteColumn())
        with self._lock:
            if self._over:
                return
            bar = Progress(*columns, console=console, transient=True)
            bar.add_task(self.what, total=self.total, completed=self.done)
            bar.start()
            self._shown = bar


def _wanted() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something is going on whose end is not known."""
    if not _wanted():
        yield
        return
    with _Bar(what, None):
        yield


@contextlib.contextmanager
def counted(what: str, things: Sequence[int]) -> Iterator[Iterator[int]]:
    """Yield an iterator over things that shows how many are done."""
    if not _wanted():
        yield iter(things)
        return
    with _Bar(what, len(things)) as bar:

        def each() -> Iterator[int]:
            for thing in things:
                yield thing
                bar.advance()

        yield each()
