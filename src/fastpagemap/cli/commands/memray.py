"""``fastpagemap memray``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.options import output_path, timeout_option

STDOUT = "/dev/stdout"


@click.command(
    short_help="The same of a program that memray records already; as a profile, too.",
    epilog="""
\b
Examples:
  fastpagemap memray capture.bin service.py      a table
  fastpagemap memray capture.bin service.py --pprof memory.pb.gz
  fastpagemap memray capture.bin service.py --flamegraph memory.speedscope.json
""",
)
@click.argument("file", shell_complete=complete_file)
@click.argument("target", shell_complete=complete_target)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Lines shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, in bytes, all lines.")
@click.option(
    "--pprof", metavar="FILE", callback=output_path, shell_complete=complete_file,
    help="Write it by call stack, as pprof reads it: 'go tool pprof FILE'.",
)  # fmt: skip
@click.option(
    "--flamegraph", metavar="FILE", callback=output_path, shell_complete=complete_file,
    help="Write it by call stack, as speedscope.app reads it; as collapsed stacks, where FILE ends "
    "with .collapsed or .folded.",
)  # fmt: skip
@timeout_option
def memray(file: str, target: str, **options: Any) -> Iterable[str]:
    """Show what each line of a running program allocated, and how much of that is there.

    FILE is the capture file that memray records the process TARGET into, by 'memray run -o FILE' or
    memray.Tracker(FILE). TARGET is a process id, or the name of a process. For a program that is to
    be started, there is 'fastpagemap run'.

    \b
    allocated   what was asked for: pprof's space, speedscope's size
    present     the part of it that is in RAM: pprof's resident_space
    swapped     the part that is swapped out: pprof's swapped_space
    shared      the present part that is of shared memory

    The process goes on meanwhile: what it frees after the file was read counts as not there, and
    what it allocates is left out. 'kill -STOP PID' before, and 'kill -CONT PID' after, make it one
    moment. A profile has what a call stack allocated, the table what the line of the program did;
    'go tool pprof -sample_index=swapped_space FILE' shows the swapped part.

    Left out is what 'fastpagemap run --help' says. A forked child has a file of its own, with
    'memray run --follow-fork'. Files of 'memray run --aggregate' have no addresses. Needs memray,
    and protobuf for --pprof.
    """
    outputs = [path for path in (options["pprof"], options["flamegraph"]) if path]
    if outputs.count(STDOUT) > 1:
        raise click.UsageError("--pprof - and --flamegraph -: one of them")
    return _memray(os.path.realpath(file), targets.process(target), options, STDOUT in outputs)


def _memray(capture: str, pid: int, options: dict[str, Any], quiet: bool) -> Iterator[str]:
    from fastpagemap.report.profile_formats import profile_class

    if options["pprof"]:
        profile_class()  # that protobuf is missing is said at once
    from fastpagemap import profiles
    from fastpagemap.cli.allocated import look
    from fastpagemap.cli.drawing import terminal_width
    from fastpagemap.report import allocations

    found = look(pid, capture, timeout=options["timeout"])
    if options["pprof"]:
        profiles.write(options["pprof"], *found.by_stack(), format="pprof")
    if options["flamegraph"]:
        collapsed = options["flamegraph"].endswith(profiles.FORMATS["collapsed"])
        form = "collapsed" if collapsed else "speedscope"
        profiles.write(options["flamegraph"], *found.by_stack(), format=form)
    if quiet:  # another line would become part of the profile
        return
    if options["as_json"]:
        yield allocations.json_line(found.by_site())
    else:
        yield from allocations.table(found.by_site(), options["limit"], terminal_width())
