"""Which columns of a report fit on a terminal, and how wide they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastpagemap.report.members import table_columns, total_of
from fastpagemap.report.report import Report
from fastpagemap.report.text import printable

__all__ = ["ADDRESS_WIDTH", "BEFORE", "MIN_COMMAND_WIDTH", "MIN_PATH_WIDTH"]
__all__ += ["MIN_WIDTH_FOR_ALL", "SIZE_WIDTH", "WIDTHS", "Shape", "fit"]

# Widths in characters.
SIZE_WIDTH = len("1023Ki")
ADDRESS_WIDTH = len("7fffffffffff")  # longer addresses, [vsyscall] on x86-64, are shortened
# Columns of sizes are left out before the path, or the command line, gets narrower.
MIN_PATH_WIDTH, MIN_COMMAND_WIDTH = 16, 32
MIN_WIDTH_FOR_ALL = 120  # a terminal this wide also shows the columns of WIDE
WIDTHS = {"start": ADDRESS_WIDTH, "end": ADDRESS_WIDTH, "permissions": 4, "pid": 7, "mappings": 5}
WIDTHS |= {"user": 8, "parent": 7, "threads": 7}
# Only a wide terminal shows these.
WIDE = ("end", "parent", "threads")
# The columns before the sizes, by what a row is. The last of LABELS is the last column.
BEFORE: dict[str, tuple[str, ...]] = {
    "mapping": ("start", "end", "permissions"),
    "process": ("pid", "user", "parent", "threads", "mappings"),
    "path": ("mappings",),
    "kind": ("mappings",),
    "member": ("pid",),
    "sharer": ("pid",),
}
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


class Shape(NamedTuple):
    """The columns of a row that fit on a terminal."""

    before: tuple[str, ...]
    columns: list[str]
    widths: list[int]
    gap: str
    # columns that are left for the path
    path_width: int


def _shape(report: Report, columns: Sequence[str], width: int, fewer: int) -> Shape:
    """Lay out columns. The last `fewer` of those before the sizes are left out."""
    before = BEFORE[report.by]
    wide = width >= MIN_WIDTH_FOR_ALL
    if not wide:
        before = tuple(name for name in before if name not in WIDE)
    before = before[: len(before) - fewer]
    sizes = [max(SIZE_WIDTH, *map(len, name.split("_"))) for name in columns]
    widths = [WIDTHS[name] for name in before] + sizes
    gap = "  " if wide else " "
    return Shape(before, list(columns), widths, gap, width - sum(widths) - len(gap) * len(widths))


def fit(report: Report, width: int, texts: Sequence[str], least: int) -> tuple[Shape, list[str]]:
    """Return the columns that fit on a terminal, and notes on what is left out.

    Parameters
    ----------
    report : Report
        What is to be shown.
    width : int
        Columns of the terminal.
    texts : sequence of str
        The last cells of all lines.
    least : int
        The columns that these get, if they need so many.
    """
    columns = list(table_columns(report))
    most = min(least, max(width // 4, 4))
    need = min(max((len(printable(text[-most:])) for text in texts), default=0), most)
    notes: list[str] = []
    zero = {name for name in columns if not total_of(report, name)}
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
