"""Ask about processes, each within a time: a process may lock its memory for ever."""

from __future__ import annotations

import contextlib
import errno
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from fastpagemap.cli.processes import name_of
from fastpagemap.cli.worker import Here, NoAnswer, Worker, WorkerEnded, left_behind, started

__all__ = ["TIMEOUT", "Asking", "Remote", "about", "each", "naming"]

Question = TypeVar("Question")
Answer = TypeVar("Answer")

#: Seconds that a process may keep its reader waiting, where nothing else is asked for.
TIMEOUT = 5.0
#: Processes that a worker is asked about before it has answered: it never waits for a question.
MAX_ASKED = 16
#: Once so many times the time-out was waited in all, the rest is given a part of it.
MAX_WAITED_FACTOR, PART = 4, 1 / 20
#: No more workers are started, where so many were killed and still wait in the kernel.
MAX_LEFT_BEHIND = 32


def about(pid: int, function: Callable[[int], Answer], seconds: float | None) -> Answer:
    """Return function(pid), called in a worker; without a time-out, called here.

    Raises
    ------
    NoAnswer, WorkerEnded
        As a worker does; the text names the process. And whatever the function raises.
    """
    worker = started(function, seconds)
    try:
        with naming(pid):
            worker.send(pid)
            answer: Answer = worker.receive(seconds or 0)
            return answer
    finally:
        worker.give_up()


@contextlib.contextmanager
def naming(pid: int) -> Iterator[None]:
    """Have the errors of a worker name the process that it reads."""
    try:
        yield
    except (NoAnswer, WorkerEnded) as error:
        text = f"process {pid} ({name_of(pid)}): {error.strerror}"
        raise type(error)(error.errno, text) from None


def each(
    pids: Iterable[int], function: Callable[[int], Answer], seconds: float | None
) -> Iterator[tuple[int, Answer | Exception]]:
    """Yield each pid with function(pid), or with the exception that it met.

    One worker answers all, until it does not answer, or has run out of memory: then the next one
    goes on.
    """
    asking, left = Asking(function, seconds), iter(pids)
    try:
        while asking.fill(left):
            yield asking.next()
    finally:
        asking.close()


class Asking(Generic[Question, Answer]):
    """Questions about processes, and the worker that is to answer.

    Parameters
    ----------
    function : callable
        Called in the worker with each question.
    seconds : float, optional
        As for `each`.
    """

    def __init__(self, function: Callable[[Question], Answer], seconds: float | None) -> None:
        self._function, self._seconds = function, seconds
        self._asked: deque[Question] = deque()
        self._worker: Worker | Here | None = None
        self._waited = 0.0
        self._closed = False
        #: Seconds of processor time that workers have used, and the current one of them.
        self.spent = self._ran = 0.0

    def fill(self, left: Iterator[Question]) -> bool:
        """Ask more questions, if there are more; return whether an answer is due."""
        new = list(itertools.islice(left, MAX_ASKED - len(self._asked)))
        self._asked += new
        if self._worker is None and self._asked and self._may_start():
            self._worker, new = started(self._function, self._seconds), list(self._asked)
            self._ran = self._worker.processor_time()
        if self._worker is not None:
            for question in new:
                self._worker.send(question)
        return bool(self._asked)

    def _may_start(self) -> bool:
        return not self._closed and left_behind() < MAX_LEFT_BEHIND

    def next(self) -> tuple[Question, Answer | Exception]:
        """Return the question that was asked first, and the answer."""
        question = self._asked.popleft()
        if self._worker is None:
            text = f"not read: {MAX_LEFT_BEHIND} readers of other processes still wait"
            return question, NoAnswer(errno.ETIMEDOUT, text)
        began, ran = time.monotonic(), self._worker.processor_time()
        outcome: Answer | Exception
        try:
            outcome = self._worker.receive(self._patience())
        except Exception as error:
            outcome = error
        now = max(self._worker.processor_time(), ran)  # 0 of one that has ended
        self._waited += time.monotonic() - began - (now - ran)
        self.spent, self._ran = self.spent + now - self._ran, now
        if isinstance(outcome, (NoAnswer, WorkerEnded, MemoryError)):
            self._worker.give_up()
            self._worker = None
        return question, outcome

    def close(self) -> None:
        """Give the worker up, for good. Another thread may still wait for it."""
        self._closed = True
        if self._worker is not None:
            self._worker.give_up()

    def _patience(self) -> float:
        """Return how long the next process may keep its reader waiting.

        Where many do not answer, somebody may have made them for that: they share a time.
        """
        seconds = self._seconds or 0.0
        return seconds if self._waited < seconds * MAX_WAITED_FACTOR else seconds * PART


class Remote:
    """An object that is made in a worker, to look at one process again and again.

    Parameters
    ----------
    make : callable
        Makes the object, in the worker.
    seconds : float
        How long the process may keep the worker waiting.
    """

    def __init__(self, make: Callable[[], object], seconds: float) -> None:
        self._seconds = seconds
        self._unanswered = 0
        self._worker = started(_Calls(make), seconds)
        #: Seconds that the worker has run.
        self.spent = 0.0

    def call(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """Return what a method of the object returns.

        What did not answer in time is asked nothing new before it has answered.
        """
        patience = self._seconds if seconds is None else seconds
        while self._unanswered:
            self._receive(patience)
        self._worker.send((method, arguments))
        self._unanswered += 1
        fine, answer = self._receive(patience)
        if fine:
            return answer
        raise answer

    def close(self) -> None:
        """Give the worker up."""
        self._worker.give_up()

    def _receive(self, patience: float) -> tuple[bool, Any]:
        fine, answer, spent = self._worker.receive(patience)
        self._unanswered -= 1
        self.spent += spent
        return fine, answer


class _Calls:
    """Calls methods of an object that it makes first."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object = None

    def __call__(self, question: tuple[str, tuple[Any, ...]]) -> tuple[bool, Any, float]:
        """Return whether a method returned, what it returned or raised, and what that cost."""
        method, arguments = question
        began = time.thread_time()
        try:
            if self._made is None:
                self._made = self._make()
            answer = True, getattr(self._made, method)(*arguments)
        except Exception as error:
            answer = False, error
        return *answer, time.thread_time() - began
