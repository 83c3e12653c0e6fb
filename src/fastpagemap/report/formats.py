"""Reports for other programs: JSON and CSV, in bytes.

Other users choose paths and names. JSON holds any: bytes that are not UTF-8 are lone surrogates
(Python's surrogateescape: ``os.fsencode`` restores them). CSV is read by people, on terminals and
in spreadsheets: what is escaped in a table is escaped in it, and a name that a spreadsheet would
calculate begins with an apostrophe.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fastpagemap.report.report import LABELS, About, Report, rows
from fastpagemap.report.text import printable

#: The version of the object that ``--json`` prints. It grows with each incompatible change.
FORMAT = 1

#: The columns that other users choose. What the kernel chooses, as ``---p``, is no formula.
_NAMES = ("path", "name", "user", "command")
#: What a formula begins with in a spreadsheet, also in the width of Chinese characters; and the
#: apostrophe, so that the one put before a name can be told from one of its own.
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20'")


def columns(report: Report) -> tuple[str, ...]:
    """Return the columns of a row: labels, sizes, and the path last."""
    labels = LABELS[report.by]
    return (*labels[:-1], *report.columns, labels[-1])


def when(about: About) -> str:
    """Return the time in ISO 8601, UTC."""
    return datetime.fromtimestamp(about.time, UTC).isoformat(timespec="milliseconds")


def header(report: Report) -> dict[str, Any]:
    """Return what is written once: whose memory, when, on which kernel, and the totals in bytes."""
    more = {
        name: _whose(value) if isinstance(value, About) else value
        for name, value in report.more.items()
    }
    return {
        "format": FORMAT,
        **_whose(report.about),
        **more,
        "rows_are": report.by,
        "totals": {name: report.total(name) for name in report.columns},
        **({} if report.together is None else {"together": report.together}),
        "unreadable": [entry._asdict() for entry in report.unreadable],
    }


def _whose(about: About) -> dict[str, Any]:
    return {
        "pid": about.pid or None,
        "name": about.name or None,
        **where(about),
        "snapshot": about.snapshot,
    }


def where(about: About) -> dict[str, Any]:
    """Return when and on which kernel it was."""
    return {"time": when(about), "kernel": about.kernel, "page_size": about.page_size}


def json_lines(report: Report) -> Iterator[str]:
    """Yield the lines of one JSON object, with a line for each row."""
    import json

    text = json.dumps(header(report), indent=2)
    yield text.removesuffix("\n}") + ","
    names = columns(report)
    count = len(report)
    yield '  "rows": [' + ("" if count else "]")
    for index, row in enumerate(rows(report, names), 1):
        record = json.dumps(dict(zip(names, row, strict=True)))
        yield f"    {record}{',' if index < count else ''}"
    if count:
        yield "  ]"
    yield "}"


def csv_lines(report: Report) -> Iterator[str]:
    """Yield a header and a line for each row, quoted as RFC 4180 says.

    Names are escaped as in a table, so that each row is one line. A name that begins with ``=``,
    ``+``, ``-``, ``@`` or an apostrophe gets an apostrophe before it. To undo that in pandas:
    ``frame["path"].str.replace("^'", "", regex=True)``.
    """
    import csv
    import io

    names = columns(report)
    buffer = io.StringIO(newline="")
    # Without a newline in the terminator, Python before 3.13 would not quote newlines.
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (names, *rows(report, names)):
        cells = zip(names, row, strict=True)
        writer.writerow([_defused(value) if name in _NAMES else value for name, value in cells])
        yield buffer.getvalue().removesuffix("\n")
        buffer.seek(0)
        buffer.truncate()


def _defused(name: str) -> str:
    """Return a name that neither a terminal nor a spreadsheet acts upon."""
    return f"'{printable(name)}" if name.startswith(_FORMULA) else printable(name)
