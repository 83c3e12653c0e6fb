"""Small tables of their own columns: right-aligned, and the last column as long as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastpagemap.report.text import human, printable

__all__ = ["aligned", "size"]


def size(value: int | None) -> str:
    """Return a size as tables show it; ``-`` where it is not known."""
    return "-" if value is None else human(value)


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a header and a line for each row. Only the last cell may hold a space, or be hostile.

    So awk can split a line.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        yield "  ".join([*cells, printable(row[-1])]).rstrip()
