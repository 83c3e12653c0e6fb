"""Which way a report is shown: as asked for, or as suits where it goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fastpagemap.report.report import Report


def lines(report: Report, form: str | None) -> Iterator[str]:
    """Yield a report as JSON or CSV, or as a table for the terminal, or for a pipe."""
    if form:
        from fastpagemap.report import formats

        yield from {"json": formats.json_lines, "csv": formats.csv_lines}[form](report)
        return
    from fastpagemap.report import tables

    if sys.stdout is not None and sys.stdout.isatty():
        yield from tables.for_terminal(report)
    else:
        yield from tables.plain(report)
