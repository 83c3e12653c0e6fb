"""``fastpagemap report``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import click

from fastpagemap.cli import drawing, targets
from fastpagemap.cli.collect import collect, collect_all
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import parsed, raw_options, timeout_option
from fastpagemap.cli.processes import hides_others, processes
from fastpagemap.report import selection, unreadable
from fastpagemap.report.report import SIZES, Report, of_snapshot

EXAMPLES = """
\b
Examples:
  fastpagemap report 1234 --sort swapped --min 1M
  fastpagemap report postgres --path '/usr/lib/*' --group path
  fastpagemap report 1234 --filter swapped_shared --filter 'size>=64M'
  fastpagemap report --all --group kind
  fastpagemap report --all --json | jq '.rows | max_by(.swapped) | .name'
  sudo fastpagemap report --swap
  fastpagemap report before.fpm --csv > before.csv
  fastpagemap 1234 | awk '$6 != 0'
"""
HIDDEN = "/proc hides the processes of other users (hidepid): only those that it lists are here"


@click.command(
    short_help="Bytes present, swapped, shared ... by mapping or process.", epilog=EXAMPLES
)
@click.argument("target", shell_complete=complete_target, required=False)
@click.option("--all", "everyone", is_flag=True, help="One row for each process that has memory.")
@click.option(
    "--swap",
    is_flag=True,
    help="Where the machine's swap is: in which processes, and in shared memory that none maps; "
    "and how much is unexplained. Needs root.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    type=click.Choice(SIZES),
    help="Largest first; by address, if not given.",
)
@click.option(
    "--path",
    metavar="PATTERN",
    help="Only mappings whose path has this text in it, or matches this shell pattern. With --all "
    "and no --group: processes, by their names.",
)
@click.option(
    "--filter",
    "filters",
    metavar="CONDITION",
    multiple=True,
    callback=parsed(selection.parse_filter),
    help="Only rows where a column is not 0 ('swapped') or as said ('size>=64M'); all of them, if "
    "there are several.",
)
@click.option(
    "--min",
    "least",
    metavar="SIZE",
    callback=parsed(selection.parse_size),
    help="Only rows of at least this size, in the column they are sorted by.",
)
@click.option(
    "--group",
    type=click.Choice(["path", "kind"]),
    help="Add up the mappings of each path, or of each kind: heap, stack, anonymous, shared "
    "memory, executable, file, device, kernel.",
)
@click.option("--json", "form", flag_value="json", help="One JSON object; rows are in 'rows'.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated, with a header.")
@click.option("--parquet", metavar="FILE", help="Write a Parquet file (needs pyarrow).")
@raw_options
@timeout_option
def report(target: str | None, **options: Any) -> Iterable[str]:
    """Show what is in memory: one row for each mapping of TARGET, and the totals.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.

    \b
    size            of the mapping
    present         in RAM
    swapped         in swap
    swapped_shared  of that: in shared memory, of which the page table knows nothing
    unknown         in swap or never touched: it could not be learnt
    shared          present, of a file or of shared memory
    exclusive       present, and mapped nowhere else
    soft_dirty      written since someone cleared the bits
    huge            mapped as huge pages
    zero            present, and the zero page: never written

    --swap has other columns: for each process its private memory in swap, the shared memory in swap
    that it maps, pss, where each place counts by its share, and uss, what no other process has. The
    last line has each place once. Shared memory that nobody maps is named below, as far as it is on
    a tmpfs that is mounted here, held open by a process, or a SysV segment. What that does not
    explain of the swap in use may be the swap cache, or a tmpfs mounted elsewhere.

    Columns the kernel cannot fill are left out. A terminal gets a table that fits it; a pipe or a
    file gets plain columns with whole paths. Ki, Mi, Gi are 1024, 1024**2, 1024**3 bytes. With
    --all, memory that several processes share is in the row of each, and in the total as often.
    Processes that could not be read are counted on stderr, and named there, but for those that this
    user may not read. The exit code is 1 if none could be read. JSON, CSV and Parquet are in bytes,
    in the columns of PageMap.usage.
    """
    if options["swap"]:
        return _swap(target, options)
    if bool(target) == bool(options["everyone"]):
        raise click.UsageError("say which process: a process id, a name or a file, or --all")
    if options["form"] and options["parquet"]:
        raise click.UsageError("--json, --csv or --parquet: one of them")
    wanted = selection.Selection(
        options["group"], options["path"], options["filters"], options["least"] or 0,
        options["sort"],
    )  # fmt: skip
    return _report(target, wanted, options)


def _swap(target: str | None, options: dict[str, Any]) -> Iterable[str]:
    """Tell of the machine's swap; of the other options, only --json and --timeout go with it."""
    others = ("everyone", "sort", "path", "filters", "least", "group", "parquet", "raw")
    if target or any(options[name] for name in others) or options["form"] == "csv":
        raise click.UsageError(
            "--swap is about the whole machine: only --json and --timeout go with it"
        )
    from fastpagemap.cli import machine_swap

    return machine_swap.lines(options["form"] == "json", options["timeout"])


def _report(
    target: str | None, wanted: selection.Selection, options: dict[str, Any]
) -> Iterator[str]:
    """Read and draw, once `fastpagemap.cli.main` asks for the first line."""
    found = selection.select(_collected(target, wanted, options), wanted)
    if options["parquet"]:
        from fastpagemap.report.formats import write_parquet

        write_parquet(found, options["parquet"])
    else:
        yield from drawing.lines(found, options["form"])
    if target is None:
        for line in unreadable.lines(found.unreadable):
            click.echo(f"fastpagemap: {line}", err=True)
        if hides_others():
            click.echo(f"fastpagemap: {HIDDEN}", err=True)


def _collected(target: str | None, wanted: selection.Selection, options: dict[str, Any]) -> Report:
    from fastpagemap.cli.progress import counted, waiting

    owner = bool(options["parquet"])  # it decides who may read the file
    timeout: float = options["timeout"]
    if target is None:
        choose = partial(selection.of_path, pattern=wanted.path) if wanted.group else None
        with counted("reading processes", processes()) as pids:
            return collect_all(pids, wanted.group, choose, owner=owner, timeout=timeout)
    whose = targets.resolve(target, options["raw"], options["start"])
    if not isinstance(whose, int):
        return of_snapshot(whose)
    with waiting(f"reading process {whose}"):
        return collect(whose, owner=owner, timeout=timeout)
