"""``fastpagemap map``."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli.completion import complete_file, complete_target
from fastpagemap.cli.options import address, output_path, parsed, raw_options, timeout_option
from fastpagemap.cli.progress import waiting
from fastpagemap.model.errors import UnsupportedError
from fastpagemap.model.mapping import Mapping
from fastpagemap.report.conditions import matches
from fastpagemap.report.schemes import CHOICES
from fastpagemap.snapshot.replace_file import replace_file

if TYPE_CHECKING:
    from fastpagemap.report.picture import Coloured
    from fastpagemap.snapshot.snapshot import Snapshot

EXAMPLES = """
\b
Examples:
  fastpagemap map 1234 -o memory.png
  fastpagemap map checkpointer -o buffers.svg --path /dev/zero
  sudo fastpagemap map 1234 -o folios.png --by order
  fastpagemap map before.fpm -o before.png --width 2000
  fastpagemap map 1234 -o heap.png --path '[heap]'
  sudo dd if=/proc/1234/pagemap of=entries bs=8 skip=$((0x7ffff0000)) count=65536
  fastpagemap map entries --raw --start 7ffff0000000 -o entries.png
  ssh host fastpagemap dump 1234 -o - | fastpagemap map - -o there.png
  fastpagemap map recorded/ --over-time -o over-time.png --pid 1234
"""


FORMATS = ("png", "svg", "pdf")


def _format(path: str, chosen: str | None) -> str:
    """Return the format of a picture, as chosen, or as its suffix says."""
    suffix = os.path.splitext(path)[1][1:].lower()
    if suffix in FORMATS and chosen not in (suffix, None):
        raise click.UsageError(f"'{path}' and --format {chosen}: one of them")
    if chosen is None and suffix not in FORMATS:
        raise click.UsageError(f"'{path}' has to end in .png, .svg or .pdf, or say --format")
    return chosen or suffix


@click.command(short_help="The address space as a picture.", epilog=EXAMPLES)
@click.argument("target", shell_complete=complete_target)
@click.option(
    "-o", "--output", metavar="FILE", required=True, callback=output_path,
    shell_complete=complete_file,
    help="The picture to write: .png, .svg or .pdf; '-' is standard output.",
)  # fmt: skip
@click.option("--format", "kind", type=click.Choice(FORMATS), help="By default, what FILE ends in.")
@click.option(
    "--path",
    metavar="PATTERN",
    help="Only mappings whose path contains this text or matches this shell pattern.",
)
@click.option(
    "--mapping",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    help="Only the mapping with this address, in hexadecimal. Give it again for more mappings.",
)
@click.option(
    "--width",
    metavar="PIXELS",
    type=click.IntRange(640, 8000),
    default=1200,
    show_default=True,
    help="In pixels, from 640 to 8000.",
)
@click.option(
    "--soft-dirty",
    is_flag=True,
    help="Colour the pages that were written since someone cleared the soft-dirty bits.",
)
@click.option(
    "--by",
    type=click.Choice(CHOICES),
    help="Colour present pages by their NUMA node, by how often all processes together map them, "
    "or by the order of their folio. The last two need root.",
)
@click.option(
    "--over-time", is_flag=True,
    help="TARGET is a directory that 'fastpagemap record' wrote. Draw how each mapping changed.",
)  # fmt: skip
@click.option(
    "--pid",
    metavar="PID",
    type=click.IntRange(1),
    help="With --over-time: the process, if several were recorded.",
)
@raw_options
@timeout_option
def map(target: str, **options: Any) -> Iterable[str]:
    """Draw the address space of TARGET as a picture.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.

    A cell is one page, or several pages if the picture would be too large. Its colour is the state
    that most of its touched memory is in. But if at least an eighth of that is swapped or unknown,
    the cell shows this. Each state that occurs is shown in at least one cell, if there are enough.
    Memory that is not mapped is cut out, and so are long stretches that were never touched:
    '·· 6.2Gi ··' stands in their place. Needs matplotlib.

    With --over-time, each mapping is a row, and time goes from left to right. The picture marks
    what was swapped out, came back from swap or was newly touched between two readings. On a kernel
    with soft-dirty bits, it also marks soft-dirty pages. What was not recorded, or not mapped, is
    white. Needs pyarrow.
    """
    options["kind"] = _format(options["output"], options["kind"])
    options["addresses"] = [parsed(address)(None, None, text) for text in options["addresses"]]
    if options["by"] and (options["raw"] or options["soft_dirty"]):
        raise click.UsageError("--by asks a process: neither --raw nor --soft-dirty go with it")
    if options["over_time"]:
        if options["by"] or options["raw"] or options["soft_dirty"]:
            raise click.UsageError("--over-time: --by, --raw and --soft-dirty do not go with it")
        return _map_over_time(target, options)
    if options["pid"]:
        raise click.UsageError("--pid is for --over-time: without, TARGET is the process")
    return _map(target, options)


def _map(target: str, options: dict[str, Any]) -> Iterator[str]:
    """Draw the picture; yield no lines."""
    with _undisturbed():
        from fastpagemap.report import picture

    if options["by"]:
        snapshot, coloured = _coloured(target, options["by"], options["timeout"])
    else:
        snapshot, coloured = targets.snapshot(target, options["raw"], options["timeout"]), None
    mappings, soft_dirty = _chosen(snapshot.mappings, options), options["soft_dirty"]
    if soft_dirty and not snapshot.soft_dirty:
        raise UnsupportedError("--soft-dirty: that kernel keeps no soft-dirty bits")
    width = options["width"]
    with picture.own_style():
        figure = picture.draw(
            snapshot, mappings, width=width, soft_dirty=soft_dirty, coloured=coloured
        )
        with replace_file(options["output"], snapshot.uid) as file:
            picture.write(figure, file, options["kind"])
    yield from ()


def _map_over_time(directory: str, options: dict[str, Any]) -> Iterator[str]:
    """Draw what was recorded; yield no lines."""
    with _undisturbed():
        from fastpagemap.report import over_time, picture
    from fastpagemap.report.replay import NotOneProcess, read_history
    from fastpagemap.snapshot.dataframes import imported

    imported("pyarrow.parquet")
    try:
        history, before = read_history(directory, options["pid"])
    except NotOneProcess as error:
        raise click.UsageError(str(error)) from None
    mappings = _chosen(history.mappings, options)
    with picture.own_style():
        figure = over_time.draw(history, mappings, width=options["width"])
        with replace_file(options["output"], None) as file:  # whose memory it was is not recorded
            picture.write(figure, file, options["kind"])
    if before:
        pid = history.whose.pid
        text = f"{before} more had the process id {pid} before; the last one is drawn"
        click.echo(f"fastpagemap: {text}", err=True)
    yield from ()


def _coloured(target: str, by: str, timeout: float) -> tuple[Snapshot, Coloured]:
    """Return a snapshot of a process, and what colours its pages by something else than states."""
    from fastpagemap.cli import colouring
    from fastpagemap.report.schemes import painted

    pid = targets.process(target)
    with waiting(f"reading process {pid}"):
        snapshot, runs = asking.about(pid, lambda pid: colouring.read(pid, by), timeout)
    return snapshot, painted(by, runs, snapshot.page_size)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Have matplotlib imported as it is by default.

    It reads a matplotlibrc in the current directory, and refuses a backend that it does not know,
    although a file needs none.
    """
    # What it says of its own directories and parts is nothing that went wrong here.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        os.chdir("/")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.fchdir(here)
        os.close(here)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _chosen(mappings: list[Mapping], options: dict[str, Any]) -> list[Mapping]:
    """Return the mappings that are like what was asked for; there is one at least."""
    path, addresses = options["path"], options["addresses"]
    found = [
        mapping
        for mapping in mappings
        if path is None or matches(path, mapping.path)
        if not addresses or any(mapping.start <= at < mapping.end for at in addresses)
    ]
    if not found:
        why = "no mapping is like that ('fastpagemap report' lists them)"
        if path is None and not addresses:
            why = "none of its pages was ever touched"
        raise OSError(f"there is nothing to draw: {why}")
    return found
