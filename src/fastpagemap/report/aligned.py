"""Small tables of their own columns: right-aligned, and the last column as long as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from fastpagemap.report.text import beginning, human, printable

__all__ = ["aligned", "size"]

#: Columns of a terminal that the last cells get, if they need them, before others are left out.
_MIN_LAST = 12


def size(value: int | None) -> str:
    """Return a size as tables show it; ``-`` where it is not known."""
    return "-" if value is None else human(value)


def aligned(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    cut: Callable[[str, int], str] = beginning,
) -> Iterator[str]:
    """Yield a header and a line for each row. Only the last cell may hold a space, or be hostile.

    So awk can split a line. `width`: of a terminal, to which the last cells are cut by `cut`; None
    in a pipe. Where that is too narrow, the columns before the last are left out, and named below.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    shown = len(widths) - 1
    if width is not None:
        need = min(widths[-1], _MIN_LAST)
        while shown > 1 and sum(widths[:shown]) + 2 * shown + need > width:
            shown -= 1
    last_width = None if width is None else width - sum(widths[:shown]) - 2 * shown
    for row in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[:shown], widths, strict=False)]
        last = printable(row[-1]) if last_width is None else cut(row[-1], last_width)
        line = "  ".join([*cells, last]).rstrip()
        yield line if width is None else beginning(line, width)
    if width is not None and heads[shown:-1]:
        left_out = f"No room here, but in a pipe, for: {', '.join(heads[shown:-1])}."
        yield from textwrap.wrap(left_out, width)
