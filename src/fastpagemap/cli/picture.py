"""The address space of a process as a picture, drawn with matplotlib."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastpagemap import Mapping, Snapshot
from fastpagemap.cli import palette
from fastpagemap.cli.layout import Block, Layout, Span, lay_out
from fastpagemap.cli.tables import human, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a picture, in pixels, and the least that has room for its labels.
WIDTH, NARROWEST = 1200, 640
DPI = 100
CELL = (6.0, 11.0)  # pixels of a cell, and of a row
LEFT, RIGHT, TOP, BOTTOM = 104, 280, 84, 62  # pixels around the cells
BETWEEN = 0.5  # rows between blocks
MOST_ROWS = 64
INK, PALE = "#1a1a1a", "#6e6e6e"
SMALL, TINY = 8.0, 6.5


def draw(
    snapshot: Snapshot,
    mappings: Sequence[Mapping] | None = None,
    *,
    width: int = WIDTH,
    soft_dirty: bool = False,
) -> Figure:
    """Draw a snapshot, or some of its mappings.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot, so that nothing has to be closed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # about caches and fonts
    chosen = snapshot.mappings if mappings is None else list(mappings)
    runs = _within(snapshot.states, chosen)
    layout = lay_out(
        chosen,
        runs,
        page_size=snapshot.page_size,
        columns=int((width - LEFT - RIGHT) / CELL[0]),
        most_rows=MOST_ROWS,
        soft_dirty=soft_dirty,
    )
    tops = _tops(layout)
    inside = (max(tops[-1] + 1, 3) if len(tops) else 3) * CELL[1]
    legend = _sums(chosen, runs, soft_dirty)
    height = TOP + inside + BOTTOM
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (LEFT / width, BOTTOM / height, layout.columns * CELL[0] / width, inside / height)
    axes = figure.add_axes(box)
    axes.set_xlim(0, layout.columns)
    axes.set_ylim(inside / CELL[1], 0)
    axes.set_axis_off()
    _cells(axes, layout, tops)
    _labels(axes, layout, tops, runs, soft_dirty)
    _title(figure, snapshot, chosen, layout, legend, height)
    _legend(figure, legend, width, height)
    return figure


def save(figure: Figure, path: str) -> None:
    """Write a figure as its name's ending says, wholly or not at all."""
    from fastpagemap.cli.output import replacing

    kind = os.path.splitext(path)[1][1:].lower()
    with replacing(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font has not
        metadata = {"Software": None} if kind == "png" else {"Date": None}
        figure.savefig(file, format=kind, metadata=metadata)


def _within(runs: npt.NDArray[np.void], mappings: Sequence[Mapping]) -> npt.NDArray[np.void]:
    """Return the runs of some mappings."""
    bounds = np.array([(m.start, m.end) for m in mappings], np.uint64).reshape(-1, 2)
    if not len(bounds):
        return runs[:0]
    at = np.searchsorted(bounds[:, 0], runs["start"], "right") - 1
    inside: npt.NDArray[np.bool_] = runs["start"] < bounds[np.maximum(at, 0), 1]
    found: npt.NDArray[np.void] = runs[(at >= 0) & inside]
    return found


def _sums(
    mappings: Sequence[Mapping], runs: npt.NDArray[np.void], soft_dirty: bool
) -> dict[int, int]:
    """Return the bytes of each display state there is."""
    shown = palette.display(runs["state"], soft_dirty=soft_dirty)
    lengths = runs["end"] - runs["start"]
    sums = {int(index): int(lengths[shown == index].sum()) for index in np.unique(shown)}
    sums.pop(palette.UNTOUCHED, None)
    whole = sum(mapping.end - mapping.start for mapping in mappings if mapping.start < 1 << 63)
    if whole > sum(sums.values()):
        sums[palette.UNTOUCHED] = whole - sum(sums.values())
    return dict(sorted(sums.items()))


def _tops(layout: Layout) -> npt.NDArray[np.float64]:
    """Return where each row begins: its number, and the room between the blocks before it."""
    tops = np.arange(layout.rows, dtype=float)
    for block in layout.blocks[1:]:
        tops[block.row :] += BETWEEN
    return tops


# ---- cells -------------------------------------------------------------------------------------


def _cells(axes: Axes, layout: Layout, tops: npt.NDArray[np.float64]) -> None:
    """Draw every cell: pale as far as nothing was touched in it, from the bottom up in colour."""
    parts = [part for part in layout.parts if not part.cut]
    widths = [part.width for part in parts]
    # where in its part each cell is
    inner = np.arange(sum(widths)) - np.repeat(np.cumsum([0, *widths])[:-1], widths)
    index = inner + np.repeat(np.array([part.first for part in parts], np.intp), widths)
    x = inner + np.repeat(np.array([part.column for part in parts], np.intp), widths)
    y = tops[np.repeat(np.array([part.row for part in parts], np.intp), widths)]
    shown = layout.shown[index]
    filled = 1 - layout.table[index, palette.UNTOUCHED] / layout.cell
    share = np.ceil(np.clip(filled, 0.01, 1) * 4 - 0.01) / 4  # in quarters, and never nothing
    for number, state in enumerate(palette.STATES):
        mine = shown == number
        if number == palette.UNTOUCHED:
            mine = mine | (share < 1)
            _rectangles(axes, x[mine], y[mine], np.ones(mine.sum()), state.colour)
    for number, state in enumerate(palette.STATES):
        mine = shown == number
        if number != palette.UNTOUCHED:
            _rectangles(axes, x[mine], y[mine], share[mine], state.colour)
    for part in layout.parts:
        if part.cut:
            text = f"·· {human(part.cut)} ··"
            middle = part.column + part.width / 2, tops[part.row] + 0.5
            axes.text(*middle, text, ha="center", va="center", color=PALE, fontsize=TINY - 0.5)


def _rectangles(
    axes: Axes,
    x: npt.NDArray[np.intp],
    y: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    colour: str,
) -> None:
    """Draw cells of one colour as one path, each as high as its share."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not len(x):
        return
    left, right, bottom = x + 0.06, x + 0.94, y + 0.94
    top = bottom - 0.88 * share
    corners = np.stack(
        [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)], axis=0
    )
    vertices = corners.transpose(2, 0, 1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(x)).astype(np.uint8)
    patch = PathPatch(Path(vertices, codes), facecolor=colour, linewidth=0)
    axes.add_patch(patch)


# ---- text --------------------------------------------------------------------------------------


def _labels(
    axes: Axes,
    layout: Layout,
    tops: npt.NDArray[np.float64],
    runs: npt.NDArray[np.void],
    soft_dirty: bool,
) -> None:
    room = int((RIGHT - 24) / 5.2)  # letters
    for block in layout.blocks:
        y = tops[block.row] + 0.5
        start = f"{block.spans[0].start:x}"
        axes.text(
            -1, y, start, ha="right", va="center", color=PALE, fontsize=TINY, family="monospace"
        )
        lines = [_names(block, room), *_details(block, runs, soft_dirty, room)]
        for number, text in enumerate(lines[: block.rows]):
            axes.text(
                layout.columns + 1.5,
                y + number,
                text,
                va="center",
                color=PALE if number else INK,
                fontsize=TINY + 0.5 if number else SMALL - 0.5,
                parse_math=False,
            )


def _names(block: Block, room: int) -> str:
    """Name what is in a block, the largest first, as far as there is room."""
    spans = sorted(block.spans, key=lambda span: -span.size)
    if len(spans) == 1:
        return _fitted(name_of(spans[0].path), f"  {_size(spans[0])}", room)
    size = human(sum(span.size for span in spans))
    names = list(dict.fromkeys(name_of(span.path) for span in spans))
    said = ""
    for number, name in enumerate(names):
        rest = f" +{len(names) - number - 1}" if number + 1 < len(names) else ""
        longer = f"{said}, {name}" if said else name
        if len(longer) + len(rest) + len(size) + 2 > room:
            if not said:
                return _fitted(name, f"{rest}  {size}", room)
            return f"{said} +{len(names) - number}  {size}"
        said = longer
    return f"{said}  {size}"


def _size(span: Span) -> str:
    several = f" in {span.mappings} mappings" if span.mappings > 9 else ""
    return human(span.size) + several


def name_of(path: str) -> str:
    """Return how a mapping is called in a picture: the file's own name."""
    if not path:
        return "anonymous"
    if path.startswith("["):
        return printable(path)
    if path == "/dev/zero (deleted)":
        return "shared memory"
    return printable(path.removesuffix(" (deleted)").rpartition("/")[2] or path)


def _fitted(name: str, rest: str, room: int) -> str:
    space = max(room - len(rest), 4)
    return (name if len(name) <= space else name[: space - 1] + "…") + rest


def _details(
    block: Block, runs: npt.NDArray[np.void], soft_dirty: bool, room: int
) -> Iterator[str]:
    """Yield what is in a block, a line for each state."""
    if block.rows < 2:
        return
    low, high = np.uint64(block.spans[0].start), np.uint64(block.spans[-1].end)
    mine = runs[slice(*np.searchsorted(runs["start"], (low, high)))]
    shown = palette.display(mine["state"], soft_dirty=soft_dirty)
    lengths = mine["end"] - mine["start"]
    said = ""
    for index in np.unique(shown).tolist():
        if index == palette.UNTOUCHED:
            continue
        text = f"{palette.STATES[index].label} {human(int(lengths[shown == index].sum()))}"
        longer = f"{said} · {text}" if said else text
        if len(longer) > room * 1.12:
            yield said
            longer = text
        said = longer
    if said:
        yield said


def _title(
    figure: Figure,
    snapshot: Snapshot,
    mappings: Sequence[Mapping],
    layout: Layout,
    sums: dict[int, int],
    height: float,
) -> None:
    whose = f"{printable(snapshot.name)}  process {snapshot.pid}" if snapshot.pid else "entries"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time))
    pages = layout.cell // snapshot.page_size
    each = "one page" if pages == 1 else f"{pages:,} pages"
    count = len(mappings)
    lines = (
        f"{human(sum(sums.values()))} in {count:,} mapping{'' if count == 1 else 's'}, in the "
        f"order of their addresses; what is not mapped is not drawn",
        f"a cell is {each}, {human(layout.cell)}, coloured as far as it was touched    "
        f"{at}    Linux {snapshot.kernel}",
    )
    left = LEFT / figure.get_figwidth() / DPI
    options: dict[str, Any] = {"parse_math": False, "va": "center"}
    figure.text(left, 1 - 24 / height, whose, fontsize=13, fontweight="bold", color=INK, **options)
    for number, line in enumerate(lines):
        y = 1 - (46 + 15 * number) / height
        figure.text(left, y, line, fontsize=SMALL, color=PALE, **options)


def _legend(figure: Figure, sums: dict[int, int], width: int, height: float) -> None:
    """Draw the states there are, with how much there is of each."""
    from matplotlib.patches import Rectangle

    x, y = float(LEFT), 34.0
    for index, size in sums.items():
        state = palette.STATES[index]
        text = f"{state.label}  {human(size)}"
        needed = 18 + 6.1 * len(text) + 14
        if x + needed > width - 10 and x > LEFT:
            x, y = float(LEFT), y - 18
        figure.add_artist(
            Rectangle(
                (x / width, y / height),
                12 / width,
                12 / height,
                facecolor=state.colour,
                edgecolor="#b0b0b0",
                linewidth=0.5,
                transform=figure.transFigure,
            )
        )
        figure.text(
            (x + 18) / width, (y + 6) / height, text, va="center", fontsize=SMALL, color=INK
        )
        x += needed
