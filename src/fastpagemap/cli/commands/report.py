"""``fastpagemap report``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import click

from fastpagemap.cli import drawing, openmetrics, targets
from fastpagemap.cli.collect import collect, collect_all
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.naming import matching
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
    help="Count TARGET and all its descendants together. If several processes have that name, "
    "TARGET is the one that started the others.",
)
@click.option(
    "--cgroup",
    metavar="PATH",
    help="Count the processes of a cgroup and of those below it together. PATH is its directory, "
    "or its name as in /proc/PID/cgroup.",
)
@click.option(
    "--who",
    is_flag=True,
    help="Show which other processes map memory that TARGET maps, and how much. With --tree or "
    "--cgroup, look only at these.",
)
@click.option("--all", "everyone", is_flag=True, help="One row for each process that has memory.")
@click.option(
    "--swap",
    is_flag=True,
    help="Show where the machine's swap is: in which processes, in shared memory that no process "
    "maps, and how much is unexplained. Needs root.",
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

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote. The name
    is that of its program, or a word of its command line. With several processes, --tree or
    --cgroup, there is one row for each process, and the last line counts them together. Memory that
    several of them map then counts once in union, unique and swapped_union.

    \b
    size            of the mapping
    present         in RAM
    swapped         in swap
    swapped_shared  the part of swapped in shared memory, which page tables do not show
    unknown         either in swap or never touched; this user cannot find out which
    shared          the part of present that is a file's page or shared memory's
    exclusive       the part of present that is mapped nowhere else
    soft_dirty      written since someone cleared the soft-dirty bits
    huge            mapped as huge pages
    zero            the part of present that is the zero page: read, never written
    pss             present, each page divided by how often it is mapped (see --columns)
    uss             the part of present that no other process maps (see --columns)
    cached          pages of its file that are in the page cache (see --columns)

    \b
    Of several processes:
    rss             present, as in /proc/PID/status, but with hugetlb pages
    union           what any of them maps, each page once
    unique          the part of union that no other process maps: freed if all of them end
    swapped_pss     swapped, each page divided by how many processes have it
    swapped_uss     the part of swapped that only this process has
    swapped_union   what any of them has in swap, each page once
    swapped_unique  the part of swapped_union that no other process has

    --swap has columns of its own. For each process it shows its private memory in swap, the shared
    memory in swap that it maps, and the pss and uss of both. The last line counts each place in
    swap once. Shared memory that no process maps is listed below the table, if it is on a tmpfs
    mounted here, held open by a process, or a SysV segment. The rest of the swap in use is
    unexplained: it may be the swap cache, or a tmpfs mounted elsewhere.

    Columns that the kernel cannot fill are left out. On a terminal, the table fits the width. In a
    pipe or a file, paths are whole, and the first line begins with '#': it says whose memory it is,
    when it was read, and on which kernel. A mapping without a path is shown as [anon]; its path is
    empty in JSON, CSV and Parquet. Ki, Mi, Gi are 1024, 1024**2, 1024**3 bytes.

    A process is shown by its command line, or by its name where the terminal is narrow. --all also
    shows user, parent and threads. With --all, memory that several processes map counts in the row
    of each, and so several times in the last line, 'sum'; --tree and --cgroup count it once. The
    last line of a group is about all of its processes, also if only some rows are shown. union,
    unique and swapped_union need CAP_SYS_ADMIN. This command itself is in no tree or cgroup.
    Processes that could not be read are counted on stderr, and named unless this user may not read
    them. Those that are a TARGET are always listed. The exit code is 1 if no process could be read.

    JSON, CSV and Parquet have bytes, in the columns of PageMap.usage and Group.usage. In JSON,
    'totals' is about the rows shown. 'together' is about all rows, where it differs from their sum
    or where -n leaves rows out; 'of' counts all rows. 'only' has the conditions.

    --openmetrics writes sums over groups of processes: present, swapped, swapped_shared, unknown,
    huge and size, or the columns that --columns names. Everybody may read this file, as far as the
    umask allows. Other files with the memory of many users are for their owner alone.
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
    if texts and options["everyone"] and by is None:
        raise click.UsageError("a TARGET or --all: one of them")
    if not (texts or options["everyone"] or (options["cgroup"] and by == "member")):
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
    given = any(options[name] or options[name] == "" for name in others)
    if texts or given or options["form"] == "csv":
        raise click.UsageError(
            "--swap is about the whole machine: only --json and --timeout go with it"
        )
    from fastpagemap.cli import machine_swap

    return machine_swap.lines(options["form"] == "json", options["timeout"])


def _report(texts: tuple[str, ...], wanted: Selection, options: dict[str, Any]) -> Iterator[str]:
    """Read and draw, once `fastpagemap.cli.main` asks for the first line."""
    typed: list[int] = []
    if _by(texts, options):
        typed = [targets.process(text, tree=options["tree"]) for text in texts]
    whole = _collected(texts, typed, wanted, options)
    found = select(whole, wanted)
    if options["parquet"]:
        from fastpagemap.report.parquet import write_parquet

        write_parquet(found, options["parquet"])
    elif options["openmetrics"]:
        yield from openmetrics.lines(found, options)
    else:
        yield from drawing.lines(found, options["form"])
    said = [*members.notes(whole), *unreadable.lines(found.unreadable, typed)]
    for line in [*said, *_hidden(options)]:
        click.echo(f"fastpagemap: {line}", err=True)


def _hidden(options: dict[str, Any]) -> Iterator[str]:
    """Yield what /proc does not show of the processes that were asked for."""
    if options["tree"] and hides_parents():
        yield HIDDEN_CHILDREN
    # A cgroup lists its processes itself: those that /proc hides are among the unreadable ones.
    elif (options["everyone"] or options["who"]) and options["cgroup"] is None and hides_others():
        yield HIDDEN


def _collected(
    texts: tuple[str, ...], typed: Sequence[int], wanted: Selection, options: dict[str, Any]
) -> Report:
    from fastpagemap.cli.progress import counted, waiting

    # It decides who may read the file; and a cgroup or unit is read along with it.
    owner = bool(options["parquet"] or options["by"])
    timeout: float = options["timeout"]
    if _by(texts, options):
        return _together(typed, options, owner=owner, timeout=timeout)
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
    named: Sequence[int], options: dict[str, Any], *, owner: bool, timeout: float
) -> Report:
    """Read several processes, counted together, or who shares memory with one."""
    from fastpagemap.cli import together
    from fastpagemap.cli.progress import waiting

    chosen: together.Chosen = dict.fromkeys(named)
    with waiting("looking for processes"):
        if options["tree"]:
            chosen = together.of_tree(named[0], timeout)
        elif options["cgroup"] is not None:
            chosen = together.of_cgroup(options["cgroup"], timeout)
        elif options["who"]:
            chosen = dict.fromkeys(processes())
    if options["who"]:
        if options["name"] is not None:
            fit = set(matching(options["name"], chosen))
            chosen = {pid: began for pid, began in chosen.items() if pid in fit}
        return together.collect_sharers(named[0], chosen, owner=owner, timeout=timeout)
    with waiting("counting processes together"):
        return together.collect_group(chosen, typed=named, owner=owner, timeout=timeout)
