"""Choose how a report is printed: as asked for, or as standard output needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fastpagemap.report.report import Report


def lines(report: Report, form: str | None) -> Iterator[str]:
    """Yield a report as JSON or CSV if `form` says so, else as a table."""
    if form:
        from fastpagemap.report import formats

        yield from {"json": formats.json_lines, "csv": formats.csv_lines}[form](report)
        return
    from fastpagemap.report import tables

    if sys.stdout is not None and sys.stdout.isatty():
        yield from tables.for_terminal(report)
    else:
        yield from tables.plain(report)
