"""Small tables of their own columns: right-aligned, and the last column as long as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fastpagemap.report.text import beginning, human, printable

__all__ = ["aligned", "size"]


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
    in a pipe.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)][:-1]
    last_width = None if width is None else width - sum(widths) - 2 * len(widths)
    for row in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        last = printable(row[-1]) if last_width is None else cut(row[-1], last_width)
        line = "  ".join([*cells, last]).rstrip()
        yield line if width is None else beginning(line, width)
