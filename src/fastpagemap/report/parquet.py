"""Rows as Parquet, with one schema on every kernel: a column that cannot be filled is null.

Sizes are signed, so that a difference of two may be negative; addresses and the numbers of files
need all 64 bits. Bytes of names that are not UTF-8 are escaped (``\\xff``).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fastpagemap.report.formats import header
from fastpagemap.report.members import MEMBER_SIZES, SHARER_SIZES
from fastpagemap.report.report import LABELS, MORE_SIZES, SIZES, Report
from fastpagemap.snapshot.dataframes import check_size, texts
from fastpagemap.snapshot.replace_file import replace_file

__all__ = ["ORIGIN", "columns", "schema", "table", "write_parquet"]

#: The columns that say of which process rows are, and when they were read. `since` is when the
#: first rows of the file were read: from then on it has all that was mapped.
ORIGIN = ("host", "boot_id", "since", "time", "uptime", "pid", "start_time", "cgroup", "name")
_SIZES_OF = {"member": MEMBER_SIZES, "sharer": SHARER_SIZES}
_TEXTS = ("host", "boot_id", "cgroup", "name", "permissions", "kind", "path", "user", "command")
_TIMES = ("since", "time")
_UNSIGNED = ("start", "end", "offset", "device", "inode")


def columns(by: str) -> tuple[str, ...]:
    """Return the columns of rows that are of a mapping, a process and so on."""
    labels = (name for name in LABELS[by] if name not in ORIGIN)
    return (*ORIGIN, *labels, *_SIZES_OF.get(by, SIZES + MORE_SIZES))


def schema(names: tuple[str, ...]) -> Any:
    """Return the schema of these columns."""
    import pyarrow as pa

    def kind(name: str) -> Any:
        if name in _TEXTS:
            return pa.string()
        if name in _TIMES:  # no engine lacks microseconds
            return pa.timestamp("us", tz="UTC")
        if name == "uptime":
            return pa.float64()
        return pa.uint64() if name in _UNSIGNED else pa.int64()

    return pa.schema([(name, kind(name)) for name in names])


def table(report: Report, names: tuple[str, ...]) -> Any:
    """Return the named columns of a report as a ``pyarrow.Table``.

    Raises
    ------
    ModuleNotFoundError
        pyarrow is not installed.
    MemoryError
        The texts would not fit into free memory, or come to 2 GiB.
    """
    import pyarrow as pa

    values = (value for name in _TEXTS for value in report.labels.get(name, ()))
    check_size(sum(len(value or "") for value in values), len(report))
    wanted = schema(names)
    arrays = [_array(report, field.name, field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _array(report: Report, name: str, kind: Any) -> Any:
    import pyarrow as pa

    if name in report.columns:
        return pa.array(report.usage[name].astype(np.int64), kind)
    if name in report.labels:
        return pa.array([_value(name, value) for value in report.labels[name]], kind)
    return pa.repeat(pa.scalar(_value(name, _of_all(report, name)), kind), len(report))


def _value(name: str, value: Any) -> Any:
    """Return a value as Arrow takes it: times in microseconds, texts without odd bytes."""
    if value is None:
        return None
    if name in _TIMES:
        return round(value * 1_000_000)
    return texts([value])[0] if name in _TEXTS else value


def _of_all(report: Report, name: str) -> Any:
    """Return what a column has in every row; None where that is not known."""
    about = report.about
    if name in _TIMES:
        return about.time
    if name in ("host", "boot_id", "uptime"):
        return getattr(about, name)
    # Where each row is of a process of its own, these are in the labels or not known.
    if name not in ORIGIN or "pid" in report.labels:
        return None
    unknown = 0 if name == "pid" else ""
    value = getattr(about, name)
    return None if value == unknown else value


def write_parquet(report: Report, path: str) -> None:
    """Write a Parquet file: the rows, and the header of the JSON as metadata.

    Raises
    ------
    ModuleNotFoundError
        pyarrow is not installed.
    OSError
        It cannot be written. Then there is no file, or still the old one.
    """
    import pyarrow.parquet as pq

    rows = table(report, columns(report.by))
    rows = rows.replace_schema_metadata({"fastpagemap": json.dumps(header(report))})
    with replace_file(path, report.about.uid) as file:
        pq.write_table(rows, file)
