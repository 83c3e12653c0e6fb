"""``fastpagemap memray``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import click

from fastpagemap.cli import targets
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.options import check_limit, limit_option, output_path, timeout_option

STDOUT = "/dev/stdout"


@click.command(
    short_help="The same for a program that memray records already.",
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
@limit_option("Lines shown.", 20)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, in bytes, with all lines.")
@click.option(
    "--pprof", metavar="FILE", callback=output_path, shell_complete=complete_file,
    help="Write a profile by call stack for pprof: 'go tool pprof FILE'.",
)  # fmt: skip
@click.option(
    "--flamegraph", metavar="FILE", callback=output_path, shell_complete=complete_file,
    help="Write a profile by call stack for speedscope.app; or collapsed stacks, if FILE ends with "
    ".collapsed or .folded.",
)  # fmt: skip
@timeout_option
def memray(file: str, target: str, **options: Any) -> Iterable[str]:
    """Show what each line of a running program allocated, and how much of that is in RAM.

    FILE is the capture file of a process that memray records, with 'memray run -o FILE' or
    memray.Tracker(FILE). TARGET is that process: its id or its name. To start a program under
    memray, use 'fastpagemap run'.

    \b
    allocated   what was asked for: pprof's space, speedscope's size
    present     the part of it that is in RAM: pprof's resident_space
    swapped     the part of it that is swapped out: pprof's swapped_space
    shared      the part of present that is a file's page or shared memory's

    The process goes on meanwhile. What it frees after FILE was read counts as not present, and what
    it allocates then is left out. To look at one moment, run 'kill -STOP PID' before and 'kill
    -CONT PID' after. The table has a row for each line of the program; a profile has a sample for
    each call stack. 'go tool pprof -sample_index=swapped_space FILE' shows the swapped part.

    'fastpagemap run --help' says what is left out. A forked child has a capture file of its own, if
    memray runs with --follow-fork. Files of 'memray run --aggregate' do not work: they have no
    addresses. Needs memray, and protobuf for --pprof.
    """
    check_limit(options["as_json"])
    outputs = [path for path in (options["pprof"], options["flamegraph"]) if path]
    if outputs.count(STDOUT) > 1:
        raise click.UsageError("--pprof - and --flamegraph -: one of them")
    if options["as_json"] and STDOUT in outputs:
        raise click.UsageError("--json and a profile are both for standard output: one of them")
    if len(set(map(os.path.realpath, outputs))) < len(outputs):
        raise click.UsageError(f"--pprof and --flamegraph: two files, not {outputs[0]} for both")
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
