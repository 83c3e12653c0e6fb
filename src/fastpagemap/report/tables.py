"""Draw what was collected: aligned lines of text, in a pipe always alike, on a terminal fitted."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastpagemap.report.report import LABELS, About, Report, rows
from fastpagemap.report.text import human, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["counted", "for_terminal", "human", "plain", "printable", "title"]

WIDEST_SIZE = len("1023Ki")
ADDRESS = len("7fffffffffff")  # what is longer, [vsyscall] on x86-64, is shortened
PATH_AT_LEAST = 16  # columns of sizes give way before the path gets narrower than this
ROOM_FOR_ENDS = 120  # a terminal this wide also shows where each mapping ends
WIDTHS = {"start": ADDRESS, "end": ADDRESS, "permissions": 4, "pid": 7, "mappings": 5}
# How a column is headed on a terminal, where its name is too long.
SHORT = {"permissions": "perm", "mappings": "maps"}
PLAIN = {"permissions": "perms"}
# What stands before the sizes in a pipe, by what rows are; what stands last is the last of LABELS.
BEFORE = {
    "mapping": ("start", "end", "permissions"),
    "process": ("pid", "mappings"),
    "path": ("mappings",),
    "kind": ("mappings",),
}
# What gives way first where there is no room for all.
LEAST_MISSED = ("soft_dirty", "huge", "exclusive", "shared", "swapped_shared", "unknown", "size")
LAST_MISSED = ("swapped", "present", "faulted_in", "swapped_out")
STYLES = {"swapped": "yellow", "swapped_shared": "yellow", "unknown": "magenta"}
UNKNOWN = (
    "unknown: shared memory that is not present, of which it could not be learnt whether it is "
    "swapped or was never touched."
)


def plain(report: Report) -> Iterator[str]:
    """Yield lines for a pipe: one a row, always of the same widths, the whole path last.

    No cell but the last holds a space, so that awk can take a line apart.
    """
    before, last = BEFORE[report.by], LABELS[report.by][-1]
    columns = report.columns
    least = [
        16 if name in ("start", "end") else max(len(PLAIN.get(name, name)), 5) for name in before
    ]
    widths = [*least, *(max(len(name), WIDEST_SIZE) for name in columns), 0]

    def line(*cells: str) -> str:
        text = "  ".join(map(str.rjust, cells, widths))
        return text if cells[-1] else text.rstrip()

    yield line(*(PLAIN.get(name, name) for name in before), *columns, last)
    for row in rows(report, (*before, *columns, last)):
        first = map(_label, before, row)
        yield line(*first, *map(human, row[len(before) : -1]), printable(row[-1]))
    yield line("total", *["-"] * (len(before) - 1), *_totals(report, columns), counted(report))


def _label(name: str, value: Any) -> str:
    return f"{value:016x}" if name in ("start", "end") else str(value)


def for_terminal(report: Report) -> Iterator[str]:
    """Yield lines for a terminal, fitted to its width, in colour where it has any."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    paint = _painter(console)
    dots = "…" if console.encoding.lower().startswith("utf") else ".."
    shape, notes = _fit(report, console.width)
    last = LABELS[report.by][-1]

    def line(cells: Sequence[str], styles: Iterable[str]) -> str:
        padded = [
            cell.rjust(width) + shape.gap
            for cell, width in zip(cells[:-1], shape.widths, strict=True)
        ]
        padded.append(_tail(cells[-1], shape.room, dots))
        return "".join(map(paint, padded, styles)).rstrip()

    def bold(before: Sequence[str], sizes: Sequence[str], after: str) -> str:
        cells = [*before, *sizes, after]
        return line(cells, ["bold"] * len(cells))

    count = len(shape.before)
    yield paint(_tail(title(report), console.width, dots), "bold")
    above = [name.rpartition("_")[0] for name in shape.columns]
    if any(above):
        yield bold([""] * count, above, "")
    heads = [SHORT.get(name, name) for name in shape.before]
    yield bold(heads, [name.rpartition("_")[2] for name in shape.columns], last)
    plain_cells = [""] * count
    for row in rows(report, (*shape.before, *shape.columns, last)):
        before, sizes = row[:count], row[count:-1]
        cells = [
            _short(name, value, dots) for name, value in zip(shape.before, before, strict=True)
        ]
        styles = [*plain_cells, *map(_style, shape.columns, sizes), ""]
        yield line([*cells, *map(human, sizes), printable(row[-1])], styles)
    first = ["total", *[""] * (count - 1)] if count else []
    yield bold(first, _totals(report, shape.columns), counted(report))
    for note in notes:
        for part in textwrap.wrap(note, console.width):
            yield paint(part, "italic")


def title(report: Report) -> str:
    """Return whose memory a report is of: one line for people."""
    about = report.about
    if about.pid is None:
        return f"all processes, Linux {about.kernel}"
    name = printable(about.name)
    whose = f"process {about.pid} {name}".rstrip() if about.pid else "entries of a process"
    if not about.snapshot:
        return whose
    at = _clock(about)
    if "before" in report.more:
        return f"{whose}, from {_clock(report.more['before'])} to {at}"
    return f"{whose}, as it was at {at}" if about.pid else f"{whose}, from a file"


def _clock(about: About) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.time))


def _changes(report: Report) -> Iterator[str]:
    """Yield what a comparison has to say that is in no column."""
    if not report.more:
        return
    mapped, unmapped = report.more["mapped"], report.more["unmapped"]
    if mapped or unmapped:
        yield f"Newly mapped: {human(mapped)}; unmapped: {human(unmapped)}."


def _short(name: str, value: Any, dots: str) -> str:
    return _middle(f"{value:x}", dots) if name in ("start", "end") else str(value)


def _painter(console: Console) -> Callable[[str, str], str]:
    """Return a function that puts text in a style: rich is asked once a style, not once a cell."""

    @functools.cache
    def codes(style: str) -> list[str]:
        with console.capture() as captured:
            console.print("x", style=style, end="")
        return captured.get().split("x")

    def paint(text: str, style: str) -> str:
        if not style or not text.strip():
            return text
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


def _totals(report: Report, columns: Sequence[str]) -> list[str]:
    return [human(report.total(name)) for name in columns]


def counted(report: Report) -> str:
    """Return how many rows there are, in words."""
    count = len(report)
    plural = "es" if report.by == "process" else "s"
    return f"{count} {report.by}{'' if count == 1 else plural}"


class _Shape(NamedTuple):
    """What of a row a terminal has room for."""

    before: tuple[str, ...]
    columns: list[str]
    widths: list[int]
    gap: str
    # what is left for the path
    room: int


def _shape(report: Report, columns: Sequence[str], width: int, fewer: int) -> _Shape:
    """Lay out columns; `fewer` of what stands before the sizes are left out."""
    before = BEFORE[report.by]
    wide = width >= ROOM_FOR_ENDS
    if not wide:
        before = tuple(name for name in before if name != "end")
    before = before[: len(before) - fewer]
    sizes = [max(WIDEST_SIZE, *map(len, name.split("_"))) for name in columns]
    widths = [WIDTHS[name] for name in before] + sizes
    gap = "  " if wide else " "
    return _Shape(before, list(columns), widths, gap, width - sum(widths) - len(gap) * len(widths))


def _fit(report: Report, width: int) -> tuple[_Shape, list[str]]:
    """Return what a terminal has room for, and notes on what is left out."""
    columns = list(report.columns)
    last = report.labels[LABELS[report.by][-1]]
    longest = max((len(printable(text)) for text in last), default=0)
    longest = max(longest, len(counted(report)))
    need = min(longest, PATH_AT_LEAST, max(width // 4, 4))
    notes = list(_changes(report))
    if "unknown" in columns and report.total("unknown"):
        notes.append(UNKNOWN)
    fewer = 0

    def fits() -> bool:
        return _shape(report, columns, width, fewer).room >= need

    def leave_out(names: Sequence[str], why: str) -> None:
        gone = []
        for name in names:
            if fits():
                break
            columns.remove(name)
            gone.append(name)
        if gone:
            notes.append(f"{why}: {', '.join(gone)}.")

    order = [name for name in LEAST_MISSED if name in columns]
    order += [name for name in reversed(columns) if name not in order]
    leave_out([name for name in order if not report.total(name)], "Left out, 0 everywhere")
    order = [name for name in order if name in columns and name not in LAST_MISSED]
    leave_out(order, "No room here, but in a pipe, for")
    while not fits() and fewer < len(_shape(report, columns, width, 0).before):
        fewer += 1
    leave_out([name for name in LAST_MISSED if name in columns], "Nor for")
    return _shape(report, columns, width, fewer), notes
