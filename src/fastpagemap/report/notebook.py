"""HTML for notebooks, with the same rows and sizes as the tables on a terminal."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastpagemap.engine.pages import Masks, Pages
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.errors import UnsupportedError
from fastpagemap.model.mapping import Mapping
from fastpagemap.report import report as reports
from fastpagemap.report.report import About, Report, Usage, rows
from fastpagemap.report.tables import changes, counted, title
from fastpagemap.report.text import ANON, human, printable
from fastpagemap.snapshot.diff import Diff
from fastpagemap.snapshot.snapshot import Snapshot

#: Rows of a table. The mappings with the most present bytes, or the most changed ones, are shown.
MAX_ROWS = 20
#: Characters of a cell. Of a longer path, only the end is shown.
MAX_CHARS = 1000
# What a cell is like whose text may be long: it breaks anywhere, and its column stays narrow.
_TEXT_STYLE = "text-align: left; max-width: 32em; overflow-wrap: anywhere"


def of_usage(pid: int, name: str, mappings: Sequence[Mapping], usage: Usage) -> str:
    """Return the usage of a process that was just read, as a table."""
    return _of_report(reports.of_mappings(About.now(pid, name), mappings, usage))


def of_snapshot(snapshot: Snapshot) -> str:
    """Return the usage in a snapshot, as a table."""
    return _of_report(reports.of_snapshot(snapshot))


def of_diff(diff: Diff[Snapshot]) -> str:
    """Return what changed by mapping, as a table."""
    return _of_report(reports.of_diff(diff))


def of_capabilities(described: dict[str, str]) -> str:
    """Return what can be asked, and what each missing capability needs, as a table."""
    return _table("what this kernel and this user can answer", ["", ""], described.items())


def of_masks(masks: Masks | Pages) -> str:
    """Return how many pages are in each mask, as a table."""
    counts = {}
    for name in ("present", "swapped", "shared", "exclusive", "unknown", "soft_dirty"):
        with contextlib.suppress(UnsupportedError):  # many kernels have no soft-dirty bits
            if hasattr(masks, name):
                counts[name] = int(np.count_nonzero(getattr(masks, name)))
    head = f"{len(masks):,} pages, {masks.start:#x}-{masks.end:#x}"
    cells = [[f"{n:,}", human(n * PAGE_SIZE), name] for name, n in counts.items()]
    return _table(head, ["pages", "bytes", "mask"], cells)


def _of_report(report: Report) -> str:
    order = np.argsort(~_weights(report), kind="stable")[:MAX_ROWS]
    some = report.take(order)
    totals = {name: report.total(name) for name in report.columns}
    columns = [name for name in report.columns if totals[name]]
    names = ("start", "permissions", *columns, "path")
    cells = [_cells(names, row) for row in rows(some, names)]
    left = len(report) - len(some)
    if left:
        cells.append(["", "", *[""] * len(columns), f"and {left} smaller ones"])
    cells.append(["total", "", *(human(totals[name]) for name in columns), counted(report)])
    return _table(title(report), names, cells, [*changes(report), *_zeros(report, totals)])


def _zeros(report: Report, totals: dict[str, int]) -> Iterator[str]:
    """Yield what is said of the columns that are left out."""
    zero = [name for name in report.columns if not totals[name]]
    if not len(report):
        yield "No page changed." if "unmapped" in report.more else "Nothing is mapped."
    elif zero:
        yield f"0 everywhere: {', '.join(zero)}."


def _weights(report: Report) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return a number for each row: the larger it is, the sooner it is to be shown."""
    names = ["present"] if "present" in report.columns else report.columns[1:]
    weights = np.zeros(len(report), np.uint64)
    for name in names:
        weights += report.usage[name]
    return weights


def _cells(names: Sequence[str], row: Sequence[Any]) -> list[str]:
    return [
        f"{value:x}"
        if name == "start"
        else human(value)
        if isinstance(value, int)
        else value or ANON
        for name, value in zip(names, row, strict=True)
    ]


def _table(
    head: str, names: Iterable[str], lines: Iterable[Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """Return a table whose last column has the long texts."""

    def row(tag: str, cells: Iterable[str]) -> str:
        *first, last = (html.escape(_short(cell)) for cell in cells)
        inner = "".join(f"<{tag}>{cell}</{tag}>" for cell in first)
        return f'<tr>{inner}<{tag} style="{_TEXT_STYLE}">{last}</{tag}></tr>'

    body = "".join(row("td", cells) for cells in lines)
    caption = "<br>".join(html.escape(_short(line)) for line in (head, *notes))
    return (
        f"<table><caption>{caption}</caption><thead>{row('th', names)}</thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _short(cell: str) -> str:
    return printable(cell if len(cell) <= MAX_CHARS else f"…{cell[-MAX_CHARS:]}")
