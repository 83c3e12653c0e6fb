"""Reports as aligned text: for a pipe, or fitted to the width of a terminal."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastpagemap.report.aligned import size
from fastpagemap.report.commands import shortened
from fastpagemap.report.fitting import (
    ADDRESS_WIDTH,
    BEFORE,
    MIN_COMMAND_WIDTH,
    MIN_PATH_WIDTH,
    MIN_WIDTH_FOR_ALL,
    SIZE_WIDTH,
    WIDTHS,
    Shape,
    fit,
)
from fastpagemap.report.members import last_sizes, table_columns, total_of
from fastpagemap.report.report import LABELS, About, Report, rows
from fastpagemap.report.text import ANON, beginning, ending, human, plural, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style

__all__ = ["counted", "dated", "for_terminal", "plain", "title"]

# Cuts a text to so many columns of a terminal, with dots in place of what is gone.
Cut = Callable[[str, int, str], str]

# Headings of columns whose names are too long: on a terminal, and in a pipe.
SHORT = {"permissions": "perm", "mappings": "maps"}
PLAIN = {"permissions": "perms"}
# The first cell of the last line.
LAST_LINE = {"member": "group", "sharer": "any"}
STYLES = {"swapped": "yellow", "swapped_shared": "yellow", "unknown": "magenta"}
UNKNOWN = (
    "unknown: shared memory that is not present, of which it could not be learnt whether it is "
    "swapped or was never touched."
)
SUM = "sum: memory that several processes map is in it for each of them."


def plain(report: Report) -> Iterator[str]:
    """Yield lines for a pipe: what it is about, and a line for each row, the whole path last.

    Only the last cell may hold a space, so that awk can split a line.
    """
    yield f"# {heading(report)}"
    before = BEFORE[report.by]
    last, texts = _last(report, wide=True)
    columns = table_columns(report)
    least = [
        16 if name in ("start", "end") else max(len(PLAIN.get(name, name)), 5) for name in before
    ]
    widths = [*least, *(max(len(name), SIZE_WIDTH) for name in columns), 0]

    def line(*cells: str) -> str:
        text = "  ".join(map(str.rjust, cells, widths))
        return text if cells[-1] else text.rstrip()

    yield line(*(PLAIN.get(name, name) for name in before), *columns, last)
    for row, text in zip(rows(report, (*before, *columns)), texts, strict=True):
        first = map(_label, before, row)
        yield line(*first, *map(size, row[len(before) :]), printable(text))
    labels = [_last_line(report), *["-"] * (len(before) - 1)]
    yield line(*labels, *map(size, last_sizes(report, columns)), counted(report))


def _last(report: Report, wide: bool) -> tuple[str, list[str]]:
    """Return the last column, which has the text that a row is known by: its name, and its cells.

    Processes have their command lines in it, or their names where there is little room.
    """
    if "command" in report.labels:
        names, commands = report.labels["name"], report.labels["command"]
        if wide:
            return "command", [
                command or f"[{name}]" for command, name in zip(commands, names, strict=True)
            ]
        return "name", names
    last = LABELS[report.by][-1]
    texts = report.labels[last]
    return last, [text or ANON for text in texts] if last == "path" else texts


def _last_line(report: Report) -> str:
    """Return the first cell of the last line.

    What several processes map is in a sum of all as often: that is no total.
    """
    return LAST_LINE.get(report.by, "total" if report.about.pid is not None else "sum")


def _label(name: str, value: Any) -> str:
    return f"{value:016x}" if name in ("start", "end") else str(value)


def for_terminal(report: Report) -> Iterator[str]:
    """Yield lines for a terminal, fitted to its width, in colour if it has colours."""
    console = _console()
    paint = _painter(console)
    dots = "…" if console.encoding.lower().startswith("utf") else ".."
    last, texts = _last(report, console.width >= MIN_WIDTH_FOR_ALL)
    shape, notes = _fitted(report, console.width, last, texts)
    # what tells paths apart is at their end
    cut = shortened if last == "command" else ending

    def line(cells: Sequence[str], styles: Iterable[str], cut: Cut) -> str:
        padded = [
            cell.rjust(width) + shape.gap
            for cell, width in zip(cells[:-1], shape.widths, strict=True)
        ]
        padded.append(cut(cells[-1], shape.path_width, dots))
        return "".join(map(paint, padded, styles)).rstrip()

    def bold(cells: Sequence[str]) -> str:
        return line(cells, ["bold"] * len(cells), beginning)

    count = len(shape.before)
    yield paint(beginning(title(report), console.width, dots), "bold")
    yield from map(bold, _heads(shape, last))
    # On a very narrow terminal there is no other column than the last.
    names = (*shape.before, *shape.columns, LABELS[report.by][-1])
    for row, text in zip(rows(report, names), texts, strict=True):
        sizes = row[count:-1]
        cells = [_short(name, value, dots) for name, value in zip(shape.before, row, strict=False)]
        styles = [*[""] * count, *map(_style, shape.columns, sizes), ""]
        yield line([*cells, *map(size, sizes), text], styles, cut)
    first = [_last_line(report), *[""] * (count - 1)] if count else []
    yield bold([*first, *map(size, last_sizes(report, shape.columns)), counted(report)])
    for note in notes:
        for part in textwrap.wrap(note, console.width):
            yield paint(part, "italic")


def _heads(shape: Shape, last: str) -> Iterator[list[str]]:
    """Yield the cells of the lines above a table: long names take two lines."""
    above = [name.rpartition("_")[0] for name in shape.columns]
    if any(above):
        yield [*[""] * len(shape.before), *above, ""]
    names = [name.rpartition("_")[2] for name in shape.columns]
    yield [*(SHORT.get(name, name) for name in shape.before), *names, last]


def _fitted(report: Report, width: int, last: str, texts: Sequence[str]) -> tuple[Shape, list[str]]:
    """Return the columns that fit, and all notes below the table."""
    least = MIN_COMMAND_WIDTH if last == "command" else MIN_PATH_WIDTH
    shape, left_out = fit(report, width, [*texts, counted(report)], least)
    return shape, [*_notes(report), *left_out]


def title(report: Report) -> str:
    """Return the title of a report: whose memory it shows, and as of when."""
    about = report.about
    if report.by == "member":
        return f"processes counted together, Linux {about.kernel}"
    if about.pid is None:
        return f"all processes, Linux {about.kernel}"
    name = printable(about.name)
    whose = f"process {about.pid} {name}".rstrip() if about.pid else "entries of a process"
    if report.by == "sharer":
        return f"who maps memory of {whose}, which maps {human(report.more['mapped'])}"
    if not about.snapshot:
        return whose
    at = _clock(about)
    if "before" in report.more:
        return f"{whose}, from {_clock(report.more['before'])} to {at}"
    return f"{whose}, as it was at {at}" if about.pid else f"{whose}, from a file"


def heading(report: Report) -> str:
    """Return in a line of a pipe what a report is about: whose memory, when, on which kernel."""
    text = title(report).removesuffix(f", Linux {printable(report.about.kernel)}")
    only = [f"only {condition}" for condition in report.more.get("only", ())]
    return ", ".join([dated(text, report.about), *map(printable, only)])


def dated(text: str, about: About) -> str:
    """Return a text, and when and on which kernel that was; a snapshot's says when itself."""
    when = [] if about.snapshot else [_clock(about)]
    return ", ".join([text, *when, f"Linux {printable(about.kernel)}"])


def _clock(about: About) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.time))


def _notes(report: Report) -> Iterator[str]:
    """Yield what is to be said below a table, whatever fits."""
    if only := report.more.get("only"):
        yield f"Only rows with {printable(', '.join(only))}."
    yield from changes(report)
    if "unknown" in table_columns(report) and total_of(report, "unknown"):
        yield UNKNOWN
    if _last_line(report) == "sum":
        yield SUM


def changes(report: Report) -> Iterator[str]:
    """Yield what a comparison found that is in no column."""
    if "unmapped" not in report.more:
        return
    mapped, unmapped = report.more["mapped"], report.more["unmapped"]
    if mapped or unmapped:
        yield f"Newly mapped: {human(mapped)}; unmapped: {human(unmapped)}."


def _short(name: str, value: Any, dots: str) -> str:
    if name in ("start", "end"):
        return _middle(f"{value:x}", dots)
    return beginning(str(value), WIDTHS[name], dots)


def _console() -> Console:
    from rich.console import Console, ConsoleDimensions

    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_dumb_terminal:  # rich takes each of these for 80 columns wide
        import shutil  # rarely needed

        console.size = ConsoleDimensions(*shutil.get_terminal_size())
    return console


def _painter(console: Console) -> Callable[[str, str], str]:
    """Return a function that styles text."""
    from rich.console import COLOR_SYSTEMS

    system = COLOR_SYSTEMS.get(console.color_system or "")

    @functools.cache
    def style_of(name: str) -> Style:
        style = console.get_style(name)
        return style.without_color if console.no_color else style

    def paint(text: str, style: str) -> str:
        if not style or not text.strip():
            return text
        return style_of(style).render(text, color_system=system)

    return paint


def _style(column: str, size: int | None) -> str:
    return STYLES.get(column, "") if size else "dim"


def _middle(address: str, dots: str) -> str:
    keep = ADDRESS_WIDTH - 4 - len(dots)
    return address if len(address) <= ADDRESS_WIDTH else address[:4] + dots + address[-keep:]


def counted(report: Report) -> str:
    """Return how many rows there are, in words."""
    count = len(report)
    what = "process" if report.by in LAST_LINE else report.by
    shown = ""
    if "of" in report.more:
        count, shown = report.more["of"], f", {count} shown"
    return f"{count} {plural(count, what)}{shown}"
