"""Find the process or the snapshot that PID|NAME|FILE on the command line means."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fastpagemap.cli import asking
from fastpagemap.cli.naming import called, named, near, table
from fastpagemap.cli.options import NOT_RAW, Raw
from fastpagemap.cli.processes import has_memory, name_of, processes
from fastpagemap.model.errors import SnapshotError, UnsupportedError
from fastpagemap.model.mapping import UNKNOWN_PATH
from fastpagemap.pagemap import PageMap
from fastpagemap.process.family import topmost
from fastpagemap.process.namespaces import hides_others
from fastpagemap.report.text import printable

if TYPE_CHECKING:
    from fastpagemap.snapshot.snapshot import Snapshot

#: Of a file whose name is no process's.
SUFFIX = ".fpm"
# Not what is in a directory below it, such as the process's current one.
_PROC = re.compile(r"/proc/(\d+)(?:/\w*)?")


def process_id(text: str) -> int:
    """Return the process id that a text is.

    Raises
    ------
    click.BadParameter
        It is none. Only digits are allowed: int() would also accept "1_0" and " 7 ". No kernel has
        pids of ten digits.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise click.BadParameter(f"'{text}' is no process id; 'pgrep NAME' or 'ps -e' shows them")
    return int(text)


def _is_pid(text: str) -> bool:
    return not text or text.isdecimal() or text.startswith(("-", "+"))


def process(text: str, *, tree: bool = False) -> int:
    """Return the pid of a PID|NAME; with `tree`, of several the one that is no child of others.

    Raises
    ------
    click.BadParameter
        It is neither, or the name of several processes, which the message lists.
    ProcessLookupError
        No process has that name.
    """
    if _is_pid(text):
        return process_id(text)
    pids = found = named(text)
    if tree:
        pids = topmost(found)
    if not pids and os.path.isdir(text):
        recorded = f"'fastpagemap map {text} --over-time' draws what was recorded"
        raise click.BadParameter(f"'{text}' is a directory, and no process; {recorded}")
    if not pids and os.path.exists(text):
        raise click.BadParameter(f"'{text}' is a file: only a process can be asked for that")
    if not pids:
        raise ProcessLookupError(_nobody(text))
    if len(pids) > 1:
        raise SeveralProcesses(text, pids)
    return pids[0]


def processes_of(text: str) -> list[int]:
    """Return the pids of a PID|NAME: all processes that have the name.

    Raises
    ------
    click.BadParameter
        It is neither.
    ProcessLookupError
        There is none.
    """
    found = [process_id(text)] if _is_pid(text) else named(text)
    if len(found) == 1 and not has_memory(found[0]):
        raise ProcessLookupError(errno.ESRCH, f"no process {text}, or one without memory")
    return found or [process(text)]


class SeveralProcesses(click.BadParameter):
    """A name of several processes; `table` tells these apart."""

    def __init__(self, name: str, pids: list[int]) -> None:
        text = f"{len(pids)} processes are called '{name}': say which, by its process id"
        if len(topmost(pids)) == 1:
            text += f"; 'fastpagemap report --tree {name}' counts them together"
        super().__init__(text)
        self.table = list(table(pids))

    def format_message(self) -> str:
        """Return it without the name of a parameter: it is about TARGET."""
        return self.message


def _nobody(name: str) -> str:
    """Return in words that no process has a name, and which ones are spelled much like it."""
    if any(name == name_of(pid) for pid in processes() if pid != os.getpid()):
        return f"'{name}' has no memory: it is a kernel thread or a zombie"
    text = f"no process is called '{name}', and no file"
    if hides_others():
        text += " (/proc hides those of other users)"
    similar = near(name)
    return f"{text}; did you mean {' or '.join(similar)}?" if similar else text


def resolve(text: str, raw: Raw = NOT_RAW, timeout: float | None = None) -> int | Snapshot:
    """Return the pid or the snapshot that PID|NAME|FILE means.

    ``-`` is standard input, and a text with a slash a file. Another word is the name of a process,
    or of a snapshot in the current directory; its first bytes show whether a file is a snapshot.
    Whoever can make files there chooses their names: so a word that is both is refused, and it is
    said if one that looks like the name of a process is a file.

    Raises
    ------
    click.UsageError
        It is the name of several processes, or of a process and a snapshot; or, with `raw`, the
        file does not hold entries.
    OSError, SnapshotError
        There is no such process or file, or it cannot be read.
    """
    if raw.given:
        return _entries(text, raw, timeout)
    if raw:
        raise click.UsageError("--start and --maps go with --raw: a snapshot has both in it")
    of_process = _PROC.fullmatch(text)
    if of_process:
        raise click.UsageError(f"{text} is of process {of_process[1]}: say {of_process[1]}")
    if text in ("-", ".", "..") or "/" in text or _means_file(text):
        # imported only here: a process needs no Snapshot
        from fastpagemap.snapshot.snapshot import Snapshot

        with _opened(text) as source:
            try:
                return Snapshot.load(source)
            except SnapshotError as error:
                where = "standard input" if text == "-" else text
                raise SnapshotError(f"{where}: {error}") from None
    return process(text)


def snapshot(text: str, raw: Raw = NOT_RAW, timeout: float | None = None) -> Snapshot:
    """Return the snapshot that PID|NAME|FILE means; of a process, a new one.

    With `timeout`, the process may keep its reader waiting for so many seconds at most.
    """
    from fastpagemap.cli.progress import waiting

    whose = resolve(text, raw, timeout)
    if not isinstance(whose, int):
        return whose
    with waiting(f"reading process {whose}"):
        return asking.about(whose, _take, timeout)


def _take(pid: int) -> Snapshot:
    with PageMap(pid) as pagemap:
        return pagemap.snapshot()


def _entries(text: str, raw: Raw, timeout: float | None) -> Snapshot:
    """Return a snapshot of a file of entries, or of the process whose pagemap it is."""
    from fastpagemap.snapshot.snapshot import Snapshot

    if text == raw.maps == "-":
        raise click.UsageError("entries and --maps cannot both be standard input")
    live = _live_snapshot(text, raw, timeout)
    if live is not None:
        return live
    at = text
    try:
        spans = None
        if raw.maps is not None:
            from fastpagemap.snapshot.saved_maps import saved_mappings

            at = raw.maps
            with _opened(raw.maps) as source:
                spans = saved_mappings(source)
            at = text
        with _opened(text) as source:
            found = Snapshot.from_entries(source, raw.start, maps=spans)
    except SnapshotError:
        raise
    except ValueError as error:
        raise click.UsageError(f"{at}: {error}") from None
    if spans and found.mappings and all(one.path == UNKNOWN_PATH for one in found.mappings):
        raise click.UsageError(
            f"{raw.maps}: nothing is mapped there at the addresses of the entries, from "
            f"{raw.start:x} on: say with --start where they begin, or give the right maps"
        )
    return found


def _live_snapshot(text: str, raw: Raw, timeout: float | None) -> Snapshot | None:
    """Return a snapshot of the process whose pagemap in /proc a file is; None for other files."""
    from fastpagemap.process.live_file import live_file, open_live
    from fastpagemap.snapshot.snapshot import take

    if text.isdecimal() and not os.path.exists(text):
        raise click.UsageError(f"--raw reads a file, such as /proc/{text}/pagemap")
    # Only looked up: opening it may wait for a process that has locked its memory.
    held = 0 if text == "-" else os.open(text, os.O_PATH | os.O_CLOEXEC)
    try:
        live = live_file(held)
        if live is None:
            return None
        if raw.start or raw.maps is not None:
            raise click.UsageError(
                f"{text} is of process {live.pid}: it needs no --start or --maps"
            )
        return asking.about(live.pid, lambda _: take(open_live(live)), timeout)
    finally:
        if held:
            os.close(held)


@contextlib.contextmanager
def _opened(text: str) -> Iterator[Any]:
    """Open standard input for '-'; yield any other path as it is."""
    if text != "-":
        yield text
    elif sys.stdin is None:
        raise OSError("standard input is closed")
    elif sys.stdin.isatty():
        raise click.UsageError("'-' is standard input, which is a terminal: send a file to it")
    else:
        os.set_blocking(0, True)
        with open(0, "rb", buffering=0, closefd=False) as file:
            yield file


def _means_file(text: str) -> bool:
    """Return whether a word means a file in the current directory, and no process.

    Raises
    ------
    click.UsageError
        It is the name of a snapshot and of a process.
    """
    if not _is_file(text):
        return False
    if not _is_snapshot(text):
        return not named(text)
    # not those with the word in their command lines: an editor of this file, another fastpagemap
    pid = None
    with contextlib.suppress(UnsupportedError):  # no /proc: no process can be meant
        pid = next(called(text), None)
    if pid is not None:
        raise click.UsageError(f"'{text}' is a snapshot here, and a process: say ./{text} or {pid}")
    if not text.endswith(SUFFIX):
        note = f"fastpagemap: no process is called '{text}', so it is the file ./{text}"
        click.echo(printable(note), err=True)
    return True


def _is_file(text: str) -> bool:
    try:
        return not text.isdecimal() and stat.S_ISREG(os.stat(text).st_mode)
    except (OSError, ValueError):
        return False


def _is_snapshot(path: str) -> bool:
    from fastpagemap.snapshot.open_file import open_to_read

    with open_to_read(path) as file:
        return file.read(4) == b"PK\3\4"
