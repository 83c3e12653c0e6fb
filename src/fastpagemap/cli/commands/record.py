"""``fastpagemap record``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastpagemap.cli.completion import complete_file, complete_list_of, complete_target
from fastpagemap.cli.options import interval_option, number, parsed, timeout_option
from fastpagemap.report import conditions
from fastpagemap.report.report import MORE_SIZES, SIZES
from fastpagemap.report.text import plural, printable

if TYPE_CHECKING:
    from fastpagemap.cli.recorder import Recorder

_COLUMNS = SIZES + MORE_SIZES


@click.command(
    short_help="What changes in memory over time, as Parquet files.",
    epilog="""
\b
Examples:
  fastpagemap record 1234 -o recorded --interval 1 --budget 0.05
  fastpagemap record --tree 1234 -o recorded     a server and its workers
  fastpagemap record postgres -o recorded        all of that name
  sudo fastpagemap record --all -o recorded --interval 60 --columns present,swapped,swapped_shared
""",
)
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_target)
@click.option(
    "-o", "--output", "directory", metavar="DIRECTORY", required=True,
    shell_complete=complete_file, help="Where to write the files. It is made if it does not exist.",
)  # fmt: skip
@click.option("--all", "everyone", is_flag=True, help="Record all processes that have memory.")
@click.option("--tree", is_flag=True, help="Record the descendants of each TARGET, too.")
@interval_option("Time between readings; longer if these would cost more than --budget.", 10.0)
@click.option(
    "--budget", type=click.FloatRange(0.0001, 1.0), callback=number, metavar="SHARE", default=0.01,
    show_default=True, help="The share of one processor's time that recording may take.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N readings.")
@click.option(
    "--rotate", type=click.FloatRange(1.0, 86400.0), callback=number, metavar="SECONDS",
    default=900.0, show_default=True, help="Begin a new file after this time.",
)  # fmt: skip
@click.option(
    "--rotate-size", metavar="SIZE", default="64M", show_default=True,
    callback=parsed(conditions.parse_size), help="Begin a new file when one has this size.",
)  # fmt: skip
@click.option(
    "--columns", metavar="NAME,...", default="",
    callback=parsed(lambda text: _columns(text)), shell_complete=complete_list_of(_COLUMNS),
    help="Fill only these columns of sizes, as in 'report'; the others are null.",
)  # fmt: skip
@click.option("--host", metavar="NAME", help="Write this in place of the name of this host.")
@timeout_option
def record(targets: tuple[str, ...], **options: Any) -> Iterable[str]:
    """Record what changes in the memory of processes, as Parquet files, until Ctrl-C.

    TARGET is a process id, or a name. With a name, all processes that have it are recorded, also
    those that begin later. But one of them has to run when the recording begins. If only process
    ids are given, the recording ends when these processes, and with --tree their descendants, have
    ended.

    The files are DIRECTORY/host=NAME/date=YYYY-MM-DD/*.parquet. DuckDB, Spark, polars and others
    read the directory as one table, also with files of many hosts. docs/fleet.md has queries. Each
    file begins with a row for each mapping. After that there is a row for each mapping that is new
    or has changed. A mapping that is gone has a last row in which all sizes are 0. The columns
    host, boot_id, pid, start_time and start identify a mapping. All columns are those of
    'report --parquet'.

    A file appears when it is complete. So the files in the directory can be read at any time, and
    if this command is killed, only the last file is missing. SIGTERM ends it as Ctrl-C does.
    Started again, it writes more files. If a file cannot be written, as when the disk is full, it
    is tried once more, with the next file. Only the owner may read the files, because addresses
    help attacks.
    """
    if bool(targets) == options["everyone"]:
        raise click.UsageError("say which processes: process ids or names, or --all")
    if options["directory"] == "-":
        raise click.UsageError("-o -: it writes several files, into a directory ('./-' is one)")
    if not options["directory"]:
        raise click.UsageError("-o: an empty text names no directory; '.' is the current one")
    if options["host"] == "":
        raise click.UsageError("--host: an empty text is no name; without --host it is this host's")
    if options["everyone"] and options["tree"]:
        raise click.UsageError("--all or --tree: one of them")
    return _record(targets, options)


def _columns(text: str) -> tuple[str, ...] | None:
    """Return the columns to read, of which the size is always one; None for the usual ones."""
    names = [conditions.parse_column(name, _COLUMNS) for name in text.split(",") if text]
    return tuple(dict.fromkeys(("size", *names))) if names else None


def _record(targets: tuple[str, ...], options: dict[str, Any]) -> Iterator[str]:
    """Record, once `fastpagemap.cli.main` asks for the first line."""
    from fastpagemap.cli.recorded import Targets, everyone
    from fastpagemap.cli.recorder import Budget, Recorder, Signals
    from fastpagemap.process.host import host_name
    from fastpagemap.report.recording import Recording
    from fastpagemap.snapshot.dataframes import imported

    imported("pyarrow.parquet")  # before anything is written
    chosen = None if options["everyone"] else Targets(targets, options["tree"])
    host = host_name() if options["host"] is None else options["host"]
    files = Recording(options["directory"], host, options["rotate"], options["rotate_size"])
    typed = chosen.typed if chosen else ()
    recorder = Recorder(chosen or everyone, files, options["columns"], options["timeout"], typed)
    with Signals() as signals:
        click.echo(printable(f"recording into {files.directory}, until Ctrl-C"))
        recorder.run(Budget(options["interval"], options["budget"]), signals, options["count"])
    yield printable(_summary(recorder))
    if recorder.refused:
        click.echo(f"fastpagemap: {recorder.unreadable()}", err=True)


def _summary(recorder: Recorder) -> str:
    files, seen = recorder.files, len(recorder.seen)
    lost = f"; {files.lost} could not be written" if files.lost else ""
    return (
        f"{files.directory}: {files.files} {plural(files.files, 'file')}, "
        f"{files.rows} {plural(files.rows, 'row')} of {seen} {plural(seen, 'process')}{lost}; "
        f"{recorder.spent():.2f} s of a processor"
    )
