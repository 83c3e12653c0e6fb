"""``fastpagemap files``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import click

from fastpagemap.cli import asking, drawing
from fastpagemap.cli.collect import answered, reason
from fastpagemap.cli.completion import complete_file
from fastpagemap.cli.options import timeout_option
from fastpagemap.cli.processes import processes
from fastpagemap.cli.progress import counted
from fastpagemap.engine.file_caches import File, FileCache, cache_of, mapped_by
from fastpagemap.process.leases import Leases
from fastpagemap.process.namespaces import hides_others
from fastpagemap.process.process import Process
from fastpagemap.report import cached_files, unreadable
from fastpagemap.report.cached_files import CachedFile, User
from fastpagemap.report.report import About, Unreadable
from fastpagemap.report.text import printable

EXAMPLES = """
\b
Examples:
  fastpagemap files model.safetensors
  sudo fastpagemap files /var/lib/postgresql/16/main/base/5/*
  fastpagemap files /dev/shm/* --json | jq '.files | map(.swapped) | add'
  fastpagemap files /proc/1234/exe       the program of a process
"""
HIDDEN = "/proc hides the processes of other users (hidepid): who of them maps a file is not here"


@click.command(
    short_help="Which parts of files are in the page cache, and who maps them.", epilog=EXAMPLES
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, shell_complete=complete_file)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, in bytes.")
@timeout_option
def files(paths: tuple[str, ...], as_json: bool, timeout: float) -> Iterable[str]:
    """Show what of each file is in the page cache, and which processes map it.

    \b
    size        of the file
    allocated   on its file system: less than the size, if it has holes
    cached      in the page cache, mapped or not
    dirty       the part of cached that is not written to the disk yet
    writeback   the part of cached that is being written to the disk now
    swapped     in swap: only of a tmpfs, a memfd or other shared memory
    processes   how many map it; a second table shows how much each maps and has present

    Files are opened, but neither read nor changed; access times and leases stay as they are. Only
    regular files are asked, and directories are not walked. A file is left out if a process holds a
    lease on it, or if it is another user's and this user may not write it. '-' means that the
    kernel does not tell: dirty and writeback before Linux 6.5 and on overlayfs. Pages that a
    private mapping has copied are not the file's, and do not count as present. Files and processes
    that could not be asked are named on stderr. The exit code is 1 if no file could be asked.
    """
    return _files(list(dict.fromkeys(paths)), as_json, timeout)


def _files(paths: Sequence[str], as_json: bool, timeout: float) -> Iterator[str]:
    """Ask, and draw, once `fastpagemap.cli.main` asks for the first line."""
    caches: dict[str, FileCache] = {}
    refused: dict[str, str] = {}
    leases = Leases()  # read once, by who is asked first
    answers = asking.each(
        range(len(paths)), lambda number: cache_of(paths[number], leases), timeout
    )
    for number, outcome in answers:
        if isinstance(outcome, Exception):
            refused[paths[number]] = reason(outcome)
        else:
            caches[paths[number]] = outcome
    if not caches:
        path, why = next(iter(refused.items()))
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise OSError(f"{path}: {why}{more}")
    users, unread = _users(caches, timeout)
    found = [
        CachedFile(path, *cache[1:], processes=users.get(cache.file, []))
        for path, cache in caches.items()
    ]
    about = About.now(None, "")
    if as_json:
        yield from cached_files.json_lines(found, refused, unread, about)
    else:
        yield from drawing.first_line("files in the page cache", about)
        yield from cached_files.plain(found, drawing.terminal_width())
    notes = [f"{printable(path)}: {why}" for path, why in refused.items()]
    notes += unreadable.lines(unread)
    for line in [*notes, *([HIDDEN] if hides_others() else [])]:
        click.echo(f"fastpagemap: {line}", err=True)


def _users(
    caches: dict[str, FileCache], timeout: float
) -> tuple[dict[File, list[User]], list[Unreadable]]:
    """Return who maps each file, and the processes that could not be read."""
    wanted = {cache.file for cache in caches.values()}
    users: dict[File, list[User]] = {}
    unread: list[Unreadable] = []
    with counted("reading processes", processes()) as pids:
        outcomes = asking.each(pids, lambda pid: _uses(pid, wanted), timeout)
        for pid, (name, uses) in answered(outcomes, unread):
            for file, sizes in uses.items():
                users.setdefault(file, []).append(User(pid, name, *sizes))
    return users, unread


def _uses(pid: int, wanted: Collection[File]) -> tuple[str, dict[File, tuple[int, int]]]:
    """Return the name of a process, and how much of each file it maps and has present."""
    process = Process(pid)
    found = mapped_by(process, wanted)
    return process.name() if found else "", found
