"""``fastpagemap map``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import click

from fastpagemap.cli import asking, targets
from fastpagemap.cli.completion import complete_target
from fastpagemap.cli.options import address, parsed, raw_options, timeout_option
from fastpagemap.cli.progress import waiting
from fastpagemap.model.errors import UnsupportedError
from fastpagemap.model.mapping import Mapping
from fastpagemap.report import selection
from fastpagemap.report.schemes import CHOICES

EXAMPLES = """
\b
Examples:
  fastpagemap map 1234 -o memory.png
  fastpagemap map postgres -o buffers.svg --path /dev/zero
  sudo fastpagemap map postgres -o folios.png --by order
  fastpagemap map before.fpm -o before.png --width 2000
  fastpagemap map 1234 -o heap.png --mapping 55d0c0de1000
  sudo dd if=/proc/1234/pagemap of=entries bs=8 skip=$((0x7f0000000)) count=65536
  fastpagemap map entries --raw --start 7f0000000000 -o entries.png
"""


def _suffix(ctx: click.Context, parameter: click.Parameter, path: str) -> str:
    if os.path.splitext(path)[1].lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"'{path}' has to end in .png, .svg or .pdf")
    return path


@click.command(short_help="The address space as a picture.", epilog=EXAMPLES)
@click.argument("target", shell_complete=complete_target)
@click.option(
    "-o", "--output", metavar="FILE", required=True, callback=_suffix,
    help="The picture to write: .png, .svg or .pdf.",
)  # fmt: skip
@click.option(
    "--path",
    metavar="PATTERN",
    help="Only mappings whose path has this text in it, or matches this shell pattern.",
)
@click.option(
    "--mapping",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    help="Only the mapping that this address is in, in hexadecimal; several, if given repeatedly.",
)
@click.option(
    "--width", type=click.IntRange(640, 8000), default=1200, show_default=True, help="In pixels."
)
@click.option(
    "--soft-dirty",
    is_flag=True,
    help="Colour the pages that were written since someone cleared the soft-dirty bits.",
)
@click.option(
    "--by",
    type=click.Choice(CHOICES),
    help="Colour present pages by the NUMA node they lie on, by how often they are mapped, by "
    "whomever, or by the order of the folio they are part of. The last two need root.",
)
@raw_options
@timeout_option
def map(
    target: str,
    output: str,
    path: str | None,
    addresses: tuple[str, ...],
    width: int,
    soft_dirty: bool,
    by: str | None,
    raw: bool,
    start: int,
    timeout: float,
) -> Iterable[str]:
    """Draw the address space of TARGET as a picture.

    TARGET is a process id, the name of a process, or a file that 'fastpagemap dump' wrote.

    A cell is a page, or as many as it takes for all to fit. It is coloured by the state that most
    of it is in; what is swapped or unknown is shown from one part in eight on, and no state that
    there is is left out. What is not mapped is cut out, and so are long stretches that were never
    touched: '·· 6.2Gi ··' stands in their place. Needs matplotlib.
    """
    wanted = [parsed(address)(None, None, text) for text in addresses]
    if by:
        if raw or soft_dirty:
            raise click.UsageError("--by asks a process: neither --raw nor --soft-dirty go with it")
        return _map_by(by, target, output, path, wanted, width, timeout)
    return _map(target, output, path, wanted, width, soft_dirty, raw, start, timeout)


def _map_by(
    by: str,
    target: str,
    output: str,
    path: str | None,
    addresses: list[int],
    width: int,
    timeout: float,
) -> Iterator[str]:
    """Draw the picture in the colours of something else than states; yield no lines."""
    with _another_directory():
        from fastpagemap.cli import colouring
        from fastpagemap.report import picture
    from fastpagemap.report.schemes import painted

    pid = targets.process(target)
    with waiting(f"reading process {pid}"):
        snapshot, runs = asking.about(pid, lambda pid: colouring.read(pid, by), timeout)
    mappings = _chosen(snapshot.mappings, path, addresses)
    if not mappings:
        raise OSError(f"there is nothing to draw: {_nothing(path, addresses)}")
    coloured = painted(by, runs, snapshot.page_size)
    figure = picture.draw(snapshot, mappings, width=width, coloured=coloured)
    picture.save(figure, output, snapshot.uid)
    yield from ()


def _map(
    target: str,
    output: str,
    path: str | None,
    addresses: list[int],
    width: int,
    soft_dirty: bool,
    raw: bool,
    start: int,
    timeout: float,
) -> Iterator[str]:
    """Draw the picture; yield no lines."""
    with _another_directory():
        from fastpagemap.report import picture

    snapshot = targets.snapshot(target, raw, start, timeout)
    mappings = _chosen(snapshot.mappings, path, addresses)
    if not mappings:
        raise OSError(f"there is nothing to draw: {_nothing(path, addresses)}")
    if soft_dirty and not snapshot.soft_dirty:
        raise UnsupportedError("--soft-dirty: that kernel keeps no soft-dirty bits")
    figure = picture.draw(snapshot, mappings, width=width, soft_dirty=soft_dirty)
    picture.save(figure, output, snapshot.uid)
    yield from ()


@contextlib.contextmanager
def _another_directory() -> Iterator[None]:
    """Change to / for a while: matplotlib reads a matplotlibrc in the current directory."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/")
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def _chosen(mappings: list[Mapping], path: str | None, addresses: list[int]) -> list[Mapping]:
    return [
        mapping
        for mapping in mappings
        if path is None or selection.matches(path, mapping.path)
        if not addresses or any(mapping.start <= at < mapping.end for at in addresses)
    ]


def _nothing(path: str | None, addresses: list[int]) -> str:
    if path is None and not addresses:
        return "no page of it is anything"
    return "no mapping is like that ('fastpagemap report' lists them)"
