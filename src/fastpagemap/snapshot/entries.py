"""Entries saved from /proc/PID/pagemap, as runs of states, without the process."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .._kernel.sinks import Sink
from ..model import entry
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..model.runs import RUN_DTYPE, Addresses, Runs, join_equal

__all__ = ["runs_and_mappings"]

# Entries decoded at a time.
WINDOW_ENTRIES = 1 << 16
# A gap of so many empty pages separates two mappings.
MIN_GAP_PAGES = 512


def runs_and_mappings(source: Any, start: int) -> tuple[Runs, list[Mapping]]:
    """Return the runs of saved entries, and a nameless mapping around each group of runs."""
    found = [np.empty(0, RUN_DTYPE)]
    for first, words in _nonzero_windows(source):
        address = start + first * PAGE_SIZE
        if address + len(words) * PAGE_SIZE >= 1 << 64:
            raise ValueError(
                f"entry {first + len(words)} is of no address, if the first is of {start:#x}"
            )
        found.append(_runs(address, words))
    runs = join_equal(np.concatenate(found), np.empty(0, np.uint64))
    return runs, _mappings_of(runs)


def _runs(start: int, words: Addresses) -> Runs:
    sink = Sink((), runs=True)
    sink.put_entries(start, words)
    return np.frombuffer(sink.runs(), RUN_DTYPE)


def _mappings_of(runs: Runs) -> list[Mapping]:
    if not len(runs):
        return []
    apart = runs["start"][1:] - runs["end"][:-1] >= np.uint64(MIN_GAP_PAGES * PAGE_SIZE)
    starts = runs["start"][np.concatenate(([True], apart))].tolist()
    ends = runs["end"][np.concatenate((apart, [True]))].tolist()
    return [Mapping(*span, "????", 0, 0, 0, "") for span in zip(starts, ends, strict=True)]


def _nonzero_windows(source: Any) -> Iterator[tuple[int, Addresses]]:
    """Yield windows: the number of the first entry, and entries; skip those that are all 0."""
    if isinstance(source, (str, bytes, os.PathLike)):
        with Path(os.fsdecode(source)).open("rb") as file:
            yield from _read_windows(file)
    elif hasattr(source, "read"):
        yield from _read_windows(source)
    else:
        words = entry.values(source).reshape(-1)
        for at in range(0, len(words), WINDOW_ENTRIES):
            if words[at : at + WINDOW_ENTRIES].any():
                yield at, words[at : at + WINDOW_ENTRIES]


def _read_windows(file: IO[bytes]) -> Iterator[tuple[int, Addresses]]:
    """Yield the windows of a file from its position on; skip holes."""
    at = 0
    pending = b""
    for offset, content in _read_data(file):
        if pending and offset != at + len(pending):
            raise AssertionError("a hole in an entry")
        if not pending:
            at = offset
        pending += content
        whole = len(pending) // 8 * 8
        words: npt.NDArray[np.uint64] = np.frombuffer(pending[:whole], np.uint64)
        if words.any():
            yield at // 8, words
        at, pending = at + whole, pending[whole:]
    if pending:
        raise ValueError(
            f"{at + len(pending)} bytes are no whole number of entries, of 8 bytes each: "
            "cut short, or no pagemap"
        )


def _read_data(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield offsets from the file's position, and the bytes there."""
    size = WINDOW_ENTRIES * 8
    try:
        fd, base = file.fileno(), file.tell()
        end = os.fstat(fd).st_size
    except (OSError, AttributeError):  # a pipe, or a Python object
        at = 0
        while content := file.read(size):
            yield at, content
            at += len(content)
        return
    at = base
    while at < end:
        with contextlib.suppress(OSError):
            at = _seek_data(fd, at, base, end)
        file.seek(at)
        content = file.read(min(size, end - at))
        if not content:
            return
        yield at - base, content
        at += len(content)


def _seek_data(fd: int, at: int, base: int, end: int) -> int:
    """Return the offset of the next data, rounded down to an entry; the end if there is none."""
    try:
        found = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # a last entry that is cut short must be noticed
            return max(at, end - (end - base) % 8)
        raise
    return max(at, base + (found - base) // 8 * 8)
