"""Samples processes in a thread of its own, so that the screen never waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["SamplerThread"]


class SamplerThread:
    """Answers requests. A new request replaces one that still waits.

    It is a daemon thread: sampling a process of terabytes may take seconds, and leaving the program
    must not wait for that.

    Parameters
    ----------
    answer : callable
        Called in this thread with the arguments of a request.
    deliver : callable
        Called in this thread with each answer, or with the exception that ended the thread.
    """

    def __init__(self, answer: Callable[..., Any], deliver: Callable[[Any], object]) -> None:
        self._answer, self._deliver = answer, deliver
        self._changed = threading.Condition()
        self._waiting: tuple[Any, ...] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, *request: Any) -> None:
        """Request an answer."""
        with self._changed:
            self._waiting = request
            self._changed.notify()

    def stop(self, patience: float = 0.5) -> None:
        """Stop the thread; wait at most `patience` seconds for a sample that is being taken."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            try:
                answer = self._answer(*waiting)
            except Exception as error:  # whatever it is, it must not be lost with the thread
                answer = error
            if not self._stopped:
                self._deliver(answer)
            if isinstance(answer, Exception):
                return

    def _next(self) -> tuple[Any, ...] | None:
        """Wait for a request; return None when the thread is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._stopped)
            waiting, self._waiting = self._waiting, None
            return None if self._stopped else waiting
