"""Parquet files in which rows are added over time: DIRECTORY/host=NAME/date=YYYY-MM-DD/*.parquet.

Engines take the names and values of these directories for columns. A file is made in memory and
written whole: what is in the directory can always be read. `host` is not in the files, as pyarrow
refuses a column that is in the path, too.
"""

from __future__ import annotations

import errno
import json
import os
import time
import urllib.parse
from collections import deque
from datetime import UTC, datetime
from typing import Any

from fastpagemap._kernel.descriptor import Descriptor
from fastpagemap.report.formats import where
from fastpagemap.report.parquet import columns, schema, table
from fastpagemap.report.report import About, Report
from fastpagemap.snapshot.dataframes import texts
from fastpagemap.snapshot.replace_file import open_directory, replace_file

__all__ = ["COLUMNS", "Recording"]

#: The columns of the files.
COLUMNS = tuple(name for name in columns("mapping") if name != "host")
#: Rows are compressed together once there are so many of them, or bytes.
MAX_BUFFERED_ROWS, MAX_BUFFERED_BYTES = 1 << 17, 1 << 24
#: Files that could not be written are kept for another try, and no more than these.
MAX_UNSAVED = 2
#: What Hive, and all who read its directories, take for null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


class Recording:
    """Files of rows, one after the other.

    Parameters
    ----------
    directory : str
        Made if it is not there.
    host : str
        The name of the host.
    max_seconds, max_bytes : float, int
        A file ends when it is about so many seconds, or has so many bytes; and at midnight, UTC.

    Attributes
    ----------
    since : float or None
        When the file begins that rows are added to; None if there is none.
    files, rows, lost : int
        The files that were written, the rows in them, and the files that could not be written.

    Raises
    ------
    OSError
        Files cannot be made there.
    """

    directory: str
    max_seconds: float
    max_bytes: int
    files: int
    rows: int
    lost: int

    def __init__(self, directory: str, host: str, max_seconds: float, max_bytes: int) -> None:
        name = urllib.parse.quote(texts([host])[0], safe="") or _NULL
        self._parent, self._name = directory, f"host={name}"
        self.directory = os.path.join(directory, self._name)
        self.max_seconds, self.max_bytes = max_seconds, max_bytes
        self.since: float | None = None
        self.files = self.rows = self.lost = 0
        self._last = 0.0
        self._buffered: list[Any] = []
        self._unsaved: deque[tuple[str, Any, int]] = deque()
        held = self._opened()
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=held.fd):
            raise PermissionError(errno.EACCES, f"cannot write into {self.directory}")

    def begin(self, about: About) -> None:
        """Begin a file, at that time and of that kernel."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.since = self._last = about.time
        self._count = self._readings = 0
        self._until = 0.0
        self._sink = pa.BufferOutputStream()
        kind = schema(COLUMNS).with_metadata({"fastpagemap": json.dumps(where(about))})
        self._writer = pq.ParquetWriter(self._sink, kind)

    def is_over(self, now: float) -> bool:
        """Return whether what is read now belongs into another file.

        So it does when the clock was set back: in one file, times never go back.
        """
        if self.since is None:
            return False
        seconds = now - self.since
        return (
            now < self._last
            or seconds >= self.max_seconds
            or self._size() >= self.max_bytes
            or _day(now) != _day(self.since)
        )

    def add(self, report: Report) -> None:
        """Add rows, which are not on the disk before the file is saved."""
        report.labels["since"] = [self.since] * len(report)
        self._last = report.about.time
        self._buffered.append(table(report, COLUMNS))
        self._count += len(report)
        if (
            sum(each.num_rows for each in self._buffered) >= MAX_BUFFERED_ROWS
            or sum(each.nbytes for each in self._buffered) >= MAX_BUFFERED_BYTES
        ):
            self._compress()

    def note(self, about: About) -> None:
        """Note that everything was read then, whether or not there were rows to add."""
        self._readings += 1
        self._until = about.uptime or 0.0

    def save(self) -> None:
        """End the file, and write it, if it has rows, and those that could not be written before.

        Raises
        ------
        OSError
            It cannot be written. It is tried again next time, if not too many are waiting.
        """
        if self.since is not None and self._count:
            self._compress()
            end = {"until": self._until, "readings": self._readings}
            if hasattr(self._writer, "add_key_value_metadata"):  # pyarrow 16
                self._writer.add_key_value_metadata({"fastpagemap_end": json.dumps(end)})
            self._writer.close()
            stamp = datetime.fromtimestamp(self.since, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            # Not the time alone: after the clock was set back it may come again.
            name = f"{stamp}-{os.urandom(4).hex()}.parquet"
            path = os.path.join(self.directory, f"date={_day(self.since)}", name)
            self._unsaved.append((path, self._sink.getvalue(), self._count))
        self.since = None
        while len(self._unsaved) > MAX_UNSAVED:
            self._unsaved.popleft()
            self.lost += 1
        while self._unsaved:
            path, content, count = self._unsaved[0]
            day = self._opened(os.path.basename(os.path.dirname(path)))
            # Addresses help attacks, and the processes may be of several users.
            with replace_file(path, None, day) as file:
                file.write(content)
            self._unsaved.popleft()
            self.files, self.rows = self.files + 1, self.rows + count

    def _opened(self, *below: str) -> Descriptor:
        """Open the directory of the host, or one below it, made if it is not there.

        Anew each time, as it may have been removed. Step by step, as where a stranger may write he
        may have put a link in place of any of them.
        """
        at, held = self._parent, None
        try:
            held = open_directory(at)
            for name in (self._name, *below):
                at = os.path.join(at, name)
                held = open_directory(name, held)
        except OSError as error:
            if error.errno is None:  # a signal handler's
                raise
            text = f"cannot write into {at}: {error.strerror or error}"
            raise OSError(error.errno, text) from error
        return held

    def _compress(self) -> None:
        import pyarrow as pa

        if self._buffered:
            self._writer.write_table(pa.concat_tables(self._buffered))
            self._buffered.clear()

    def _size(self) -> int:
        """Return the bytes of the file so far, roughly: of some rows before they are compressed."""
        size: int = self._sink.tell() + sum(each.nbytes for each in self._buffered)
        return size


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(when))
