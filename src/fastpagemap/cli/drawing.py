"""Choose how a report is printed: as asked for, or as standard output needs it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from fastpagemap.report.report import About, Report


def terminal_width() -> int | None:
    """Return how many columns standard output has, if it is a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def lines(report: Report, form: str | None) -> Iterator[str]:
    """Yield a report as JSON or CSV if `form` says so, else as a table."""
    if form:
        from fastpagemap.report import formats

        yield from {"json": formats.json_lines, "csv": formats.csv_lines}[form](report)
        return
    from fastpagemap.report import tables

    if terminal_width() is not None:
        yield from tables.for_terminal(report)
    else:
        yield from tables.plain(report)


def first_line(text: str, about: About) -> Iterator[str]:
    """Yield the line that begins what is no report: for a pipe, of what it is, and when."""
    if terminal_width() is None:
        from fastpagemap.report import tables

        yield f"# {tables.dated(text, about)}"
