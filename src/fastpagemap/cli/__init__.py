"""The command line: runs a command, prints its lines, turns every failure into one line.

`group` lists the commands, `commands` has a module for each, `collect` reads processes; how it is
shown stands in ``fastpagemap.report``. Nothing but the standard library is imported before it is
needed: click and rich are an extra.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import TextIO

from fastpagemap.cli.exit_codes import BROKEN_PIPE, FAILURE, INTERRUPTED, MISUSE

__all__ = ["INTERRUPTED", "main"]

#: The extra that installs a missing library.
EXTRAS = {
    "click": "cli",
    "rich": "cli",
    "textual": "cli",
    "matplotlib": "plot",
    "pyarrow": "arrow",
    "memray": "memray",
    "prometheus_client": "metrics",
    "protobuf": "profiles",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    args : sequence of str, optional
        The arguments after the program's name; those of this process by default.

    Returns
    -------
    int
        0; 1 for a failure, 2 for misuse, 130 after Ctrl-C, 141 when the reader of the output
        went away (what a shell reports for a program killed by SIGPIPE).
    """
    with _Interrupts() as interrupts:
        try:
            return _run(sys.argv[1:] if args is None else args)
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            _discard_output()
            # An extension module that is being loaded turns Ctrl-C into an error of its own.
            return INTERRUPTED if interrupts.seen else _failed(error)


class _Interrupts:
    """Notes that Ctrl-C was pressed, and makes sure that it is not lost."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> _Interrupts:
        # Not if the caller handles Ctrl-C, and not in threads, where no handler can be set.
        self._noting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._noting &= threading.current_thread() is threading.main_thread()
        if self._noting:
            self._unraisable = sys.unraisablehook
            sys.unraisablehook = self._not_raised
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._noting:
            self._noting = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._unraisable

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)

    def _not_raised(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Send Ctrl-C again, if it came in a destructor or a callback.

        An exception does not leave these: Python would print that it ignores it, and go on.
        """
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # threading.Thread would wait for locks that may be held where a destructor runs.
            _thread.start_new_thread(self._press_again, ())
        else:
            self._unraisable(unraisable)

    def _press_again(self) -> None:
        time.sleep(0.001)
        if self._noting:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _failed(error: Exception) -> int:
    """Print in one line what went wrong; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, OSError):
        return _fail(_explain(error))
    if isinstance(error, ModuleNotFoundError):
        library = (error.name or "").partition(".")[0]
        if library in EXTRAS:
            extra = f"pip install 'fastpagemap[{EXTRAS[library]}]'"
            return _fail(f"{library} is not installed: {extra}")
    if isinstance(error, MemoryError):
        return _fail(f"not enough memory: {error}".removesuffix(": "))
    if type(error).__name__ == "SnapshotError":  # to import it would import numpy
        return _fail(str(error))
    if os.environ.get("FASTPAGEMAP_TRACEBACK"):
        raise error
    return _fail(
        f"unexpected {type(error).__name__}: {error} "
        "(please report it, with what FASTPAGEMAP_TRACEBACK=1 shows)"
    )


def _run(args: Sequence[str]) -> int:
    import click

    from fastpagemap.cli.group import cli
    from fastpagemap.cli.misuse import message

    try:
        result = cli.main(list(args), prog_name="fastpagemap", standalone_mode=False)
        if isinstance(result, int):  # the exit code of --help, --version
            _write(())
            return result
        _write(result or ())
    except click.ClickException as error:
        _discard_output()
        table = getattr(error, "table", None)
        if table:  # of processes that are to be told apart
            return _fail(message(error), MISUSE, table)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "fastpagemap"
        return _fail(f"{message(error)} (see '{command} --help')", MISUSE)
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.Exit as end:  # of a program that a command has run
        _write(())
        return end.exit_code
    return 0


def _write(lines: Iterable[str]) -> None:
    """Print a command's lines. Characters that the output cannot encode are escaped."""
    out = sys.stdout
    if out is None:
        raise OSError("standard output is closed: nowhere to write the answer")
    for line in lines:
        _put(out, _encodable(line, out) + "\n")
    _put(out, "", flush=True)


def _put(out: TextIO, text: str, flush: bool = False) -> None:
    try:
        out.write(text)
        if flush:
            out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"cannot write the answer: {error.strerror}") from error


def _encodable(text: str, out: TextIO) -> str:
    encoding = out.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _fail(message: str, code: int = FAILURE, table: Sequence[str] = ()) -> int:
    from fastpagemap.report.text import printable

    if sys.stderr is not None:
        first = f"fastpagemap: {printable(' '.join(message.split()))}"
        for line in (first, *table):
            sys.stderr.write(_encodable(f"{line}\n", sys.stderr))
    return code


def _explain(error: OSError) -> str:
    """Return in one line what went wrong and, if it is known, what to do about it."""
    text = error.strerror or str(error)
    if error.filename:
        text += f": {error.filename}"
    if isinstance(error, ProcessLookupError):
        return f"{text} ('ps -e' lists the processes)"
    # A message of our own already says what helps.
    denied = isinstance(error, PermissionError) and os.strerror(error.errno or 0) in text
    if denied and os.geteuid():
        return f"{text} (try it as root)"
    return text


def _discard_output() -> None:
    """Discard what is buffered for a broken output, so that it does not fail again at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
