"""The text in a picture of the address space: names, sizes, a title, a legend."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fastpagemap.model.mapping import Mapping
from fastpagemap.report import palette
from fastpagemap.report.layout import Block, Layout
from fastpagemap.report.spans import Span
from fastpagemap.report.text import human, name_of, plural, printable
from fastpagemap.snapshot.snapshot import Snapshot

#: Pixels per inch.
DPI = 100
LEFT, RIGHT, TOP, BOTTOM = 104, 280, 84, 62  # pixels around the cells
INK, PALE = "#1a1a1a", "#6e6e6e"
SMALL, TINY = 8.0, 6.5
MAX_NAME = 64  # characters of the name of a process
#: Names are neither formulas ($) nor, whatever matplotlibrc says, programs for TeX.
AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False}


def labels(
    axes: Axes,
    layout: Layout,
    tops: npt.NDArray[np.float64],
    runs: npt.NDArray[np.void],
    scheme: palette.Scheme,
) -> None:
    """Write the address left of each block, and its names and states right of it."""
    letters = int((RIGHT - 24) / 5.2)
    for block in layout.blocks:
        y = tops[block.row] + 0.5
        start = f"{block.spans[0].start:x}"
        axes.text(
            -1, y, start, ha="right", va="center", color=PALE, fontsize=TINY, family="monospace"
        )
        lines = [_names(block, letters), *_details(block, runs, scheme, letters)]
        for number, text in enumerate(lines[: block.rows]):
            axes.text(
                layout.columns + 1.5,
                y + number,
                text,
                va="center",
                color=PALE if number else INK,
                fontsize=TINY + 0.5 if number else SMALL - 0.5,
                **AS_IT_IS,
            )


def _names(block: Block, letters: int) -> str:
    """Return the names in a block, the largest span first, in at most so many letters."""
    spans = sorted(block.spans, key=lambda span: -span.size)
    if len(spans) == 1:
        return fitted(name_of(spans[0].path), f"  {_size(spans[0])}", letters)
    size = human(sum(span.size for span in spans))
    names = list(dict.fromkeys(name_of(span.path) for span in spans))
    said = ""
    for number, name in enumerate(names):
        rest = f" +{len(names) - number - 1}" if number + 1 < len(names) else ""
        longer = f"{said}, {name}" if said else name
        if len(longer) + len(rest) + len(size) + 2 > letters:
            if not said:
                return fitted(name, f"{rest}  {size}", letters)
            return f"{said} +{len(names) - number}  {size}"
        said = longer
    return f"{said}  {size}"


def _size(span: Span) -> str:
    several = f" in {span.mappings} mappings" if span.mappings > 9 else ""
    return human(span.size) + several


def fitted(name: str, rest: str, letters: int) -> str:
    """Return a name, cut so that it and the rest have so many letters."""
    space = max(letters - len(rest), 4)
    return (name if len(name) <= space else name[: space - 1] + "…") + rest


def _details(
    block: Block, runs: npt.NDArray[np.void], scheme: palette.Scheme, letters: int
) -> Iterator[str]:
    """Yield lines with the bytes of each state in a block."""
    if block.rows < 2:
        return
    low, high = np.uint64(block.spans[0].start), np.uint64(block.spans[-1].end)
    mine = runs[slice(*np.searchsorted(runs["start"], (low, high)))]
    shown = scheme.display(mine["state"])
    lengths = mine["end"] - mine["start"]
    said = ""
    for index in np.unique(shown).tolist():
        if index == scheme.untouched:
            continue
        text = f"{scheme.states[index].label} {human(int(lengths[shown == index].sum()))}"
        longer = f"{said} · {text}" if said else text
        if len(longer) > letters * 1.12:
            yield said
            longer = text
        said = longer
    if said:
        yield said


def title(
    figure: Figure,
    snapshot: Snapshot,
    mappings: Sequence[Mapping],
    layout: Layout,
    sums: dict[int, int],
    height: float,
) -> None:
    """Write whose memory the picture shows, when it was read, and what a cell is."""
    name = printable(snapshot.name[:MAX_NAME])
    whose = f"{name}  process {snapshot.pid}" if snapshot.pid else "entries"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time))
    pages = layout.cell // snapshot.page_size
    each = "one page" if pages == 1 else f"{pages:,} pages"
    count = len(mappings)
    lines = (
        f"{human(sum(sums.values()))} in {count:,} {plural(count, 'mapping')}, in the "
        f"order of their addresses; what is not mapped is not drawn",
        f"a cell is {each}, {human(layout.cell)}, coloured as far as it was touched    "
        f"{at}    Linux {snapshot.kernel}",
    )
    head(figure, whose, lines, height)


def head(figure: Figure, title: str, lines: Sequence[str], height: float) -> None:
    """Write a title and the lines below it, at the top of a picture."""
    left = LEFT / figure.get_figwidth() / DPI
    options = AS_IT_IS | {"va": "center"}
    figure.text(left, 1 - 24 / height, title, fontsize=13, fontweight="bold", color=INK, **options)
    for number, line in enumerate(lines):
        y = 1 - (46 + 15 * number) / height
        figure.text(left, y, line, fontsize=SMALL, color=PALE, **options)


def legend(
    figure: Figure, sums: dict[int, int], scheme: palette.Scheme, width: int, height: float
) -> None:
    """Draw the states that occur, with the bytes of each."""
    x, y = float(LEFT), 34.0
    for index, size in sums.items():
        state = scheme.states[index]
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
