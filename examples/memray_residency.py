"""What memray cannot tell alone: how much of what a program allocated is in RAM, line by line.

    python examples/memray_residency.py examples/shop.py
    python examples/memray_residency.py --at 5 -m package.module ARGUMENTS

A profiler of allocations counts what was asked for. Memory that was never touched costs nothing,
and what was paged out is not in RAM. This runs a program under memray (pip install memray) and asks
fastpagemap about each allocation that is alive at a moment:

    allocated   what was asked for            resident   the part of it that is in RAM
    swapped     the part that is swapped out  shared     the resident part that is of shared memory

The moment is the program's end, before anything is torn down (``--at exit``); so many seconds after
its start (``--at 5``); or whenever this process is sent SIGUSR1 (``--at SIGUSR1``: the program may
say ``os.kill(os.getppid(), signal.SIGUSR1)``). A program may also choose it to the instruction, by
``os.kill(os.getpid(), signal.SIGSTOP)``; it goes on as soon as the table is made.

How exact it is
---------------
At the moment the program is stopped with SIGSTOP, all its threads with it. memray writes through a
shared mapping, so its file then holds every allocation up to that instant, and the page table is
read before the program goes on. Both are of one moment; only the kernel may still swap, and what a
thread was just about to record is missing. The program stands still for some seconds for each
million allocations and deallocations since its start.

What it leaves out: memory that was allocated before memray began, by the interpreter and memray
itself; what the program's own forks do (pages they share count as resident here); what the C
library keeps after free(); mremap(), of which memray does not know: memory that moved counts as not
resident. Python's small objects appear as the arenas they live in, at the line that needed another
arena; with ``--python-allocators`` each of them is recorded. Without privileges it may be unknown
whether shared memory is swapped; it is not counted then.
"""

from __future__ import annotations

import linecache
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

import fastpagemap


def fail(message: str) -> NoReturn:
    """End with one line, not with a traceback."""
    sys.stderr.write(f"memray_residency: {message}\n")
    sys.exit(1)


try:
    import click
    from memray_alive import PROGRAM_HALF, Site, alive, read
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fastpagemap.report.tables import human, printable
except ModuleNotFoundError as error:
    fail(f"{error.name} is not installed: pip install click memray rich")

#: The columns of sizes, and the field of `PageMap.residency` that each is the sum of.
COLUMNS = {"allocated": "", "resident": "present", "swapped": "swapped", "shared": "shared"}
WIDTH_IN_A_PIPE, WHERE, SOURCE = 140, 32, 40


class Report(NamedTuple):
    """One row a call site, the largest first, and what the whole process has."""

    sites: list[Site]
    sizes: dict[str, npt.NDArray[Any]]  # by column
    allocations: int
    process: dict[str, int]


def report(pid: int, capture: str) -> Report:
    """Ask for each live allocation of a process that stands still; sum by call site."""
    with fastpagemap.PageMap(pid) as pm:
        # memray maps its file as long as it records: not yet, or not any more, after an exec
        if all(mapping.path != capture for mapping in pm.mappings()):
            raise ProcessLookupError("memray does not record it at this moment")
        events, site_of = read(capture)
        live = alive(events)
        residency = pm.residency(live["address"], live["size"])
        usage = pm.usage(fields=("present", "swapped"))
    stacks, index = np.unique(live["stack"], return_inverse=True)
    sites = sorted(set(site_of.values()))
    number = {each: at for at, each in enumerate(sites)}
    row = np.array([number[site_of[stack]] for stack in stacks.tolist()], np.intp)[index]
    sizes = {name: np.zeros(len(sites), np.uint64) for name in COLUMNS}
    np.add.at(sizes["allocated"], row, live["size"])
    for name, field in COLUMNS.items():
        if field:
            np.add.at(sizes[name], row, residency[field])
    order = [at for at in np.argsort(sizes["allocated"])[::-1] if sizes["allocated"][at]]
    return Report(
        [sites[at] for at in order],
        {name: column[order] for name, column in sizes.items()},
        len(live),
        {name: int(usage[name].sum()) for name in ("present", "swapped")},
    )


def draw(found: Report, limit: int, width: int) -> Table:
    """Return the table: `limit` call sites, then the rest and the sum."""
    total = {name: int(column.sum()) for name, column in found.sizes.items()}
    table = Table(
        title=f"{found.allocations} allocations alive: {human(total['allocated'])} allocated, "
        f"{human(total['resident'])} resident",
        caption=f"The process has {human(found.process['present'])} in RAM and "
        f"{human(found.process['swapped'])} in swap, with all that memray does not record.",
        show_footer=True,
    )
    for name, size in total.items():
        table.add_column(name, human(size), justify="right", min_width=len(name))
    # what is left beside the sizes; where that is little, the source goes below its place
    room = width - 4 - sum(len(name) + 3 for name in total)
    wide = room > WHERE + SOURCE
    table.add_column("where", f"{len(found.sites)} call sites", no_wrap=True, max_width=room)
    if wide:
        table.add_column("source", no_wrap=True, max_width=room - WHERE - 3)
    for at, each in enumerate(found.sites[:limit]):
        sizes = [human(int(column[at])) for column in found.sizes.values()]
        source = linecache.getline(each.file, each.line).strip()
        texts = [printable(where(each, min(room, WHERE))), printable(source)]
        table.add_row(*sizes, *map(Text, texts if wide else ["\n".join(texts)]))
    if found.sites[limit:]:
        rest = [human(int(column[limit:].sum())) for column in found.sizes.values()]
        table.add_row(*rest, f"{len(found.sites) - limit} more")
    return table


def where(each: Site, room: int) -> str:
    """Return ``file:line function``, the file from here or with its folder, cut from the left."""
    if not each.file:
        return each.function
    path = Path(each.file).absolute()
    below = path.is_relative_to(Path.cwd())
    file = str(path.relative_to(Path.cwd())) if below else "/".join(path.parts[-2:])
    text = f"{file}:{each.line} {each.function}"
    return text if len(text) <= room else ".." + text[2 - room :]


def watch(pid: int, capture: str, limit: int) -> int:
    """Show a table each time the program stands still, until it ends; return how many."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_IN_A_PIPE, emoji=False)
    tables = 0
    while True:
        event = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if event is None or event.si_code != os.CLD_STOPPED:
            return tables
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # seen
        if event.si_status != signal.SIGSTOP:  # Ctrl-Z: the shell wakes both of us
            continue
        try:
            found = report(pid, capture)
        except OSError as error:
            sys.stderr.write(f"memray_residency: no table of process {pid}: {error}\n")
        else:
            console.print(draw(found, limit, console.width))
            tables += 1
        os.kill(pid, signal.SIGCONT)


def moment(context: click.Context, parameter: click.Parameter, value: str) -> str | float:
    """Check --at."""
    if value in ("exit", "SIGUSR1"):
        return value
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e8:  # nor NaN
        raise click.BadParameter(f"{value}: exit, SIGUSR1 or a number of seconds, such as 2.5")
    return seconds


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--at", default="exit", metavar="exit|SECONDS|SIGUSR1", callback=moment)
@click.option("--limit", default=20, type=click.IntRange(1), help="Rows of the table.")
@click.option("--python-allocators", is_flag=True, help="Record each small object of Python's.")
@click.option("-m", "module", is_flag=True, help="PROGRAM is the name of a module.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(
    at: str | float,
    limit: int,
    python_allocators: bool,
    module: bool,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Run PROGRAM under memray; show what it allocated, and how much of that is in RAM."""
    if not module and not os.path.isfile(program):
        raise click.BadParameter(f"there is no file {program}", param_hint="PROGRAM")
    flags = {"exit": at == "exit", "python-allocators": python_allocators, "module": module}
    options = ",".join(name for name, wanted in flags.items() if wanted)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="memray-") as directory:
        capture = os.path.join(os.path.realpath(directory), "capture")
        process = subprocess.Popen(
            [sys.executable, PROGRAM_HALF, capture, options, program, *arguments]
        )
        try:
            stop = lambda *_: os.kill(process.pid, signal.SIGSTOP)  # noqa: E731
            signal.signal(signal.SIGUSR1, stop)
            signal.signal(signal.SIGALRM, stop)
            signal.signal(signal.SIGINT, lambda *_: None)  # the program gets it, too, and decides
            if at == "SIGUSR1":
                sys.stderr.write(f"memray_residency: kill -USR1 {os.getpid()} for a table\n")
            elif at != "exit":
                signal.setitimer(signal.ITIMER_REAL, float(at))
            tables = watch(process.pid, capture, limit)
        finally:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # they would stop whoever has its pid
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            process.kill()  # does nothing to a program that has ended
            code = process.wait()
    if not tables:
        sys.stderr.write("memray_residency: the program ended before a table could be made\n")
    sys.exit(code if code > 0 else 128 - code if code else int(not tables))


if __name__ == "__main__":
    main()
