"""Which processes a name means: of a program first, else of a word of a command line.

A command line is memory of its process, which may be locked: a worker reads it, within a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator

from fastpagemap.cli import asking
from fastpagemap.cli.completion import is_offered
from fastpagemap.cli.processes import (
    command_of,
    has_memory,
    name_of,
    parent_of,
    processes,
    user_of,
)
from fastpagemap.process import stat
from fastpagemap.process.namespaces import directory_of
from fastpagemap.report.aligned import aligned
from fastpagemap.report.commands import told_apart
from fastpagemap.report.conditions import matches

__all__ = ["called", "commands", "matching", "named", "near", "table"]

#: Seconds that a process may keep those waiting who read its command line.
COMMAND_TIMEOUT = 1.0
#: Names that are suggested in place of one that no process has.
MAX_SIMILAR = 3
#: Processes that a table of those of one name has.
MAX_LISTED = 20
#: Columns that a command line gets, however narrow the terminal is.
MIN_COMMAND_WIDTH = 20


def called(name: str) -> Iterator[int]:
    """Yield the other processes whose name, or whose program's file name, is `name`."""
    for pid in processes():
        if pid != os.getpid() and name in (name_of(pid), _program(pid)) and has_memory(pid):
            yield pid


def named(name: str) -> list[int]:
    """Return the processes that a name means.

    If no program is called so, those with the name in their command lines, as a word of its own or
    as a file's name: ``ml.py`` means ``python3 /home/me/ml.py``. Not those that have led to this
    command, as ``sudo``, nor others like it: the name is in their command lines, too.
    """
    found = list(called(name))
    if found or not any(map(str.isalnum, name)):
        return found
    lines = commands(sorted(set(processes()) - _ancestors()))
    words = {pid: _names(line) for pid, line in lines.items()}
    return [pid for pid, its in words.items() if name in its and "fastpagemap" not in its]


def matching(pattern: str, pids: Iterable[int]) -> list[int]:
    """Return those processes whose name, program or command line matches; see ``matches``.

    Not those that have led to this command, nor its workers: the pattern is in their command lines.
    """
    pids = list(pids)
    found = {pid for pid in pids if _fits(pattern, name_of(pid), _program(pid))}
    lines, own = commands(sorted(set(pids) - found - _ancestors())), command_of(os.getpid())
    fits = {pid for pid, line in lines.items() if _fits(pattern, line, *_names(line))}
    return sorted(found | {pid for pid in fits if lines[pid] != own})


def near(name: str) -> list[str]:
    """Return names of processes that a name is the beginning of, or is spelled much like."""
    import difflib  # rarely needed, as what else is imported in a function here

    names = {name_of(pid) for pid in processes() if has_memory(pid)}
    offered = sorted(filter(is_offered, names))
    begun = [each for each in offered if len(name) > 2 and each.startswith(name)]
    return begun[:MAX_SIMILAR] or difflib.get_close_matches(name, offered, MAX_SIMILAR)


def commands(pids: Iterable[int]) -> dict[int, str]:
    """Return the beginnings of the command lines of those processes that give theirs.

    To read one may bring a page of its process into memory: what is counted is counted before.
    """
    found = asking.each(pids, command_of, COMMAND_TIMEOUT)
    return {pid: line for pid, line in found if isinstance(line, str)}


def table(pids: Collection[int]) -> Iterator[str]:
    """Yield lines that tell processes apart: a row for each of them, in the order given."""
    import shutil

    some = list(pids)[:MAX_LISTED]
    lines = commands(some)
    rows = [(*_cells(pid), lines.get(pid) or name_of(pid)) for pid in some]
    heads = ("pid", "user", "parent", "start", "command")
    used = sum(max(map(len, column)) + 2 for column in list(zip(heads, *rows, strict=True))[:-1])
    width = max(shutil.get_terminal_size().columns - used - 2, MIN_COMMAND_WIDTH)
    encoding = (sys.stderr and sys.stderr.encoding) or ""
    dots = "…" if encoding.lower().startswith("utf") else ".."
    texts = told_apart([row[-1] for row in rows], width, dots)
    shown = [(*row[:-1], text) for row, text in zip(rows, texts, strict=True)]
    for line in aligned(heads, shown):
        yield f"  {line}"
    if len(pids) > len(some):
        yield f"  and {len(pids) - len(some)} more"


def _cells(pid: int) -> tuple[str, str, str, str]:
    its = stat.read(pid)
    start = _clock(its.started) if its else "-"
    return str(pid), user_of(pid) or "-", str(parent_of(pid) or "-"), start


def _clock(ticks: int) -> str:
    """Return when a process was started: the time if that was today, else the date."""
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    then, now = time.localtime(time.time() - ago), time.localtime()
    today = then[:3] == now[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d", then)


def _fits(pattern: str, *texts: str) -> bool:
    return any(matches(pattern, text) for text in texts)


def _names(line: str) -> set[str]:
    """Return the words of a command line, and their file names."""
    words = line.split()
    return {*words, *map(os.path.basename, words)}


def _program(pid: int) -> str:
    """Return the file name of the program of a process."""
    try:
        return os.path.basename(os.readlink(f"{directory_of(pid)}/exe").removesuffix(" (deleted)"))
    except OSError:
        return ""


def _ancestors() -> set[int]:
    """Return this process and those that have started it."""
    found, pid = {os.getpid()}, os.getpid()
    while pid := parent_of(pid):
        found.add(pid)
    return found
