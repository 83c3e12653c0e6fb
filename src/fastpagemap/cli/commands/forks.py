"""``fastpagemap forks``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastpagemap.cli import program as programs
from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import check_limit, interval_option, limit_option, timeout_option

if TYPE_CHECKING:
    from fastpagemap.report.forked import Family

# Seconds between looks for whether a program has forked.
_SOON = 0.02


@click.command(
    cls=programs.Starting,
    short_help="What the children of a process share with it, and have copied.",
    epilog="""
\b
Examples:
  fastpagemap forks 1234                       once
  fastpagemap forks gunicorn --interval 5      every five seconds, with what has changed
  fastpagemap forks program.py ARGUMENTS       run it; also by object
""",
)
@click.argument("target", shell_complete=complete_target)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@interval_option(
    "Look again at this interval, until Ctrl-C or the end. By default, look at a process once "
    "and at a program every second."
)
@click.option(
    "--count", type=click.IntRange(1), metavar="N",
    help="Stop after N looks, and end a program that was run.",
)  # fmt: skip
@limit_option("Rows shown.", 10)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object for each look, in bytes, with all rows.",
)
@timeout_option
def forks(target: str, arguments: tuple[str, ...], **options: Any) -> Iterable[str]:
    """Show what the children of process TARGET still share with it, and what each has copied.

    TARGET is a process id, the name of a process, or a Python program NAME.py, which is run with
    ARGUMENTS and shown from its first fork to its end. Options of this command stand before TARGET;
    all that follows it is the program's.

    fork() copies no memory. Parent and child map the same pages until one of them writes to a page;
    then the writer gets a copy. CPython also writes where a program only reads: it keeps reference
    counts, and notes of the garbage collector, in the objects themselves.

    \b
    rss, pss, uss  of a process, as in 'fastpagemap report --tree'; also union and unique
    by_others      the parent's present memory that others map, too
    exclusive      the parent's present memory that is mapped nowhere else
    in_workers     exclusive memory of all workers: copied, or first touched after the fork
    in_one         the in_workers of the worker that has most
    change         of in_workers, or of uss, since the first look; the largest change comes first

    For a program that is run, there is also a table by object. It has each global variable, and
    each local variable of the functions that were running at the first fork, with all objects that
    it leads to. An object counts at the first name that leads to it. What an object keeps elsewhere
    counts for lists, dicts, sets, bytearrays, and arrays of numpy and of the module array. The
    table does not show how often an object is used. The children themselves are not stopped or
    changed.

    A page is mapped by others if any other process maps it. For a huge page that is mapped whole,
    its first page decides. Only private, writable mappings are shown. A child that has called exec
    ('other') shares no heap. The processes go on while they are looked at. Before Linux 6.7 the
    zero page (memory that was read, but never written) counts as mapped by others.
    """
    check_limit(options["as_json"])
    if programs.is_script(target):
        programs.note_running(target)
        return _of_program(target, arguments, options)
    if arguments:
        raise click.UsageError(f"only a program NAME.py has arguments: '{arguments[0]}'")
    return _of_process(target, options)


def _of_process(target: str, options: dict[str, Any]) -> Iterator[str]:
    from fastpagemap.cli.forked import look
    from fastpagemap.cli.progress import waiting

    pid, interval = targets.process(target, tree=True), options["interval"]
    count = options["count"] or (None if interval else 1)

    def once() -> Family:
        with waiting(f"looking at process {pid} and its children"):
            return look(pid, {}, options["timeout"])

    yield from _shown(once(), once, lambda: time.sleep(interval or 1.0), count, options)


def _of_program(program: str, arguments: tuple[str, ...], options: dict[str, Any]) -> Iterator[str]:
    from fastpagemap.cli.forked import look, objects_in

    interval = options["interval"] or 1.0
    with tempfile.TemporaryDirectory(prefix="forks-") as directory:
        path = os.path.join(directory, "objects")
        with programs.started({"objects": path}, program, arguments) as process:
            while process.poll() is None and not os.path.exists(path):
                time.sleep(_SOON)
            forked = os.path.exists(path)
            objects = objects_in(path)

            def once() -> Family:
                if process.poll() is not None:
                    raise ProcessLookupError
                return look(process.pid, objects, options["timeout"])

            def wait() -> None:
                try:
                    process.wait(interval)
                except subprocess.TimeoutExpired:
                    return

            if forked:
                try:
                    yield from _shown(_first(once), once, wait, options["count"], options)
                except ProcessLookupError:
                    forked = False
            if forked and options["count"] and process.poll() is None:
                programs.end(process)
                return
            process.wait()
    if not forked:
        click.echo(
            "fastpagemap: the program ended before a child of it could be looked at", err=True
        )
    raise click.exceptions.Exit(programs.exit_code(process.returncode) or int(not forked))


def _first(once: Callable[[], Family]) -> Family:
    """Return the first look at which there is a worker: what is noted is noted before the fork."""
    while True:
        found = once()
        if len(found.members) > 1:
            return found
        time.sleep(_SOON)


def _shown(
    first: Family,
    once: Callable[[], Family],
    wait: Callable[[], None],
    count: int | None,
    options: dict[str, Any],
) -> Iterator[str]:
    """Yield looks, again and again, until the parent ends, or `count` of them."""
    from fastpagemap.cli.drawing import terminal_width
    from fastpagemap.report import forked

    now, number = first, 0
    while True:
        if options["as_json"]:
            yield forked.json_line(now, first)
        else:
            yield from [""] * (number > 0)
            yield from forked.tables(now, first, options["limit"], terminal_width())
        number += 1
        if number == count:
            return
        if sys.stdout is not None:
            sys.stdout.flush()
        wait()
        try:
            now = once()
        except ProcessLookupError:
            return
