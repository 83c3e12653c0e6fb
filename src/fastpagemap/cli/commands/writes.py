"""``fastpagemap writes``."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli import program as programs
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import interval_option, timeout_option

WARNING = (
    "this clears the soft-dirty bits of process {pid}: whoever else tracks it by them (CRIU's "
    "pre-dump) loses what was written until now, and each page faults once more when it is "
    "written next"
)


#: When it was, the seconds that it is about, and the bytes written by path.
Sample = tuple[float, float, dict[str, int]]
# What a line names: so many paths, each within so many characters.
_NAMED, _NAME = 3, 20


@click.command(
    cls=programs.Starting,
    short_help="How much a process or a Python program writes, and where.",
    epilog="""
\b
Examples:
  fastpagemap writes 1234 --yes                  a line every second, until Ctrl-C
  fastpagemap writes checkpointer --interval 5 --count 12
  fastpagemap writes program.py ARGUMENTS        run it; a line every second, until it ends
  fastpagemap writes 1234 --yes --count 60 --json | jq .rate
""",
)
@click.argument("target", shell_complete=complete_target)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@interval_option("The time that each line covers.", default=1.0)
@click.option(
    "--count", type=click.IntRange(1), metavar="N",
    help="Stop after N lines, and end a program that was run.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before the bits are cleared.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each line, in bytes.")
@timeout_option
def writes(
    target: str,
    arguments: tuple[str, ...],
    interval: float,
    count: int | None,
    yes: bool,
    as_json: bool,
    timeout: float,
) -> Iterable[str]:
    """Show how much memory process TARGET writes, and where; or run a Python program and show it.

    TARGET is a process id, the name of a process, or a program NAME.py, which is run with
    ARGUMENTS. Options of this command stand before TARGET; all that follows it is the program's.

    For a process, this command uses the kernel's soft-dirty bits, and so CHANGES the process. It
    clears the bits (it writes 4 to /proc/PID/clear_refs), also for others who track the process by
    them, such as CRIU. So it asks first, unless --yes is given. The process itself only pays one
    page fault for each page at its next write. Writes between reading and clearing the bits are
    missed. The kernel needs CONFIG_MEM_SOFT_DIRTY; 'fastpagemap doctor' shows whether it has that.

    A program that is run tracks its own writes, with WriteTracker, in a thread whose few writes
    count, too. That needs Linux 6.7 and no privilege. Memory of files is left out, except shared
    memory (/dev/shm, memfd) and hugetlb. If another process changes shared memory, all of it may
    count. New mappings count with all that is present in them. Memory that is mapped, written and
    unmapped between two lines is missed. Only the 128 largest stretches of memory are tracked, or
    fewer if 'ulimit -n' is below 1024: one for each 8 files that it allows. Writes to others are
    missed. Forked children are not tracked. The lines stand between what the program prints. The
    exit code is the program's.

    A page counts once for each line, however often it was written. A write to a huge page counts
    for the whole huge page; in a program that is run, only as long as the page stays huge.
    """
    if programs.is_script(target):
        programs.note_running(target)
        return _of_program(target, arguments, interval, count, as_json)
    if arguments:
        raise click.UsageError(f"only a program NAME.py has arguments: '{arguments[0]}'")
    return _of_process(target, interval, count, yes, as_json, timeout)


def _of_process(
    target: str, interval: float, count: int | None, yes: bool, as_json: bool, timeout: float
) -> Iterator[str]:
    from fastpagemap.process.probes import need_soft_dirty

    pid = targets.resolve(target)
    if not isinstance(pid, int):
        raise click.UsageError("a snapshot is not written to: give a process id or a name")
    need_soft_dirty()
    writes = asking.Remote(partial(_Writes, pid), timeout)
    try:
        with asking.naming(pid):
            writes.call("open")
            _confirm(pid, yes)
            lines = _as_json if as_json else _as_text
            yield from lines(_samples(writes, interval, count))
    finally:
        writes.close()


def _of_program(
    program: str, arguments: tuple[str, ...], interval: float, count: int | None, as_json: bool
) -> Iterator[str]:
    """Run a program, and tell what it writes."""
    told, telling = os.pipe()
    inside = {"writes": telling, "interval": interval}
    ended = False
    with programs.started(inside, program, arguments, pass_fds=[telling]) as process:
        os.close(telling)
        with open(told, "rb") as lines:
            samples = _told(lines, process, count)
            yield from (_as_json if as_json else _as_text)(samples)
        if process.poll() is None:
            ended = True
            programs.end(process)
    raise click.exceptions.Exit(0 if ended else programs.exit_code(process.returncode))


def _told(lines: BinaryIO, process: subprocess.Popen[bytes], count: int | None) -> Iterator[Sample]:
    """Yield what a program tells, until it has ended; what it has forked may hold the pipe open."""
    from fastpagemap.model.errors import UnsupportedError

    number, data, pipe = 0, b"", lines.fileno()
    end = os.pidfd_open(process.pid)
    try:
        while count is None or number < count:
            if sys.stdout is not None:
                sys.stdout.flush()
            ready, _, _ = select.select([pipe, end], [], [])
            if pipe not in ready:
                break
            new = os.read(pipe, 1 << 16)
            if not new:
                process.wait()
                break
            *whole, data = (data + new).split(b"\n")
            for words in map(json.loads, whole):
                if len(words) == 2:
                    raise UnsupportedError(*words)
                number += 1
                yield tuple(words)
                if number == count:
                    return
    finally:
        os.close(end)
    if pipe not in ready:
        process.wait()


class _Writes:
    """What is written by a process; used in a worker."""

    def __init__(self, pid: int) -> None:
        from fastpagemap.pagemap import PageMap

        self._pagemap = PageMap(pid)

    def open(self) -> None:
        """Do nothing: the process is held open once this has been made."""

    def clear(self) -> None:
        """Clear the soft-dirty bits."""
        self._pagemap.clear_soft_dirty()

    def since(self) -> dict[str, int]:
        """Return the bytes that were written, by path, since this was called; clear the bits."""
        mappings = self._pagemap.mappings()
        runs = self._pagemap.states(mappings)
        self._pagemap.clear_soft_dirty()
        return _written(mappings, runs)


def _confirm(pid: int, yes: bool) -> None:
    warning = WARNING.format(pid=pid)
    if yes:
        click.echo(f"fastpagemap: {warning}", err=True)
    elif sys.stdin is not None and sys.stdin.isatty():
        click.confirm(f"{warning}. Go on?", abort=True, err=True)
    else:
        raise click.UsageError(f"{warning}; to go on, say --yes")


def _samples(writes: asking.Remote, interval: float, count: int | None) -> Iterator[Sample]:
    """Yield, for each interval, when it ended, its seconds, and the bytes written by path."""
    writes.call("clear")
    began = time.monotonic()
    number = 0
    while count is None or number < count:
        if sys.stdout is not None:
            sys.stdout.flush()  # a pipe would hold back lines until its buffer is full
        time.sleep(interval)
        written = writes.call("since")
        now = time.monotonic()
        yield time.time(), now - began, written
        began, number = now, number + 1


def _written(mappings: Any, runs: Any) -> dict[str, int]:
    """Return the bytes that were written, by path, the largest first.

    Only present and swapped pages count: in a new mapping, pages that were never touched are
    soft-dirty, too.
    """
    import numpy as np

    from fastpagemap.model.runs import State, has_any

    there = has_any(runs["state"], State.PRESENT | State.SWAPPED)
    dirty = runs[there & has_any(runs["state"], State.SOFT_DIRTY)]
    starts = np.array([mapping.start for mapping in mappings], np.uint64)
    rows = np.searchsorted(starts, dirty["start"], "right") - 1
    sums: dict[str, int] = {}
    for row, size in zip(rows.tolist(), (dirty["end"] - dirty["start"]).tolist(), strict=True):
        path = mappings[row].path
        sums[path] = sums.get(path, 0) + size
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _as_text(samples: Iterable[Sample]) -> Iterator[str]:
    from fastpagemap.cli.drawing import terminal_width
    from fastpagemap.report.text import beginning, human

    yield "time      written  per second  where"
    for at, seconds, sums in samples:
        total = sum(sums.values())
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        start = f"{clock}  {human(total):>7}  {human(round(total / seconds)):>10}  "
        width = terminal_width()  # it may change meanwhile
        where = _where(sums, None if width is None else width - len(start))
        yield (start + where if width is None else beginning(start + where, width)).rstrip()


def _where(sums: dict[str, int], width: int | None) -> str:
    """Return what was written to, the largest first, as many as fit the width."""
    from fastpagemap.report.text import beginning, ending, human, name_of

    names = [
        f"{ending(name_of(path), _NAME)} {human(size)}" for path, size in [*sums.items()][:_NAMED]
    ]
    text = ""
    for count in range(len(names), 0, -1):
        more = f" and {len(sums) - count} more" if len(sums) > count else ""
        text = ", ".join(names[:count]) + more
        if width is None or beginning(text, width) == text:
            break
    return text


def _as_json(samples: Iterable[Sample]) -> Iterator[str]:
    for at, seconds, sums in samples:
        total = sum(sums.values())
        yield json.dumps(
            {
                "time": at,
                "seconds": seconds,
                "written": total,
                "rate": total / seconds,
                "paths": sums,
            }
        )
