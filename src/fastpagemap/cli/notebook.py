"""How things are shown in a notebook: HTML, of the same reports and sizes as in a terminal."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastpagemap import PAGE_SIZE, Masks, PageMap, Snapshot, UnsupportedError
from fastpagemap.cli import report as reports
from fastpagemap.cli.report import Report, collect, rows
from fastpagemap.cli.tables import counted, title
from fastpagemap.cli.text import human, printable

#: Rows of a table; the largest are shown.
MOST = 20


def of_pagemap(pagemap: PageMap) -> str:
    """Return the usage of a process, as it is now."""
    return _of_report(collect(pagemap.pid))


def of_snapshot(snapshot: Snapshot) -> str:
    """Return the usage of a process, as it was."""
    return _of_report(reports.of_snapshot(snapshot))


def of_masks(masks: Masks) -> str:
    """Return how many pages are in each mask."""
    counts = {}
    for name in ("swapped", "shared", "unknown", "soft_dirty"):
        with contextlib.suppress(UnsupportedError):  # soft-dirty, on many a kernel
            counts[name] = int(np.count_nonzero(getattr(masks, name)))
    head = f"{len(masks):,} pages, {masks.start:#x}-{masks.end:#x}"
    cells = [[name, f"{n:,}", human(n * PAGE_SIZE)] for name, n in counts.items()]
    return _table(head, ["mask", "pages", "bytes"], cells)


def _of_report(report: Report) -> str:
    order = np.argsort(~report.usage["present"], kind="stable")[:MOST]
    some = report.taken(order)
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
        inner = "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(row("td", cells) for cells in lines)
    caption = f"<caption>{html.escape(printable(head))}</caption>"
    return f"<table>{caption}<thead>{row('th', names)}</thead><tbody>{body}</tbody></table>"
