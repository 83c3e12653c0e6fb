"""The address space of a process as a picture, drawn with matplotlib."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from fastpagemap.model.mapping import KERNEL_HALF, Mapping, listed
from fastpagemap.report import lettering, palette
from fastpagemap.report.layout import Layout, lay_out
from fastpagemap.report.lettering import BOTTOM, DPI, LEFT, PALE, RIGHT, TINY, TOP
from fastpagemap.report.text import human
from fastpagemap.snapshot.snapshot import Snapshot

#: Width of a picture in pixels, and the smallest width in which the labels fit.
WIDTH, MIN_WIDTH = 1200, 640
CELL = (6.0, 11.0)  # width and height in pixels
BLOCK_GAP = 0.5  # in rows
MAX_ROWS = 64

#: Runs whose ``state`` is a word that the scheme knows.
Coloured = tuple[npt.NDArray[np.void], palette.Scheme]


class Picture(Figure):
    """A figure that a notebook shows. It is not registered with pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        write(self, buffer, "png")
        return buffer.getvalue()


def draw(
    snapshot: Snapshot,
    mappings: Iterable[Mapping] | None = None,
    *,
    width: int = WIDTH,
    soft_dirty: bool = False,
    coloured: Coloured | None = None,
) -> Picture:
    """Draw a snapshot, or some of its mappings, `width` pixels wide.

    Coloured by the states of its pages, or by other runs.

    Returns
    -------
    Picture
        Not registered with pyplot, so it need not be closed.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns about caches and fonts
    chosen = snapshot.mappings if mappings is None else sorted(listed(mappings))
    width = max(width, MIN_WIDTH)
    runs, scheme = coloured or (snapshot.states, palette.by_state(soft_dirty=soft_dirty))
    runs = _within(runs, chosen)
    layout = lay_out(
        chosen,
        runs,
        page_size=snapshot.page_size,
        columns=int((width - LEFT - RIGHT) / CELL[0]),
        max_rows=MAX_ROWS,
        scheme=scheme,
    )
    tops = _tops(layout)
    inside = (max(tops[-1] + 1, 3) if len(tops) else 3) * CELL[1]
    legend = _sums(chosen, runs, scheme)
    height = TOP + inside + BOTTOM
    figure = Picture(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (LEFT / width, BOTTOM / height, layout.columns * CELL[0] / width, inside / height)
    axes = add_axes(figure, box, layout.columns, inside / CELL[1])
    cells(axes, layout, tops, scheme)
    lettering.labels(axes, layout, tops, runs, scheme)
    lettering.title(figure, snapshot, chosen, layout, legend, height)
    lettering.legend(figure, legend, scheme, width, height)
    return figure


def add_axes(
    figure: Figure, box: tuple[float, float, float, float], columns: int, rows: float
) -> Axes:
    """Add axes whose coordinates are columns and rows of cells, the first row at the top."""
    axes = figure.add_axes(box)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_axis_off()
    return axes


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Draw and write as matplotlib does by default, whatever the user's matplotlibrc says.

    It may ask for TeX, another resolution or other margins: a picture would not be made, or not be
    as wide as it is to be.
    """
    defaults = matplotlib.rcParamsDefault.items()
    style = {name: value for name, value in defaults if not name.startswith("backend")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some settings are deprecated
        with matplotlib.rc_context(style):
            yield


def write(figure: Figure, file: IO[bytes], kind: str) -> None:
    """Write a figure as png, svg or pdf; the same figure gives the same bytes."""
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "fastpagemap"}):
        warnings.simplefilter("ignore")  # the font may lack a letter
        when = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}[kind]
        figure.savefig(file, format=kind, metadata={when: None})


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
    mappings: Sequence[Mapping], runs: npt.NDArray[np.void], scheme: palette.Scheme
) -> dict[int, int]:
    """Return the bytes of each display state that occurs."""
    shown = scheme.display(runs["state"])
    lengths = runs["end"] - runs["start"]
    sums = {int(index): int(lengths[shown == index].sum()) for index in np.unique(shown)}
    sums.pop(scheme.untouched, None)
    whole = sum(mapping.end - mapping.start for mapping in mappings if mapping.start < KERNEL_HALF)
    if whole > sum(sums.values()):
        sums[scheme.untouched] = whole - sum(sums.values())
    return dict(sorted(sums.items()))


def _tops(layout: Layout) -> npt.NDArray[np.float64]:
    """Return where each row begins, in rows, with the gaps between blocks."""
    tops = np.arange(layout.rows, dtype=float)
    for block in layout.blocks[1:]:
        tops[block.row :] += BLOCK_GAP
    return tops


# ---- cells -------------------------------------------------------------------------------------


def cells(
    axes: Axes, layout: Layout, tops: npt.NDArray[np.float64], scheme: palette.Scheme
) -> None:
    """Draw every cell: its touched part in colour from the bottom up, the rest pale."""
    parts = [part for part in layout.parts if not part.cut]
    widths = [part.width for part in parts]
    # the position of each cell in its part
    inner = np.arange(sum(widths)) - np.repeat(np.cumsum([0, *widths])[:-1], widths)
    index = inner + np.repeat(np.array([part.first for part in parts], np.intp), widths)
    x = inner + np.repeat(np.array([part.column for part in parts], np.intp), widths)
    y = tops[np.repeat(np.array([part.row for part in parts], np.intp), widths)]
    shown = layout.shown[index]
    filled = 1 - layout.table[index, scheme.untouched] / layout.cell
    share = np.ceil(np.clip(filled, 0.01, 1) * 4 - 0.01) / 4  # in quarters, at least one
    for number, state in enumerate(scheme.states):
        mine = shown == number
        if number == scheme.untouched:
            mine = mine | (share < 1)
            _rectangles(axes, x[mine], y[mine], np.ones(mine.sum()), state.colour)
    for number, state in enumerate(scheme.states):
        mine = shown == number
        if number != scheme.untouched:
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
