"""Read where the machine's swap is, for ``fastpagemap report --swap``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import click

from fastpagemap.cli import asking, drawing
from fastpagemap.cli.collect import answered, reason
from fastpagemap.cli.processes import processes
from fastpagemap.cli.progress import counted
from fastpagemap.engine import machine_swap as engine
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.process.frame_probes import sees_pfns
from fastpagemap.process.held_files import mounted_tmpfs
from fastpagemap.process.leases import Leases
from fastpagemap.process.namespaces import hides_others, shows_all
from fastpagemap.report import machine_swap as report
from fastpagemap.report import unreadable
from fastpagemap.report.report import About, Unreadable
from fastpagemap.report.text import human, printable

__all__ = ["lines"]

#: Names on all tmpfs together that are looked at.
MAX_NAMES = 200_000
HIDDEN = "/proc hides the processes of other users (hidepid): what they have is unexplained"
NOT_SEEN = (
    "only the processes of this pid namespace are here: what others have is unexplained, and pss "
    "and uss do not know of it"
)


def lines(as_json: bool, timeout: float) -> Iterator[str]:
    """Yield where the machine's swap is, as tables or JSON; say on stderr what was not read.

    Raises
    ------
    PermissionError
        This user may not see the places of swapped pages.
    """
    if not sees_pfns():
        raise PermissionError(
            errno.EPERM, "where swapped pages lie is shown to root alone, or with CAP_SYS_ADMIN"
        )
    before = engine.counters()
    answers, unread = _processes(timeout)
    notes: list[str] = []
    machine = engine.counted(answers, _tmpfs(timeout, notes))
    now = engine.counters()
    rows = [
        report.Row(answer.pid, answer.name, *sizes, answer.swapped.unknown * PAGE_SIZE)
        for answer, sizes in zip(answers, machine.rows, strict=True)
        if any(sizes) or answer.swapped.unknown
    ]
    found = report.MachineSwap(
        rows,
        machine.unmapped,
        machine.in_processes,
        machine.in_unmapped,
        before.total - before.free,
        now.total - now.free,
        now.cached,
        notes,
    )
    yield from _drawn(found, unread, as_json)
    unseen = [] if shows_all() else [HIDDEN if hides_others() else NOT_SEEN]
    for line in [*notes, *unreadable.lines(unread), *unseen]:
        click.echo(f"fastpagemap: {printable(line)}", err=True)


def _drawn(found: report.MachineSwap, unread: list[Unreadable], as_json: bool) -> Iterator[str]:
    about = About.now(None, "")
    if as_json:
        yield from report.json_lines(found, unread, about)
    else:
        yield from drawing.first_line("swap of the machine", about)
        yield from report.plain(found, drawing.terminal_width())


def _processes(timeout: float) -> tuple[list[engine.OfProcess], list[Unreadable]]:
    """Return what each process has in swap, and the processes that could not be read."""
    unread: list[Unreadable] = []
    with counted("reading processes", processes()) as pids:
        outcomes = asking.each(pids, engine.of_process, timeout)
        return [answer for _, answer in answered(outcomes, unread)], unread


def _tmpfs(timeout: float, notes: list[str]) -> list[engine.NamedFile]:
    """Return the swapped files on each mounted tmpfs; note what of them was not looked at."""
    mounted, leases = mounted_tmpfs(), Leases()
    files: list[engine.OnTmpfs] = []
    for number, outcome in asking.each(
        range(len(mounted)),
        lambda number: engine.of_tmpfs(mounted[number], leases, MAX_NAMES),
        timeout,
    ):
        where = ", ".join(map(os.fsdecode, mounted[number].points))
        if isinstance(outcome, Exception):
            notes.append(f"the files on {where} were not read: {reason(outcome)}")
            continue
        found, complete = outcome
        files += found
        if not complete:
            notes.append(f"only {MAX_NAMES} files on {where} were looked at")
    return list(_swapped_pages(files, leases, timeout, notes))


def _swapped_pages(
    files: list[engine.OnTmpfs], leases: Leases, timeout: float, notes: list[str]
) -> Iterator[engine.NamedFile]:
    """Yield the swapped pages of files; note which of them do not answer."""
    for number, outcome in asking.each(
        range(len(files)), lambda number: engine.of_file(files[number], leases), timeout
    ):
        path, *_, swapped = files[number]
        if isinstance(outcome, Exception):
            size = "" if swapped is None else f", of which {human(swapped)} are in swap,"
            notes.append(f"{path}{size} was not read: {reason(outcome)}")
        elif outcome is not None:
            yield outcome
