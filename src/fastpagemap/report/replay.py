"""What ``record`` has written, read back: the rows of one process, of all files together."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import urllib.parse
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.model.mapping import Mapping
from fastpagemap.report.text import printable
from fastpagemap.snapshot.open_file import open_to_read

__all__ = ["SIZES", "History", "NotOneProcess", "read_history"]

Numbers = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]

#: The columns of sizes that are read; null counts as 0.
SIZES = ("size", "present", "swapped", "swapped_shared", "unknown", "shared", "zero", "soft_dirty")
_WHOSE = ("boot_id", "pid", "start_time")
_MAPPING = ("start", "end", "permissions", "offset", "device", "inode", "path")
_READ = (*_WHOSE, "name", "time", "uptime", *_MAPPING, *SIZES)
#: What is in each row; the columns of sizes may be null as well.
_KINDS = {"time": datetime, "uptime": float, "start": int, "end": int, "path": str}
_KINDS |= {"permissions": str}
#: Seconds that no kernel has run for: some 300 years.
_MAX_UPTIME = 1e10
#: Letters of a value that a message shows.
_MAX_SHOWN = 40
#: Processes that a message names.
_MAX_NAMED = 8


class Whose(NamedTuple):
    """A process of which there are rows."""

    host: str
    boot_id: str | None
    pid: int
    start_time: int | None


class NotOneProcess(Exception):
    """The recording is of other processes than the one that was asked for, or of several."""


class Span(NamedTuple):
    """What one file covers of a process, by the uptime; and how often it was read meanwhile."""

    first: float
    last: float
    readings: int


class History(NamedTuple):
    """The rows of a process, from the first reading to the last.

    Attributes
    ----------
    whose, name, kernel
        The process, its last name, and the kernel.
    set_clock : float
        What is to be added to an uptime for the time of day, as it was at the last row.
    spans : list of Span
        One for each file, in order.
    uptime : ndarray of float64
        When each row was read, ascending.
    mapping : ndarray of int64
        Which of `mappings` each row is of.
    mappings : list of Mapping
        By their starts; as they were at last.
    sizes : dict of str to ndarray of int64
        The columns of `SIZES`, in bytes.
    """

    whose: Whose
    name: str
    kernel: str
    set_clock: float
    spans: list[Span]
    uptime: Times
    mapping: Numbers
    mappings: list[Mapping]
    sizes: dict[str, Numbers]


def read_history(directory: str, pid: int | None) -> tuple[History, int]:
    """Read what was recorded of a process.

    Parameters
    ----------
    directory : str
        That of a recording, or one below it: of a host, or of a day.
    pid : int, optional
        Only needed if several processes were recorded.

    Returns
    -------
    History, int
        And how many other processes had that pid before.

    Raises
    ------
    OSError
        There is no recording, or a file of it is damaged.
    NotOneProcess
        It is not clear which process is meant.
    """
    names: dict[Whose, str] = {}
    last: dict[Whose, float] = {}
    paths: dict[Whose, list[str]] = {}
    for path in _paths(directory):
        for whose, name, when in _processes(path):
            if when >= last.get(whose, when):
                names[whose], last[whose] = name, when
            paths.setdefault(whose, []).append(path)
    if not names:
        raise _nothing(directory)
    chosen = [whose for whose in names if pid in (None, whose.pid)]
    if len({(whose.host, whose.pid) for whose in chosen}) != 1:
        raise NotOneProcess(_question(names, pid))
    whose = max(chosen, key=last.__getitem__)
    rows = [_rows(path, whose) for path in dict.fromkeys(paths[whose])]
    return _history(whose, names[whose], rows), len(chosen) - 1


def _paths(directory: str) -> list[str]:
    def fail(error: OSError) -> None:
        raise error

    found = [
        os.path.join(at, name)
        for at, _, names in os.walk(directory, onerror=fail)
        for name in names
        if name.endswith(".parquet") and not name.startswith(".")
    ]
    if not found:
        raise _nothing(directory)
    return sorted(found)


def _nothing(directory: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"{printable(directory)}: nothing is recorded there")


def _host(path: str) -> str:
    parts = [part for part in os.path.abspath(path).split(os.sep) if part.startswith("host=")]
    return urllib.parse.unquote(parts[-1].removeprefix("host=")) if parts else ""


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file; what is wrong with it is an OSError that says so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_to_read(path) as file:
        try:
            content = pq.ParquetFile(file)
            if missing := set(_READ).difference(content.schema_arrow.names):
                raise ValueError(f"it has no column {min(missing)}")
            yield content
        except (pa.ArrowException, ValueError, KeyError, OSError, RecursionError) as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            text = f"{printable(path)}: damaged, or not written by 'fastpagemap record': {why}"
            raise OSError(errno.EINVAL, text) from None


def _processes(path: str) -> Iterator[tuple[Whose, str, float]]:
    """Yield the processes in a file, each with a name, and when it last had that."""
    keys, host = [*_WHOSE, "name"], _host(path)
    with _opened(path) as content:
        table = content.read([*keys, "time"]).group_by(keys).aggregate([("time", "max")])
        found = table.to_pylist()
        for row in found:
            _check("pid", row["pid"], int)
            _check("time", row["time_max"], datetime)
    for row in found:
        whose = Whose(host, *(row[name] for name in _WHOSE))
        yield whose, row["name"] or "", row["time_max"].timestamp()


def _rows(path: str, whose: Whose) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return what a file says of itself, and its columns in the rows of a process."""
    import pyarrow.compute as pc

    with _opened(path) as content:
        about = _about(content.metadata.metadata or {})
        table = content.read(list(_READ))
        table = table.filter(pc.equal(table["pid"], whose.pid))  # of many processes, few rows stay
        rows = [row for row in table.to_pylist() if tuple(map(row.get, _WHOSE)) == whose[1:]]
        for row in rows:
            _check_row(row)
    for row in rows:
        row["time"] = row["time"].timestamp()
    return about, {name: [row[name] for row in rows] for name in _READ}


def _about(said: dict[bytes, bytes]) -> dict[str, Any]:
    """Return what a file says of the kernel, and of its end."""
    about: dict[str, Any] = {"until": 0.0, "readings": 0}
    for key in (b"fastpagemap", b"fastpagemap_end"):
        part = json.loads(said.get(key, b"{}"))
        _check("metadata", part, dict)
        about |= part
    _check("until", about["until"], (int, float))
    _check("readings", about["readings"], int)
    if not (0 <= about["until"] <= _MAX_UPTIME and 0 <= about["readings"] <= _MAX_UPTIME):
        raise ValueError("no file ends like this")
    return about


def _check_row(row: dict[str, Any]) -> None:
    """Raise ValueError if a row is none that ``record`` writes: anybody may have made the file."""
    for name, kind in _KINDS.items():
        _check(name, row[name], kind)
    for name in SIZES:
        _check(name, row[name], (int, type(None)))
    if not 0 <= row["uptime"] <= _MAX_UPTIME:
        raise ValueError(f"uptime {row['uptime']}")


def _check(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{name} {printable(str(value)[:_MAX_SHOWN])}")


def _question(names: dict[Whose, str], pid: int | None) -> str:
    known = sorted({(whose.pid, whose.host): name for whose, name in names.items()}.items())
    hosts = {whose.host for whose in names}
    listed = [
        f"{number} ({printable(name)}{f' of {printable(host)}' if len(hosts) > 1 else ''})"
        for (number, host), name in known[:_MAX_NAMED]
    ]
    more = f" and {len(known) - _MAX_NAMED} more" if len(known) > _MAX_NAMED else ""
    if any(whose.pid == pid for whose in names):
        return f"several hosts have a process {pid}: name the directory host=... of one of them"
    also = ""
    if len({number for (number, _), _ in known}) < len(known):
        also = ", and by the directory host=... if several hosts have it"
    what = f"no process {pid} was recorded" if pid else f"{len(known)} processes were recorded"
    return f"{what}: say which by --pid{also}: {', '.join(listed)}{more}"


def _history(
    whose: Whose, name: str, files: list[tuple[dict[str, Any], dict[str, list[Any]]]]
) -> History:
    """Put the rows of a process together, in the order of the uptime."""
    spans: list[Span] = []
    cells: dict[str, list[Any]] = {column: [] for column in _READ}
    kernel = ""
    for about, found in files:
        times = found["uptime"]
        spans.append(Span(min(times), max(about["until"], *times), about["readings"]))
        kernel = str(about.get("kernel", kernel))
        for column in _READ:
            cells[column] += found[column]
    if not any(value is not None for size in ("present", "swapped") for value in cells[size]):
        raise OSError("there is nothing to draw: neither present nor swapped was recorded")
    return _in_order(whose, name, kernel, sorted(spans), cells)


def _in_order(
    whose: Whose, name: str, kernel: str, spans: list[Span], cells: dict[str, list[Any]]
) -> History:
    order = np.argsort(np.array(cells["uptime"]), kind="stable")
    newest = order[-1]
    known: dict[tuple[int, str], Mapping] = {}
    for row in order.tolist():
        mapping = Mapping(*(cells[column][row] for column in _MAPPING))
        known[mapping.start, mapping.path] = mapping
    keys = {key: number for number, key in enumerate(sorted(known))}
    of_row = [keys[key] for key in zip(cells["start"], cells["path"], strict=True)]
    return History(
        whose,
        name,
        kernel,
        cells["time"][newest] - cells["uptime"][newest],
        spans,
        np.array(cells["uptime"], np.float64)[order],
        np.array(of_row, np.int64)[order],
        [known[key] for key in keys],
        {size: np.array([v or 0 for v in cells[size]], np.int64)[order] for size in SIZES},
    )
