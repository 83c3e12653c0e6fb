"""The child's half of a worker: it answers questions until its parent goes away."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import signal
import struct
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from .._kernel.own_files import own_file

__all__ = ["read_message", "serve", "write_message"]

_SIZE = struct.Struct("=Q")
#: Bytes that are written or read at once.
_CHUNK = 1 << 20


def serve(function: Callable[[Any], Any], questions: int, answers: int) -> NoReturn:
    """Answer questions, in a process that was forked for it."""
    code = 1
    try:
        _detach(questions, answers)
        _allow_files()
        _limit_memory()
        while (question := read_message(questions)) is not None:
            write_message(answers, _outcome(function, pickle.loads(question)))
        code = 0
    finally:
        os._exit(code)


def write_message(fd: int, message: bytes) -> None:
    """Write a message to a pipe."""
    for part in (_SIZE.pack(len(message)), message):
        left = memoryview(part)
        while left:
            left = left[os.write(fd, left[:_CHUNK]) :]


def read_message(fd: int) -> bytes | None:
    """Read a message from a pipe; None when the other end is closed."""
    head = _read(fd, _SIZE.size)
    return None if head is None else _read(fd, _SIZE.unpack(head)[0])


def _read(fd: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(fd, min(size, _CHUNK))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _outcome(function: Callable[[Any], Any], question: Any) -> bytes:
    """Return whether a question was answered, and the answer or the exception, pickled."""
    try:
        return pickle.dumps((True, function(question)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        if os.environ.get("FASTPAGEMAP_TRACEBACK"):
            error.add_note(traceback.format_exc())
        try:
            return pickle.dumps((False, error))
        except Exception:  # an exception that cannot be pickled: its text can
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _detach(*kept: int) -> None:
    """Let go of the parent's terminal and files: a worker may stay longer than the parent."""
    os.setsid()  # Ctrl-C and Ctrl-Z are the parent's
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd not in kept:
            os.dup2(null, fd)
    at = 3
    for fd in sorted(fd for fd in kept if fd > 2):
        os.closerange(at, fd)
        at = fd + 1
    os.closerange(at, os.sysconf("SC_OPEN_MAX"))
    # A collection would touch, and so copy, all the memory that is the parent's.
    gc.freeze()


def _allow_files() -> None:
    """Let the worker hold all processes of a large group open: each takes three files."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limit_memory() -> None:
    """Have the worker run out of memory before the machine does.

    It gets half of what is available now. If that is too much all the same, the kernel is to kill
    the worker, and no other process. Where /proc does not say, there is no limit.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with open(own_file("oom_score_adj"), "w") as file:
            file.write("1000")
        with open("/proc/meminfo", "rb") as file:
            free = next(int(line.split()[1]) for line in file if line.startswith(b"MemAvailable"))
        with open(own_file("statm"), "rb") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = used + (free << 10) // 2
        if soft == resource.RLIM_INFINITY or limit < soft:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
