"""``fastpagemap report``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import click

from fastpagemap.cli import drawing, openmetrics, targets
from fastpagemap.cli.collect import collect, collect_all
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.options import form_options, output_path, raw_options, timeout_option
from fastpagemap.cli.processes import hides_parents, processes
from fastpagemap.cli.selecting import chosen_processes, selection_of, selection_options
from fastpagemap.process.namespaces import hides_others
from fastpagemap.report import members, unreadable
from fastpagemap.report.report import Report, of_snapshot
from fastpagemap.report.selection import Selection, of_path, select

EXAMPLES = """
\b
Examples:
  fastpagemap report 1234 --sort swapped -n 10
  fastpagemap report checkpointer --path '/usr/lib/*' --group path
  fastpagemap report 1234 --min present=1M
  fastpagemap report 1234 --filter swapped_shared --filter 'size>=64M'
  fastpagemap report --all --user postgres --sort swapped
  fastpagemap report --all --name 'python*' --group kind
  fastpagemap report 1234 --columns present,pss,uss --sort uss
  fastpagemap report --tree postgres          a server and its workers, counted together
  fastpagemap report --cgroup /system.slice/postgresql.service
  fastpagemap report --who 1234               who shares memory with it, and how much
  fastpagemap report --all --openmetrics memory.prom --by unit
  fastpagemap report --all --json | jq '.rows | max_by(.swapped) | .name'
  sudo fastpagemap report --swap
  fastpagemap report before.fpm --csv > before.csv
  fastpagemap 1234 | awk '$6 != 0'
"""
HIDDEN = "/proc hides the processes of other users (hidepid): only those that it lists are here"
HIDDEN_CHILDREN = (
    "/proc hides the parents of other users' processes (hidepid): such children are not here"
)


@click.command(
    short_help="Bytes present, swapped, shared ... by mapping or process.", epilog=EXAMPLES
)
@click.argument("targets", metavar="[TARGET]...", shell_complete=complete_target, nargs=-1)
@click.option(
    "--tree",
    is_flag=True,
    help="Count TARGET and all its descendants together; "
    "of several called so, the one that has started the others.",
)
@click.option(
    "--cgroup",
    metavar="PATH",
    help="Count the processes in a cgroup, and in those below it, together: its directory, or its "
    "name as in /proc/PID/cgroup.",
)
@click.option(
    "--who",
    is_flag=True,
    help="Which other processes map memory that TARGET maps, and how much; with --tree or "
    "--cgroup, which of these.",
)
@click.option("--all", "everyone", is_flag=True, help="One row for each process that has memory.")
@click.option(
    "--swap",
    is_flag=True,
    help="Where the machine's swap is: in which processes, and in shared memory that none maps; "
    "and how much is unexplained. Needs root.",
)
@selection_options
@form_options
@click.option(
    "--parquet", metavar="FILE", callback=output_path, shell_complete=complete_file,
    help="Write a Parquet file (needs pyarrow); '-' is standard output.",
)  # fmt: skip
@openmetrics.openmetrics_options
@raw_options
@timeout_option
def report(targets: tuple[str, ...], **options: Any) -> Iterable[str]:
    """Show what is in memory: one row for each mapping of TARGET, and the totals.

    TARGET is a process id, the name of a process (of its program, or else a word of its command
    line), or a file that 'fastpagemap dump' wrote. Of several processes, or with --tree or
    --cgroup, there is one row for each of them, and they are counted together: what several of them
    map counts once in union, unique and swapped_union.

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
    pss, uss        present: by its share, and what no other process maps (see --columns)
    cached          pages of its file that are in the page cache (see --columns)

    \b
    Of several processes:
    rss             mapped, as in /proc/PID/status, but with hugetlb pages
    union           distinct memory that any of them maps
    unique          of that: what no process outside maps, freed if all of them end
    swapped_pss, swapped_uss        of what is swapped: by its share, and what is its alone
    swapped_union, swapped_unique   of what is swapped: each page once, and what is theirs alone

    --swap has other columns: for each process its private memory in swap, the shared memory in swap
    that it maps, pss, where each place counts by its share, and uss, what no other process has. The
    last line has each place once. Shared memory that nobody maps is named below, as far as it is on
    a tmpfs that is mounted here, held open by a process, or a SysV segment. What that does not
    explain of the swap in use may be the swap cache, or a tmpfs mounted elsewhere.

    Columns the kernel cannot fill are left out. A terminal gets a table that fits it; a pipe or a
    file gets plain columns with whole paths, and before them a line that begins with '#': whose
    memory it is, when it was read, on which kernel. A mapping without a path is shown as [anon];
    JSON, CSV and Parquet leave its path empty. Ki, Mi, Gi are 1024, 1024**2, 1024**3 bytes.

    A process is shown by its command line, or by its name alone where the terminal is narrow; --all
    also tells user, parent and threads. Memory that several processes map is in the row of each,
    and in the last line, 'sum', as often; --tree and --cgroup count it once. The line of a group is
    about all of its processes, whichever rows are shown; union, unique and swapped_union need
    CAP_SYS_ADMIN.
    This command is in no tree or cgroup. Processes that could not be read are counted on stderr,
    and named there, but for those that this user may not read. The exit code is 1 if none could be
    read.

    JSON, CSV and Parquet are in bytes, in the columns of PageMap.usage and Group.usage. In JSON,
    'totals' are of the rows shown, 'together' of all where these are no sums or -n leaves some out
    ('of' says how many there are), and 'only' are the conditions.

    --openmetrics has present, swapped, swapped_shared, unknown, huge and the size of groups of
    processes, or the columns that --columns names, as sums of their processes. Unlike other files
    of many users' memory, everybody may read it, as the umask allows.
    """
    if options["swap"]:
        return _swap(targets, options)
    _check(targets, options)
    together = _by(targets, options)
    everyone = "process" if options["everyone"] else "mapping"
    wanted = selection_of(together or options["group"] or everyone, options)
    if options["openmetrics"]:
        wanted = openmetrics.wanted_for(wanted)
    return _report(targets, wanted, options)


def _check(texts: tuple[str, ...], options: dict[str, Any]) -> None:
    """Raise an error for options that do not go together."""
    by = _by(texts, options)
    if options["cgroup"] == "":
        raise click.UsageError("--cgroup: say which cgroup; '/' is the topmost one")
    if bool(texts or (options["cgroup"] and by == "member")) == options["everyone"]:
        raise click.UsageError("say which process: a process id, a name or a file, or --all")
    openmetrics.check(options)
    if options["form"] and options["parquet"]:
        raise click.UsageError("--json, --csv or --parquet: one of them")
    if options["everyone"] and options["raw"]:
        raise click.UsageError("--raw is about a file, and --all about processes: one of them")
    if by is not None:
        for name in ("group", "raw", "everyone"):
            if options[name]:
                option = "all" if name == "everyone" else name
                raise click.UsageError(f"--{option} is not for processes that are counted together")
        if options["tree"] and options["cgroup"]:
            raise click.UsageError("--tree or --cgroup: one of them")
        if len(texts) > 1 and (options["who"] or options["tree"]):
            raise click.UsageError("--who and --tree are about one process")
        if texts and options["cgroup"] and not options["who"]:
            raise click.UsageError("a TARGET or --cgroup: one of them")


def _by(texts: tuple[str, ...], options: dict[str, Any]) -> str | None:
    """Return what a row is where several processes are looked at together; else None."""
    if options["who"]:
        return "sharer"
    together = len(texts) > 1 or options["tree"] or options["cgroup"] is not None
    return "member" if together else None


def _swap(texts: tuple[str, ...], options: dict[str, Any]) -> Iterable[str]:
    """Tell of the machine's swap; of the other options, only --json and --timeout go with it."""
    others = [
        *("everyone", "sort", "path", "filters", "least", "group", "parquet", "raw"),
        *("columns", "tree", "cgroup", "who", "name", "user", "limit", "openmetrics", "by"),
    ]
    if texts or any(options[name] for name in others) or options["form"] == "csv":
        raise click.UsageError(
            "--swap is about the whole machine: only --json and --timeout go with it"
        )
    from fastpagemap.cli import machine_swap

    return machine_swap.lines(options["form"] == "json", options["timeout"])


def _report(texts: tuple[str, ...], wanted: Selection, options: dict[str, Any]) -> Iterator[str]:
    """Read and draw, once `fastpagemap.cli.main` asks for the first line."""
    whole = _collected(texts, wanted, options)
    found = select(whole, wanted)
    if options["parquet"]:
        from fastpagemap.report.parquet import write_parquet

        write_parquet(found, options["parquet"])
    elif options["openmetrics"]:
        yield from openmetrics.lines(found, options)
    else:
        yield from drawing.lines(found, options["form"])
    said = [*members.notes(whole), *unreadable.lines(found.unreadable)]
    for line in [*said, *_hidden(options)]:
        click.echo(f"fastpagemap: {line}", err=True)


def _hidden(options: dict[str, Any]) -> Iterator[str]:
    """Yield what /proc does not show of the processes that were asked for."""
    if options["tree"] and hides_parents():
        yield HIDDEN_CHILDREN
    # A cgroup lists its processes itself: those that /proc hides are among the unreadable ones.
    elif (options["everyone"] or options["who"]) and options["cgroup"] is None and hides_others():
        yield HIDDEN


def _collected(texts: tuple[str, ...], wanted: Selection, options: dict[str, Any]) -> Report:
    from fastpagemap.cli.progress import counted, waiting

    owner = bool(options["parquet"])  # it decides who may read the file
    timeout: float = options["timeout"]
    if _by(texts, options):
        return _together(texts, options, owner=owner, timeout=timeout)
    if options["everyone"]:
        choose = partial(of_path, pattern=wanted.path) if wanted.group else None
        found = chosen_processes(options["name"], options["user"])
        with counted("reading processes", found) as pids:
            return collect_all(
                pids, wanted.group, choose, owner=owner, timeout=timeout, fields=wanted.fields
            )
    whose = targets.resolve(texts[0], options["raw"], options["timeout"])
    if not isinstance(whose, int):
        return of_snapshot(whose)
    with waiting(f"reading process {whose}"):
        return collect(whose, owner=owner, timeout=timeout, fields=wanted.fields)


def _together(
    texts: tuple[str, ...], options: dict[str, Any], *, owner: bool, timeout: float
) -> Report:
    """Read several processes, counted together, or who shares memory with one."""
    from fastpagemap.cli import together
    from fastpagemap.cli.progress import waiting

    named = [targets.process(text, tree=options["tree"]) for text in texts]
    chosen: together.Chosen = dict.fromkeys(named)
    with waiting("looking for processes"):
        if options["tree"]:
            chosen = together.of_tree(named[0], timeout)
        elif options["cgroup"] is not None:
            chosen = together.of_cgroup(options["cgroup"], timeout)
        elif options["who"]:
            chosen = dict.fromkeys(processes())
    if options["who"]:
        return together.collect_sharers(named[0], chosen, owner=owner, timeout=timeout)
    with waiting("counting processes together"):
        return together.collect_group(chosen, owner=owner, timeout=timeout)
