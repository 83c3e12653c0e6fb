"""A child process that reads other processes for this one, and can be given up.

A process can keep its memory locked for ever, for instance by a page fault in a FUSE file whose
server does not answer. Whoever then reads its maps or pagemap waits in the kernel: Ctrl-C does not
end that, and where the reader itself waits for the server, not even SIGKILL does. So a child does
the reading. It is forked, because a thread that waits there would keep this process from ending.

The child holds none of this process's files, and nothing waits for its end: one that SIGKILL does
not end becomes init's child, and ends when the lock is released.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

from fastpagemap.cli.worker_child import read_message, serve, write_message
from fastpagemap.process.namespaces import directory_of

__all__ = ["Here", "NoAnswer", "Worker", "WorkerEnded", "heed_children", "left_behind"]
__all__ += ["started"]

#: A worker that used less than this share of a processor, while it was waited for, waits itself.
IDLE_SHARE = 0.01
#: A worker that does work is given up, too, after so many times the seconds it is given.
MAX_BUSY_FACTOR = 24
#: Parts of the names of functions in which the kernel waits for a file, and for no lock.
FILE_WAITS = ("fuse", "request_wait", "rpc_", "nfs", "autofs", "folio_wait", "wait_on_page")
#: Workers that were killed, and have not ended yet.
_killed: list[int] = []


class NoAnswer(TimeoutError):
    """A worker was waited for in vain; `strerror` says what it waits for."""


class WorkerEnded(OSError):
    """A worker ended without an answer, such as by the kernel's out-of-memory killer."""


class Here:
    """Answers questions in this process, without a time-out."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._questions: list[Any] = []

    def send(self, question: Any) -> None:
        """Ask a question."""
        self._questions.append(question)

    def receive(self, seconds: float) -> Any:
        """Return the answer to the oldest question, or raise the exception that it met."""
        return self._function(self._questions.pop(0))

    def processor_time(self) -> float:
        """Return the seconds that this process has run so far."""
        return time.process_time()

    def give_up(self) -> None:
        """Do nothing: what is asked here is answered."""


class Worker:
    """A child that calls a function with each question.

    Parameters
    ----------
    function : callable
        Called in the child. The child is a copy of this process as it is now.

    Raises
    ------
    OSError
        There can be no child.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._questions = self._answers = -1
        questions, self._questions = os.pipe()
        self._answers, answers = os.pipe()
        try:
            self.pid = _fork()
            if self.pid == 0:
                serve(function, questions, answers)
        finally:
            try:
                os.close(questions)
            finally:
                os.close(answers)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._over = False

    def __del__(self) -> None:
        # Not before: another thread may still wait for an answer.
        for fd in (self._questions, self._answers):
            with contextlib.suppress(OSError):
                os.close(fd)

    def send(self, question: Any) -> None:
        """Ask a question. Its answer comes after those of the questions before."""
        with contextlib.suppress(BrokenPipeError):  # receive() says how it ended
            write_message(self._questions, pickle.dumps(question))

    def receive(self, seconds: float) -> Any:
        """Return the answer to the oldest question, or raise the exception that it met.

        Raises
        ------
        NoAnswer
            For so many seconds the worker did nothing but wait. It may still answer later.
        WorkerEnded
            It will not answer.
        """
        self._wait(seconds)
        message = read_message(self._answers)
        if message is None:
            raise self._ended()
        answered, answer = pickle.loads(message)
        if answered:
            return answer
        raise answer

    def give_up(self) -> None:
        """Kill the worker. Its end is not waited for: the kernel may not let it go."""
        if not self._over:
            self._over = True
            os.kill(self.pid, signal.SIGKILL)
            _killed.append(self.pid)
            left_behind()

    def processor_time(self) -> float:
        """Return the seconds that the worker has run so far; 0 where that is not known."""
        try:
            # clock_getcpuclockid(3), which Python lacks: bits of a clock's number are a pid
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return 0.0

    def _wait(self, seconds: float) -> None:
        """Wait until there is something to read; longer where the worker is at work."""
        began, used = time.monotonic(), self.processor_time()
        while not self._poll.poll(seconds * 1000):
            before, used = used, self.processor_time()
            waits = used - before < seconds * IDLE_SHARE and not self._is_runnable()
            if waits and self._poll.poll(0):  # it waits for a question: it has just answered
                return
            if waits:
                text = f"no answer within {seconds:g} s: {self._waits_for()}"
                raise NoAnswer(errno.ETIMEDOUT, text)
            if time.monotonic() - began > seconds * MAX_BUSY_FACTOR:
                text = f"not read within {seconds * MAX_BUSY_FACTOR:g} s: see --timeout"
                raise NoAnswer(errno.ETIMEDOUT, text)

    def _is_runnable(self) -> bool:
        """Return whether the worker waits for nothing but a processor, as on a busy machine."""
        with contextlib.suppress(OSError), open(f"{directory_of(self.pid)}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
        return False

    def _waits_for(self) -> str:
        """Return in words what the worker waits for."""
        where = ""
        with contextlib.suppress(OSError), open(f"{directory_of(self.pid)}/wchan") as file:
            where = file.read()
        if any(part in where for part in FILE_WAITS):
            return f"a file that it has mapped or opened does not answer ({where})"
        return "its memory is locked"

    def _ended(self) -> WorkerEnded:
        _, status = os.waitpid(self.pid, 0)
        self._over = True
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = " (out of memory?)" if code == -signal.SIGKILL else ""
        return WorkerEnded(errno.ECHILD, f"the process that read it ended by {how}{why}")


def started(function: Callable[[Any], Any], seconds: float | None) -> Worker | Here:
    """Return a worker; where there can be none, or no time-out is wanted, what does its work here.

    A sandbox may refuse new processes, and a user may have as many as he may.
    """
    if seconds is None:
        return Here(function)
    try:
        return Worker(function)
    except OSError:
        return Here(function)


def left_behind() -> int:
    """Return how many workers were killed, and have not ended yet."""
    for pid in list(_killed):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # it is the child of the process that this one was forked from
            ended = True
        if ended:
            _killed.remove(pid)
    return len(_killed)


def heed_children() -> None:
    """Have the ends of children noted. Only the main thread can, and others may need it.

    Were they ignored, the kernel could give a worker's pid to another process.
    """
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _fork() -> int:
    heed_children()
    with warnings.catch_warnings():
        # Python warns of threads. They are a progress bar's, and the child makes no use of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
