"""A thread that can be left behind.

A process may keep its memory locked for as long as it wants. Whoever reads it waits in the kernel.

The command line reads by a child that it can kill. Here it is a thread: a fork costs much in a
large program, and is not safe in one with threads of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["MAX_LEFT_BEHIND", "Errand"]

Answer = TypeVar("Answer")

#: No more threads are started once so many wait for processes that keep their memory locked.
MAX_LEFT_BEHIND = 32
#: How often a thread that waits is looked at: a pause of this whole process is seen only once.
_LOOKS = 4


class Errand(threading.Thread, Generic[Answer]):
    """Calls a function in a thread of its own.

    Parameters
    ----------
    function : callable
        Called once, at once.
    """

    def __init__(self, function: Callable[[], Answer]) -> None:
        super().__init__(name="fastpagemap-reading", daemon=True)
        self._function = function
        self._answers: list[Answer] = []
        self._error: Exception | None = None
        #: Seconds of processor time that the function has used, once it has ended.
        self.spent: float = 0.0
        self.start()

    def run(self) -> None:
        """Call the function."""
        began = time.thread_time()
        try:
            self._answers.append(self._function())
        except Exception as error:
            self._error = error
        self.spent = time.thread_time() - began

    def ends(self, seconds: float) -> bool:
        """Wait for the end; return False if for so many seconds the thread has only waited."""
        used, idle = -1.0, 0
        while self.is_alive() and idle < _LOOKS:
            before, used = used, self._processor_time()
            # a thread that waits for the GIL wakes up now and then; in the kernel it does not
            idle = idle + 1 if used == before else 0
            self.join(seconds / _LOOKS)
        return not self.is_alive()

    def answer(self) -> Answer:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._answers[0]

    def _processor_time(self) -> float:
        try:
            # what pthread_getcpuclockid(3) returns; that may crash once the thread has ended
            return time.clock_gettime((~(self.native_id or 0) << 3) | 6)
        except OSError:  # it has just ended
            return 0.0
