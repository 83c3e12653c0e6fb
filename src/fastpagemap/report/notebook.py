"""HTML for notebooks, with the same rows and sizes as the tables on a terminal."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastpagemap.engine.pages import Masks
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.errors import UnsupportedError
from fastpagemap.model.mapping import Mapping
from fastpagemap.report import report as reports
from fastpagemap.report.report import About, Report, Usage, rows
from fastpagemap.report.tables import counted, title
from fastpagemap.report.text import human, printable
from fastpagemap.snapshot.snapshot import Snapshot

#: Rows of a table. The mappings with the most present bytes are shown.
MAX_ROWS = 20
#: Characters of a cell. Of a longer path, only the end is shown.
MAX_CHARS = 1000


def of_usage(pid: int, name: str, mappings: Sequence[Mapping], usage: Usage) -> str:
    """Return the usage of a process that was just read, as a table."""
    return _of_report(reports.of_mappings(About.now(pid, name), mappings, usage))


def of_snapshot(snapshot: Snapshot) -> str:
    """Return the usage in a snapshot, as a table."""
    return _of_report(reports.of_snapshot(snapshot))


def of_masks(masks: Masks) -> str:
    """Return how many pages are in each mask, as a table."""
    counts = {}
    for name in ("swapped", "shared", "unknown", "soft_dirty"):
        with contextlib.suppress(UnsupportedError):  # many kernels have no soft-dirty bits
            counts[name] = int(np.count_nonzero(getattr(masks, name)))
    head = f"{len(masks):,} pages, {masks.start:#x}-{masks.end:#x}"
    cells = [[name, f"{n:,}", human(n * PAGE_SIZE)] for name, n in counts.items()]
    return _table(head, ["mask", "pages", "bytes"], cells)


def _of_report(report: Report) -> str:
    order = np.argsort(~report.usage["present"], kind="stable")[:MAX_ROWS]
    some = report.take(order)
    names = ("start", "permissions", *report.columns, "path")
    cells = [_cells(names, row) for row in rows(some, names)]
    left = len(report) - len(some)
    if left:
        cells.append(["", "", *[""] * len(report.columns), f"and {left} smaller ones"])
    totals = [human(report.total(name)) for name in report.columns]
    cells.append(["total", "", *totals, counted(report)])
    return _table(title(report), names, cells)


def _cells(names: Sequence[str], row: Sequence[Any]) -> list[str]:
    return [
        f"{value:x}" if name == "start" else human(value) if isinstance(value, int) else value
        for name, value in zip(names, row, strict=True)
    ]


def _table(head: str, names: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    def row(tag: str, cells: Iterable[str]) -> str:
        inner = "".join(f"<{tag}>{html.escape(_short(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(row("td", cells) for cells in lines)
    caption = f"<caption>{html.escape(_short(head))}</caption>"
    return f"<table>{caption}<thead>{row('th', names)}</thead><tbody>{body}</tbody></table>"


def _short(cell: str) -> str:
    return printable(cell if len(cell) <= MAX_CHARS else f"…{cell[-MAX_CHARS:]}")
