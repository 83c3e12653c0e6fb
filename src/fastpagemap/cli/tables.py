"""Draw what was collected: aligned lines of text, in a pipe always alike, on a terminal fitted."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from fastpagemap import Mapping
    from fastpagemap.cli.report import Report

WIDEST_SIZE = len("1023Ki")
ADDRESS = len("7fffffffffff")  # what is longer, [vsyscall] on x86-64, is shortened
PATH_AT_LEAST = 16  # columns of sizes give way before the path gets narrower than this
ROOM_FOR_ENDS = 120  # a terminal this wide also shows where each mapping ends
# What gives way first where there is no room for all.
LEAST_MISSED = ("soft_dirty", "huge", "exclusive", "shared", "swapped_shared", "unknown", "size")
STYLES = {"swapped": "yellow", "swapped_shared": "yellow", "unknown": "magenta"}
UNKNOWN = (
    "unknown: shared memory that is not present, of which it could not be learnt whether it is "
    "swapped or was never touched."
)


def human(size: int) -> str:
    """Return a size in binary units, in at most six characters: ``0``, ``4Ki``, ``1.5Gi``."""
    value, unit = float(size), ""
    for bigger in "KMGTPE":
        if round(value) < 1024:  # as it would be printed, so that nothing reads "1024Ki"
            break
        value, unit = value / 1024, bigger + "i"
    digits = f"{value:.1f}" if round(value, 1) < 100 else f"{value:.0f}"
    return digits.removesuffix(".0") + unit


def printable(text: str) -> str:
    r"""Escape what a terminal might act upon: control characters, bytes that are not UTF-8.

    >>> print(printable("[heap] \x1b[31m \udcff"))
    [heap] \x1b[31m \xff
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def plain(report: Report) -> Iterator[str]:
    """Yield lines for a pipe: one a mapping, always of the same widths, the whole path last.

    No cell but the last holds a space, so that awk can take a line apart.
    """
    columns = report.columns
    widths = [16, 16, 5, *(max(len(name), WIDEST_SIZE) for name in columns), 0]

    def line(*cells: str) -> str:
        text = "  ".join(map(str.rjust, cells, widths))
        return text if cells[-1] else text.rstrip()

    yield line("start", "end", "perms", *columns, "path")
    for mapping, sizes in _rows(report, columns):
        ends = f"{mapping.start:016x}", f"{mapping.end:016x}"
        yield line(*ends, mapping.permissions, *map(human, sizes), printable(mapping.path))
    yield line("total", "-", "-", *_totals(report, columns), _count(report))


def for_terminal(report: Report) -> Iterator[str]:
    """Yield lines for a terminal, fitted to its width, in colour where it has any."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    paint = _painter(console)
    dots = "…" if console.encoding.lower().startswith("utf") else ".."
    columns, notes = _fit(report, console.width)
    ends, widths, gap = _layout(columns, console.width)
    room = _room(columns, console.width)

    def line(cells: list[str], styles: Iterable[str]) -> str:
        padded = [cell.rjust(width) + gap for cell, width in zip(cells[:-1], widths, strict=True)]
        padded.append(_tail(cells[-1], room, dots))
        return "".join(map(paint, padded, styles))

    def bold(first: Sequence[str], sizes: Sequence[str], last: str) -> str:
        return line([*first[:ends], first[-1], *sizes, last], repeat("bold"))

    yield paint(f"process {report.pid} {printable(report.name)}", "bold")
    above = [name.rpartition("_")[0] for name in columns]
    if any(above):
        yield bold(["", "", ""], above, "")
    yield bold(["start", "end", "perm"], [name.rpartition("_")[2] for name in columns], "path")
    for mapping, sizes in _rows(report, columns):
        first = [_middle(f"{address:x}", dots) for address in (mapping.start, mapping.end)[:ends]]
        first.append(mapping.permissions)
        styles = chain(repeat("", len(first)), map(_style, columns, sizes), [""])
        yield line([*first, *map(human, sizes), printable(mapping.path)], styles)
    yield bold(["total", "", ""], _totals(report, columns), _count(report))
    for note in notes:
        for part in textwrap.wrap(note, console.width):
            yield paint(part, "italic")


def _painter(console: Console) -> Callable[[str, str], str]:
    """Return a function that puts text in a style: rich is asked once a style, not once a cell."""

    @functools.cache
    def codes(style: str) -> list[str]:
        with console.capture() as captured:
            console.print("x", style=style, end="")
        return captured.get().split("x")

    def paint(text: str, style: str) -> str:
        before, after = codes(style)
        return before + text + after

    return paint


def _style(column: str, size: int) -> str:
    return STYLES.get(column, "") if size else "dim"


def _middle(address: str, dots: str) -> str:
    keep = ADDRESS - 4 - len(dots)
    return address if len(address) <= ADDRESS else address[:4] + dots + address[-keep:]


def _tail(text: str, room: int, dots: str) -> str:
    """Keep the end of a path that is too long, for there is the name; measured as it is drawn."""
    from rich.cells import cell_len

    if cell_len(text) <= room:
        return text
    while text and cell_len(dots + text) > room:
        text = text[1:]
    return dots + text


def _rows(report: Report, columns: Sequence[str]) -> Iterator[tuple[Mapping, tuple[int, ...]]]:
    sizes = report.usage[list(columns)].tolist()
    return zip(report.mappings, sizes, strict=True)


def _totals(report: Report, columns: Sequence[str]) -> list[str]:
    return [human(report.total(name)) for name in columns]


def _count(report: Report) -> str:
    count = len(report.mappings)
    return f"{count} mapping{'' if count == 1 else 's'}"


def _layout(columns: Sequence[str], width: int) -> tuple[int, list[int], str]:
    """Return how many addresses a line has, the widths of all cells but the path, and the gap."""
    ends = 2 if width >= ROOM_FOR_ENDS else 1
    sizes = [max(WIDEST_SIZE, *map(len, name.split("_"))) for name in columns]
    return ends, [ADDRESS] * ends + [4, *sizes], "  " if ends == 2 else " "


def _room(columns: Sequence[str], width: int) -> int:
    """Return the width left for the path."""
    _, widths, gap = _layout(columns, width)
    return width - sum(widths) - len(gap) * len(widths)


def _fit(report: Report, width: int) -> tuple[list[str], list[str]]:
    """Return the columns a terminal has room for, and notes on those left out."""
    columns = list(report.columns)
    longest = max((len(printable(mapping.path)) for mapping in report.mappings), default=0)
    need = min(longest, PATH_AT_LEAST)
    notes = [UNKNOWN] if "unknown" in columns and report.total("unknown") else []

    def leave_out(names: Sequence[str], why: str) -> None:
        gone = []
        for name in names:
            if _room(columns, width) >= need:
                break
            columns.remove(name)
            gone.append(name)
        if gone:
            notes.append(f"{why}: {', '.join(gone)}.")

    empty = [name for name in columns if not report.total(name)]
    leave_out(empty, "Left out, 0 everywhere")
    full = [name for name in LEAST_MISSED if name in columns]
    leave_out(full, "No room here, but in a pipe, for")
    return columns, notes
