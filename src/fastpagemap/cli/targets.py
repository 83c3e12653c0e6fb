"""Find the process or the snapshot that PID|NAME|FILE on the command line means."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fastpagemap.cli.processes import has_memory, name_of, processes
from fastpagemap.model.errors import SnapshotError
from fastpagemap.pagemap import PageMap
from fastpagemap.process.namespaces import directory_of

if TYPE_CHECKING:
    from fastpagemap.snapshot.snapshot import Snapshot

#: Processes that an error message lists, so that it stays one line.
MAX_LISTED = 12


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


def process(text: str) -> int:
    """Return the pid of a PID|NAME.

    Raises
    ------
    click.BadParameter
        It is neither, or the name of several processes, which the message lists.
    ProcessLookupError
        No process has that name.
    """
    if not text or text.isdecimal() or text.startswith(("-", "+")):
        return process_id(text)
    pids = list(named(text))
    if not pids:
        raise ProcessLookupError(f"no process is called '{text}', and no file")
    if len(pids) > 1:
        some = ", ".join(f"{pid} ({_command(pid)})" for pid in pids[:MAX_LISTED])
        more = f" and {len(pids) - MAX_LISTED} more" if len(pids) > MAX_LISTED else ""
        raise click.BadParameter(
            f"{len(pids)} processes are called '{text}', say which: {some}{more}"
        )
    return pids[0]


def named(name: str) -> Iterator[int]:
    """Yield the other processes whose name, or whose program's file name, is `name`."""
    for pid in processes():
        if pid != os.getpid() and name in (name_of(pid), _program(pid)) and has_memory(pid):
            yield pid


def _program(pid: int) -> str:
    """Return the file name of the program of a process."""
    try:
        return os.path.basename(os.readlink(f"{directory_of(pid)}/exe").removesuffix(" (deleted)"))
    except OSError:
        return ""


def _command(pid: int) -> str:
    """Return the beginning of a command line, which tells processes of one name apart."""
    try:
        with open(f"{directory_of(pid)}/cmdline", "rb") as file:
            words = os.fsdecode(file.read(4096)).replace("\0", " ").strip()
    except OSError:
        words = ""
    return (words if len(words) <= 40 else words[:39] + "…") or name_of(pid)


def resolve(text: str, raw: bool = False, start: int = 0) -> int | Snapshot:
    """Return the pid or the snapshot that PID|NAME|FILE means.

    A text with a slash is a file. Another word is the name of a process, unless the current
    directory has a snapshot of that name; its first bytes show whether a file is a snapshot.

    Raises
    ------
    click.UsageError
        It is the name of several processes; or, with `raw`, the file does not hold entries.
    OSError, SnapshotError
        There is no such process or file, or it cannot be read.
    """
    if raw:
        return _entries(text, start)
    if start:
        raise click.UsageError("--start goes with --raw: a snapshot knows its addresses")
    if "/" in text or (_is_file(text) and (_is_snapshot(text) or not any(named(text)))):
        # imported only here: a process needs no Snapshot
        from fastpagemap.snapshot.snapshot import Snapshot

        return Snapshot.load(text)
    return process(text)


def snapshot(text: str, raw: bool = False, start: int = 0) -> Snapshot:
    """Return the snapshot that PID|NAME|FILE means; of a process, a new one."""
    from fastpagemap.cli.progress import waiting

    whose = resolve(text, raw, start)
    if not isinstance(whose, int):
        return whose
    with waiting(f"reading process {whose}"), PageMap(whose) as pagemap:
        return pagemap.snapshot()


def _entries(path: str, start: int) -> Snapshot:
    from fastpagemap.snapshot.snapshot import Snapshot

    try:
        return Snapshot.from_entries(path, start)
    except SnapshotError:
        raise
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _is_file(text: str) -> bool:
    try:
        return not text.isdecimal() and stat.S_ISREG(os.stat(text).st_mode)
    except (OSError, ValueError):
        return False


def _is_snapshot(path: str) -> bool:
    from fastpagemap.snapshot.open_file import open_to_read

    with open_to_read(path) as file:
        return file.read(4) == b"PK\3\4"
