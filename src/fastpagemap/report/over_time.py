"""What was recorded of a process as a picture: address by time, drawn with matplotlib."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastpagemap.model.mapping import Mapping
from fastpagemap.report import lettering, palette
from fastpagemap.report.layout import Layout, Part
from fastpagemap.report.lettering import AS_IT_IS, DPI, INK, LEFT, PALE, RIGHT, SMALL, TINY, TOP
from fastpagemap.report.picture import CELL, MIN_WIDTH, Picture, add_axes, cells
from fastpagemap.report.replay import History
from fastpagemap.report.text import human, name_of, plural, printable
from fastpagemap.report.timeline import Row, Timeline, timeline

__all__ = ["draw"]

#: Cells are as wide as in the picture of one moment, and higher, with room for marks.
ROW_HEIGHT = 14.0
MAX_ROWS = 64
#: Pixels below the cells: the times, and two lines of legend.
BOTTOM = 92
TICKS = 6
#: What changed in a step, and how it is marked.
MARKS = {
    "swapped_out": ("v", "swapped out"),
    "swapped_in": ("^", "back from swap"),
    "touched": ("+", "more present"),
    "written": ("x", "more soft-dirty"),
}


def draw(history: History, mappings: Sequence[Mapping], *, width: int) -> Picture:
    """Draw some mappings of a recording, `width` pixels wide; a row each, time from left to right.

    Returns
    -------
    Picture
        See ``picture.draw``.
    """
    width = max(width, MIN_WIDTH)
    columns = int((width - LEFT - RIGHT) / CELL[0])
    shown = timeline(history, mappings, columns, MAX_ROWS)
    scheme = palette.by_state()
    inside = max(len(shown.rows), 3) * ROW_HEIGHT
    height = TOP + inside + BOTTOM
    figure = Picture(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (LEFT / width, BOTTOM / height, columns * CELL[0] / width, inside / height)
    axes = add_axes(figure, box, columns, inside / ROW_HEIGHT)
    cells(axes, _layout(shown, columns, scheme), np.arange(len(shown.rows), dtype=float), scheme)
    _marks(axes, shown)
    _labels(axes, shown, columns)
    _times(axes, shown, history, columns, inside / ROW_HEIGHT)
    _title(figure, shown, history, len(mappings), height)
    _legends(figure, shown, scheme, width, height)
    return figure


def _layout(shown: Timeline, columns: int, scheme: palette.Scheme) -> Layout:
    """Return the cells of the rows, as far as something was mapped and recorded."""
    parts: list[Part] = []
    tables = [np.zeros((0, len(scheme.states)))]
    count = 0
    for number, row in enumerate(shown.rows):
        drawn = shown.recorded & row.amounts.any(axis=1)
        for there, some in groupby(range(columns), key=drawn.__getitem__):
            steps = list(some)
            if there:
                parts.append(Part(number, steps[0], count, len(steps)))
                tables.append(row.amounts[steps])
                count += len(steps)
    table = np.concatenate(tables)
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1)  # shares: a cell has no fixed size
    return Layout(1, columns, len(shown.rows), [], parts, table, palette.chosen(table, scheme))


def _marks(axes: Axes, shown: Timeline) -> None:
    for what, (marker, _) in MARKS.items():
        places = [
            (step + 0.5, number + 0.5)
            for number, row in enumerate(shown.rows)
            for step in np.flatnonzero(row.changed[what] & shown.recorded).tolist()
        ]
        if places:
            x, y = zip(*places, strict=True)
            # edged in white, so that it is seen on dark cells, too
            axes.scatter(x, y, s=26, c="white", marker=marker, linewidths=1.6, zorder=3)
            axes.scatter(x, y, s=12, c=INK, marker=marker, linewidths=0.8, zorder=4)


def _labels(axes: Axes, shown: Timeline, columns: int) -> None:
    letters = int((RIGHT - 24) / 5.2)
    options = AS_IT_IS | {"va": "center"}
    for number, row in enumerate(shown.rows):
        y = number + 0.5
        if row.start is not None:
            text = f"{row.start:x}"
            axes.text(-1, y, text, ha="right", color=PALE, fontsize=TINY, family="monospace",
                      **options)  # fmt: skip
        text = lettering.fitted(_name(row), f"  {human(int(row.most))}", letters)
        axes.text(columns + 1.5, y, text, color=INK, fontsize=SMALL - 0.5, **options)


def _name(row: Row) -> str:
    return name_of(row.path) if row.start is not None else f"{row.mappings:,} other mappings"


def _times(axes: Axes, shown: Timeline, history: History, columns: int, rows: float) -> None:
    """Write the time of day below the cells, UTC."""
    for tick in range(TICKS + 1):
        x = columns * tick / TICKS
        when = shown.begin + (float(shown.ends[-1]) - shown.begin) * tick / TICKS
        text = time.strftime("%H:%M:%S", time.gmtime(when + history.set_clock))
        axes.plot([x, x], [rows + 0.1, rows + 0.4], color=PALE, linewidth=0.6, clip_on=False)
        axes.text(x, rows + 0.9, text, ha="center", va="center", color=PALE, fontsize=TINY)


def _title(figure: Figure, shown: Timeline, history: History, mappings: int, height: float) -> None:
    whose = history.whose
    name = printable(history.name[: lettering.MAX_NAME])
    host = f" of {printable(whose.host[: lettering.MAX_NAME])}" if whose.host else ""
    seconds = float(shown.ends[-1]) - shown.begin
    first, last = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when + history.set_clock))
        for when in (shown.begin, float(shown.ends[-1]))
    )
    step = f"a cell is {seconds / len(shown.ends):.3g} s"
    lines = (
        f"{mappings:,} {plural(mappings, 'mapping')}, in the order of their addresses; what was "
        f"never touched is not drawn    {first} to {last} UTC    Linux {history.kernel}",
        f"{step}, coloured by what most of it was at its end, as high as the part that was "
        f"touched; right: the most that ever was",
    )
    lettering.head(figure, f"{name}  process {whose.pid}{host}", lines, height)


def _legends(
    figure: Figure, shown: Timeline, scheme: palette.Scheme, width: int, height: float
) -> None:
    """Draw the states that occur, with the bytes of each at the end, and below them the marks."""
    amounts = np.sum([row.amounts for row in shown.rows], axis=0)
    occurs = np.flatnonzero(amounts.any(axis=0)).tolist()
    sums = {index: int(amounts[-1, index]) for index in occurs}
    lettering.legend(figure, sums, scheme, width, height)
    found = [what for what in MARKS if any(row.changed[what].any() for row in shown.rows)]
    if not found:
        return
    axes = add_axes(figure, (LEFT / width, 8 / height, 1 - LEFT / width, 14 / height), width, 1)
    x = 6.0
    for what in found:
        marker, text = MARKS[what]
        axes.scatter([x], [0.5], s=14, c=INK, marker=marker, linewidths=0.8)
        axes.text(x + 10, 0.5, text, va="center", fontsize=SMALL, color=INK)
        x += 26 + 6.1 * len(text)
    text = "(at least 1 % of the row, from one reading to the next; sizes above: at the end)"
    axes.text(x, 0.5, text, va="center", fontsize=SMALL, color=PALE)
