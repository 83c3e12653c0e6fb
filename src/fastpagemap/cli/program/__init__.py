"""Start a Python program that is to be looked at; `start` is the half in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fastpagemap.report.text import printable

if TYPE_CHECKING:
    from fastpagemap.process.family import Known

__all__ = ["START", "Starting", "end", "exit_code", "is_script", "note_running", "started"]

#: The file that is run in place of the program.
START = str(Path(__file__).with_name("start.py"))
# Seconds that a program has to end, once nobody looks any more.
_PATIENCE = 5.0


def is_script(text: str) -> bool:
    """Return whether a TARGET is a Python program to run: an existing file NAME.py."""
    return text.endswith(".py") and os.path.isfile(text)


def note_running(program: str) -> None:
    """Say that a program is run anew, where a process of its name might have been meant."""
    from fastpagemap.cli.naming import named

    found = [] if "/" in program else named(program)
    if found:
        text = (
            f"./{program} is run anew: for a process that runs it already, say its id, {found[0]}"
        )
        click.echo(f"fastpagemap: {printable(text)}", err=True)


class Starting(click.Command):
    """A command about a process or a Python program: what follows a program is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Have no option of the program's taken for one of the command."""
        at = next((at for at, each in enumerate(args) if is_script(each)), None)
        if at is not None and "--" not in args[:at]:
            args = [*args[:at], "--", *args[at:]]
        return super().parse_args(ctx, args)


def exit_code(code: int) -> int:
    """Return an exit code as a shell tells it: 128 and the signal for a program that was killed."""
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def started(
    options: dict[str, Any],
    program: str,
    arguments: Sequence[str],
    on_signals: dict[signal.Signals, Callable[[int], None]] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; once the block is left it has ended, or is killed with what it has forked.

    Ctrl-C is left to the program, which gets it too. `on_signals`: what is called with the
    program's pid when this process gets a signal.
    """
    words = json.dumps({**options, "parent": os.getpid()})
    if sys.stdout is not None:
        sys.stdout.flush()
    process = subprocess.Popen(
        [sys.executable, START, words, program, *arguments], pass_fds=pass_fds
    )
    handlers: dict[signal.Signals, Any] = {signal.SIGTERM: _end, signal.SIGINT: lambda *_: None}
    for number, call in (on_signals or {}).items():
        handlers[number] = lambda *_, call=call: call(process.pid)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield process
    finally:
        # they would reach whoever has its pid
        for number in on_signals or {}:
            signal.signal(number, signal.SIG_IGN)
        if process.poll() is None:
            family = _forked(process.pid)
            process.kill()
            process.wait()
            _terminate(family)
        for number, handler in before.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program, and then what it has forked and left behind."""
    family = _forked(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        click.echo("fastpagemap: the program did not end, and is killed", err=True)
        process.kill()
        process.wait()
    _terminate(family)


def _forked(pid: int) -> list[Known]:
    """Return the descendants of a program. Their /proc/PID/stat is read, no memory of theirs."""
    from fastpagemap.process.family import descendants

    try:
        return descendants(pid)
    except OSError:  # it has ended by itself
        return []


def _terminate(family: list[Known]) -> None:
    from fastpagemap.process.family import known_at

    for known in family:
        with contextlib.suppress(ProcessLookupError):
            held = os.pidfd_open(known.pid)
            try:
                if known_at(known.pid) == known:  # and not who has its pid now
                    signal.pidfd_send_signal(held, signal.SIGTERM)
            finally:
                os.close(held)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
