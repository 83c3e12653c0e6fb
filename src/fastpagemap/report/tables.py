"""Reports as aligned text: for a pipe, or fitted to the width of a terminal."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastpagemap.report.members import last_sizes, table_columns, total_of
from fastpagemap.report.report import LABELS, About, Report, rows
from fastpagemap.report.text import ANON, ending, human, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style

__all__ = ["counted", "for_terminal", "human", "plain", "printable", "title"]

# Widths in characters.
SIZE_WIDTH = len("1023Ki")
ADDRESS_WIDTH = len("7fffffffffff")  # longer addresses, [vsyscall] on x86-64, are shortened
MIN_PATH_WIDTH = 16  # columns of sizes are left out before the path gets narrower
MIN_WIDTH_FOR_ENDS = 120  # a terminal this wide also shows where each mapping ends
WIDTHS = {"start": ADDRESS_WIDTH, "end": ADDRESS_WIDTH, "permissions": 4, "pid": 7, "mappings": 5}
# Headings of columns whose names are too long: on a terminal, and in a pipe.
SHORT = {"permissions": "perm", "mappings": "maps"}
PLAIN = {"permissions": "perms"}
# The columns before the sizes, by what a row is. The last of LABELS is the last column.
BEFORE: dict[str, tuple[str, ...]] = {
    "mapping": ("start", "end", "permissions"),
    "process": ("pid", "mappings"),
    "path": ("mappings",),
    "kind": ("mappings",),
    "member": ("pid",),
    "sharer": ("pid",),
}
# The first cell of the last line.
LAST_LINE = {"member": "group", "sharer": "any"}
# The columns that are left out where not all fit, the first of them first; and the last to go.
DROPPED_FIRST = (
    "zero",
    "soft_dirty",
    "huge",
    "exclusive",
    "shared",
    "swapped_shared",
    "unknown",
    "size",
)
DROPPED_LAST = (
    *("swapped", "present", "faulted_in", "swapped_out"),
    *("swapped_union", "unique", "union", "rss", "overlap"),
)
STYLES = {"swapped": "yellow", "swapped_shared": "yellow", "unknown": "magenta"}
UNKNOWN = (
    "unknown: shared memory that is not present, of which it could not be learnt whether it is "
    "swapped or was never touched."
)


def plain(report: Report) -> Iterator[str]:
    """Yield lines for a pipe: what it is about, and a line for each row, the whole path last.

    Only the last cell may hold a space, so that awk can split a line.
    """
    yield f"# {heading(report)}"
    before, last = BEFORE[report.by], LABELS[report.by][-1]
    columns = table_columns(report)
    least = [
        16 if name in ("start", "end") else max(len(PLAIN.get(name, name)), 5) for name in before
    ]
    widths = [*least, *(max(len(name), SIZE_WIDTH) for name in columns), 0]

    def line(*cells: str) -> str:
        text = "  ".join(map(str.rjust, cells, widths))
        return text if cells[-1] else text.rstrip()

    yield line(*(PLAIN.get(name, name) for name in before), *columns, last)
    for row in rows(report, (*before, *columns, last)):
        first = map(_label, before, row)
        yield line(*first, *map(_size, row[len(before) : -1]), printable(_shown(last, row[-1])))
    labels = [LAST_LINE.get(report.by, "total"), *["-"] * (len(before) - 1)]
    yield line(*labels, *map(_size, last_sizes(report, columns)), counted(report))


def _shown(label: str, value: Any) -> str:
    """Return the last cell of a row."""
    return ANON if label == "path" and not value else str(value)


def _size(size: int | None) -> str:
    return "-" if size is None else human(size)


def _label(name: str, value: Any) -> str:
    return f"{value:016x}" if name in ("start", "end") else str(value)


def for_terminal(report: Report) -> Iterator[str]:
    """Yield lines for a terminal, fitted to its width, in colour if it has colours."""
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
        padded.append(ending(cells[-1], shape.path_width, dots))
        return "".join(map(paint, padded, styles)).rstrip()

    def bold(before: Sequence[str], sizes: Sequence[str], after: str) -> str:
        cells = [*before, *sizes, after]
        return line(cells, ["bold"] * len(cells))

    count = len(shape.before)
    yield paint(ending(title(report), console.width, dots), "bold")
    above = [name.rpartition("_")[0] for name in shape.columns]
    if any(above):
        yield bold([""] * count, above, "")
    heads = [SHORT.get(name, name) for name in shape.before]
    yield bold(heads, [name.rpartition("_")[2] for name in shape.columns], last)
    for row in rows(report, (*shape.before, *shape.columns, last)):
        sizes = row[count:-1]
        cells = [_short(name, value, dots) for name, value in zip(shape.before, row, strict=False)]
        styles = [*[""] * count, *map(_style, shape.columns, sizes), ""]
        yield line([*cells, *map(_size, sizes), _shown(last, row[-1])], styles)
    first = [LAST_LINE.get(report.by, "total"), *[""] * (count - 1)] if count else []
    yield bold(first, [*map(_size, last_sizes(report, shape.columns))], counted(report))
    for note in notes:
        for part in textwrap.wrap(note, console.width):
            yield paint(part, "italic")


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
    about, text = report.about, title(report)
    kernel = f"Linux {printable(about.kernel)}"
    text = text.removesuffix(f", {kernel}")
    return ", ".join([text, *([] if about.snapshot else [_clock(about)]), kernel])


def _clock(about: About) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.time))


def changes(report: Report) -> Iterator[str]:
    """Yield what a comparison found that is in no column."""
    if "unmapped" not in report.more:
        return
    mapped, unmapped = report.more["mapped"], report.more["unmapped"]
    if mapped or unmapped:
        yield f"Newly mapped: {human(mapped)}; unmapped: {human(unmapped)}."


def _short(name: str, value: Any, dots: str) -> str:
    return _middle(f"{value:x}", dots) if name in ("start", "end") else str(value)


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
    plural = "es" if what == "process" else "s"
    return f"{count} {what}{'' if count == 1 else plural}"


class _Shape(NamedTuple):
    """The columns of a row that fit on a terminal."""

    before: tuple[str, ...]
    columns: list[str]
    widths: list[int]
    gap: str
    # columns that are left for the path
    path_width: int


def _shape(report: Report, columns: Sequence[str], width: int, fewer: int) -> _Shape:
    """Lay out columns. The last `fewer` of those before the sizes are left out."""
    before = BEFORE[report.by]
    wide = width >= MIN_WIDTH_FOR_ENDS
    if not wide:
        before = tuple(name for name in before if name != "end")
    before = before[: len(before) - fewer]
    sizes = [max(SIZE_WIDTH, *map(len, name.split("_"))) for name in columns]
    widths = [WIDTHS[name] for name in before] + sizes
    gap = "  " if wide else " "
    return _Shape(before, list(columns), widths, gap, width - sum(widths) - len(gap) * len(widths))


def _fit(report: Report, width: int) -> tuple[_Shape, list[str]]:
    """Return the columns that fit on a terminal, and notes on what is left out."""
    columns = list(table_columns(report))
    last = LABELS[report.by][-1]
    most = min(MIN_PATH_WIDTH, max(width // 4, 4))
    longest = max(
        (len(printable(_shown(last, text)[-most:])) for text in report.labels[last]), default=0
    )
    need = min(max(longest, len(counted(report))), most)
    notes = list(changes(report))
    zero = {name for name in columns if not total_of(report, name)}
    if "unknown" in columns and "unknown" not in zero:
        notes.append(UNKNOWN)
    fewer = 0

    def fits() -> bool:
        return _shape(report, columns, width, fewer).path_width >= need

    def leave_out(names: Sequence[str], why: str) -> None:
        gone = []
        for name in names:
            if fits():
                break
            columns.remove(name)
            gone.append(name)
        if gone:
            notes.append(f"{why}: {', '.join(gone)}.")

    order = [name for name in DROPPED_FIRST if name in columns]
    order += [name for name in reversed(columns) if name not in order]
    leave_out([name for name in order if name in zero], "Left out, 0 everywhere")
    order = [name for name in order if name in columns and name not in DROPPED_LAST]
    leave_out(order, "No room here, but in a pipe, for")
    while not fits() and fewer < len(_shape(report, columns, width, 0).before):
        fewer += 1
    leave_out([name for name in DROPPED_LAST if name in columns], "Nor for")
    return _shape(report, columns, width, fewer), notes
