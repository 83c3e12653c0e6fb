"""``fastpagemap run``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from fastpagemap.cli import program as programs
from fastpagemap.cli.completion import complete_file
from fastpagemap.cli.options import check_limit, limit_option, parsed

AT_EXIT, AT_SIGNAL = "exit", "SIGUSR1"


def _moment(text: str) -> str | float:
    """Return what --at says: a word, or a number of seconds."""
    if text in (AT_EXIT, AT_SIGNAL):
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e8:  # nor NaN
        raise ValueError(f"{text}: exit, SIGUSR1 or a number of seconds, such as 2.5")
    return seconds


def _file(context: Any, parameter: Any, path: str | None) -> str | None:
    """Return what -o says; None for standard output."""
    return None if path == "-" else path


@click.command(
    short_help="What each line of a Python program allocated, and has in RAM.",
    context_settings={"allow_interspersed_args": False},
    epilog="""
\b
Examples:
  fastpagemap run program.py                 a table at the program's end
  fastpagemap run --at 5 -m package ARGUMENTS
  fastpagemap run --json -o lines.json program.py
""",
)
@click.option(
    "--at",
    default=AT_EXIT,
    show_default=True,
    metavar="exit|SECONDS|SIGUSR1",
    callback=parsed(_moment),
    help="When to look: at the program's end, this many seconds after its start, or each time "
    "this command gets SIGUSR1.",
)
@limit_option("Lines shown.", 20)
@click.option("--python-allocators", is_flag=True, help="Record each small Python object.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object for each look, in bytes, with all lines.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    callback=_file,
    shell_complete=complete_file,
    help="Write to this file. By default, '-': standard output, where the program also writes.",
)
@click.option("-m", "module", is_flag=True, help="PROGRAM is the name of a module.")
@click.argument("program", shell_complete=complete_file)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(program: str, arguments: tuple[str, ...], **options: Any) -> Iterable[str]:
    """Run a Python PROGRAM; show what each line allocated, and how much of that is in RAM.

    A profiler of allocations counts what was asked for. But memory that was never touched takes no
    RAM, and neither does memory that was swapped out. This command runs PROGRAM under memray and
    looks at the pages of each allocation that is alive at one moment.

    \b
    allocated   what was asked for
    present     the part of it that is in RAM
    swapped     the part of it that is swapped out
    shared      the part of present that is a file's page or shared memory's

    The program is stopped during the look, for some seconds for each million allocations and
    deallocations since its start, so all figures are of the same moment. A program can choose the
    moment itself, by os.kill(os.getpid(), signal.SIGSTOP). It goes on as soon as the table is made.
    The exit code is the program's.

    Not in the table are: memory allocated before memray began; memory of forked children; memory
    that threads allocate after the main program has ended; memory that the C library keeps after
    free(); and mremap(), which memray does not record. Python keeps small objects in arenas. They
    appear as arenas, at the line that needed a new one, unless --python-allocators records each
    object. Needs memray.
    """
    check_limit(options["as_json"])
    if not options["module"] and not os.path.isfile(program):
        raise click.BadParameter(f"there is no file {program}", param_hint="PROGRAM")
    return _run(program, arguments, options)


def _run(program: str, arguments: tuple[str, ...], options: dict[str, Any]) -> Iterator[str]:
    import fastpagemap.engine.memray_capture  # noqa: F401 that it is missing is said at once

    tables, at = 0, options["at"]
    with tempfile.TemporaryDirectory(prefix="memray-") as directory, _output(options) as put:
        capture = os.path.join(os.path.realpath(directory), "capture")
        inside = {
            "capture": capture,
            "python_allocators": options["python_allocators"],
            "module": options["module"],
            "stop_at_exit": at == AT_EXIT,
        }
        stops: Any = dict.fromkeys((signal.SIGUSR1, signal.SIGALRM), _stop)
        with programs.started(inside, program, arguments, stops) as process:
            if at == AT_SIGNAL:
                click.echo(f"fastpagemap: kill -USR1 {os.getpid()} for a table", err=True)
            elif at != AT_EXIT:
                signal.setitimer(signal.ITIMER_REAL, at)
            for lines in _looks(process.pid, capture, options):
                tables += 1
                yield from put(lines)
    if not tables:
        click.echo("fastpagemap: the program ended before a table could be made", err=True)
    code = programs.exit_code(process.returncode)
    raise click.exceptions.Exit(code or int(not tables))


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def _output(options: dict[str, Any]) -> Iterator[Callable[[list[str]], list[str]]]:
    """Yield what takes lines and returns those to print: all, or none where they go to a file."""
    if not options["output"]:
        yield lambda lines: lines
        return
    from fastpagemap.snapshot.replace_file import replace_file

    with replace_file(options["output"], None) as file:

        def write(lines: list[str]) -> list[str]:
            file.write("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
            return []

        yield write


def _looks(pid: int, capture: str, options: dict[str, Any]) -> Iterator[list[str]]:
    """Yield what is to be shown, each time the program stands still, until it ends."""
    from fastpagemap.cli.allocated import look
    from fastpagemap.cli.drawing import terminal_width
    from fastpagemap.report import allocations

    while True:
        event = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if event is None or event.si_code != os.CLD_STOPPED:
            return
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # seen
        if event.si_status != signal.SIGSTOP:  # Ctrl-Z: the shell wakes both of us
            continue
        try:
            found = look(pid, capture, starter=programs.START).by_site()
        except OSError as error:
            click.echo(f"fastpagemap: no table of process {pid}: {error}", err=True)
        else:
            if options["as_json"]:
                yield [allocations.json_line(found)]
            else:
                width = None if options["output"] else terminal_width()
                yield [*allocations.table(found, options["limit"], width)]
            if sys.stdout is not None:
                sys.stdout.flush()
        os.kill(pid, signal.SIGCONT)
