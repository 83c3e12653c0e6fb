"""Entries saved from /proc/PID/pagemap, as runs of states, without the process.

Before Linux 4.2 bits 55-60 of every entry but 0 held the page shift (from 3.11 on, only until
somebody cleared soft-dirty bits).
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .._kernel.failures import IgnoringFileErrors
from .._kernel.sinks import Sink
from ..model import entry
from ..model.entry import PAGE_SIZE
from ..model.mapping import UNKNOWN_PATH, Mapping, looks_shmem
from ..model.runs import (
    RUN_DTYPE,
    Addresses,
    Runs,
    Spans,
    State,
    bounds,
    clipped,
    close_gaps,
    concat_rows,
    edges_of,
    has_any,
    join_equal,
    runs_of,
)
from ..process.limits import affordable
from .packed_runs import are_possible

__all__ = ["runs_and_mappings"]

# Entries decoded at a time.
WINDOW_ENTRIES = 1 << 16
# A gap of so many empty pages separates two mappings.
MIN_GAP_PAGES = 512
_SHIFT_BIT, _SHIFT_BITS = np.uint64(55), np.uint64(0x3F << 55)
# Since Linux 4.2, bits 59 and 60 are 0, and no page is a guard region (58) and write-protected (57)
# at once. A page shift, 12 or more, has one or the other. Guard regions have the bit of swap, too.
_ZERO_BITS, _EITHER_BITS = np.uint64(3 << 59), np.uint64(3 << 57)
_GUARD_BIT, _GUARD_BITS = np.uint64(1 << 58), np.uint64(1 << 58 | 1 << 62)


def runs_and_mappings(
    source: Any, start: int, maps: Sequence[Mapping] = ()
) -> tuple[Runs, list[Mapping]]:
    """Return the runs of saved entries, and the mappings that they are in.

    These are the given ones, as far as there are entries of them; and around each group of other
    runs a nameless one.
    """
    found: list[Runs] = []
    layout, count, end = _Layout(), 0, start
    for first, words in _windows(source):
        address = start + first * PAGE_SIZE
        end = address + len(words) * PAGE_SIZE
        if not words.any():
            continue
        if end >= 1 << 64:
            raise ValueError(
                f"entry {first + len(words)} lies beyond the last address, if the first is at "
                f"{start:#x}"
            )
        runs = _runs(address, layout.flags_alone(words))
        if not are_possible(runs["state"]).all():
            raise _no_entries()
        found.append(runs)
        count += len(found[-1])
        # Twice: they are put together at the end.
        affordable(count, 2 * RUN_DTYPE.itemsize, "runs")
    runs = join_equal(concat_rows(found, RUN_DTYPE), np.empty(0, np.uint64))
    named = [_cut(one, start, end) for one in maps if one.start < end and start < one.end]
    starts, ends = bounds(named)
    others = clipped(runs, *_between(starts, ends))
    private = clipped(runs, *bounds(one for one in named if not looks_shmem(one)))
    shared = _of_shmem(runs, *bounds(one for one in named if looks_shmem(one)))
    runs = np.concatenate((private, shared, others))
    spans = sorted([*named, *_nameless(others, starts)])
    return runs[np.argsort(runs["start"], kind="stable")], spans


class _Layout:
    """Where the page shift is in the entries of a source, if it is."""

    def __init__(self) -> None:
        self._shift: int | None = None

    def flags_alone(self, words: Addresses) -> Addresses:
        """Return entries, which are not all 0, as kernels write them since Linux 4.2."""
        shift = _shift_of(words)
        if self._shift is None:
            self._shift = shift
        if shift != self._shift:
            raise _no_entries()
        if not shift:
            return words
        if 1 << shift != PAGE_SIZE:
            raise ValueError(
                f"entries of pages of {1 << shift} bytes, of a kernel before Linux 4.2; here pages "
                f"have {PAGE_SIZE}"
            )
        return words & ~_SHIFT_BITS


def _shift_of(words: Addresses) -> int:
    """Return the page shift that entries hold; 0 if they hold none."""
    seen = np.bitwise_or.reduce(words)
    if not seen & (_ZERO_BITS | _GUARD_BIT):
        return 0
    if seen & _ZERO_BITS or seen & _EITHER_BITS == _EITHER_BITS:
        shifts = (words[words != 0] & _SHIFT_BITS) >> _SHIFT_BIT
        least, most = int(shifts.min()), int(shifts.max())
        if least == most and 12 <= most < 32:
            return most
    if seen & _ZERO_BITS or (words & _GUARD_BITS == _GUARD_BIT).any():
        raise _no_entries()
    return 0


def _no_entries() -> ValueError:
    return ValueError(
        "it holds what no kernel writes to pagemap: another kind of file, or another byte order"
    )


def _runs(start: int, words: Addresses) -> Runs:
    sink = Sink((), runs=True)
    sink.put_entries(start, words)
    return np.frombuffer(sink.runs(), RUN_DTYPE)


def _cut(mapping: Mapping, start: int, end: int) -> Mapping:
    """Return the part of a mapping that lies in a span."""
    low = max(mapping.start, start)
    # what has no file has no offset
    offset = mapping.offset + (low - mapping.start if mapping.inode else 0)
    return mapping._replace(start=low, end=min(mapping.end, end), offset=offset)


def _between(starts: Addresses, ends: Addresses) -> Spans:
    """Return what lies before, between and after some spans, sorted and disjoint."""
    lows = np.concatenate((np.zeros(1, np.uint64), ends))
    highs = np.concatenate((starts, np.full(1, (1 << 64) - 1, np.uint64)))
    some = lows < highs
    return lows[some], highs[some]


def _of_shmem(runs: Runs, starts: Addresses, ends: Addresses) -> Runs:
    """Return the runs in shared memory: an empty entry does not tell whether it is swapped."""
    runs = clipped(runs, starts, ends)
    lows = np.sort(np.concatenate((starts, runs["end"])), kind="stable")
    highs = np.sort(np.concatenate((ends, runs["start"])), kind="stable")
    some = lows < highs
    empty = runs_of(lows[some], highs[some], 0)
    runs = np.concatenate((runs, empty))
    runs = runs[np.argsort(runs["start"], kind="stable")]
    known = has_any(runs["state"], State.PRESENT | State.SWAPPED | State.GUARD)
    runs["state"][~known] |= np.uint64(int(State.UNKNOWN))
    return join_equal(runs, edges_of(starts, ends))


def _nameless(runs: Runs, barriers: Addresses) -> list[Mapping]:
    """Return mappings around groups of runs, none of which reaches over a barrier."""
    gap = MIN_GAP_PAGES * PAGE_SIZE
    starts, ends = close_gaps(runs["start"], runs["end"], gap, barriers)
    return [
        Mapping(*span, "????", 0, 0, 0, UNKNOWN_PATH)
        for span in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _windows(source: Any) -> Iterator[tuple[int, Addresses]]:
    """Yield windows: the number of the first entry, and entries. What is skipped is all 0.

    The last one may be empty: it tells where the source ends.
    """
    if hasattr(source, "read"):
        yield from _read_windows(source)
    else:
        words = entry.values(source).reshape(-1)
        for at in range(0, len(words), WINDOW_ENTRIES):
            yield at, words[at : at + WINDOW_ENTRIES]


def _read_windows(file: IO[bytes]) -> Iterator[tuple[int, Addresses]]:
    """Yield the windows of a file from its position on; skip holes."""
    at = end = 0
    pending = b""
    for offset, content in _read_data(file):
        end = offset + len(content)
        if pending and offset != at + len(pending):
            raise AssertionError("a hole in an entry")
        if not pending:
            at = offset
        pending += content
        whole = len(pending) // 8 * 8
        words: npt.NDArray[np.uint64] = np.frombuffer(pending[:whole], np.uint64)
        yield at // 8, words
        at, pending = at + whole, pending[whole:]
    if pending:
        raise ValueError(
            f"{at + len(pending)} bytes are not a whole number of entries, of 8 bytes each: "
            "cut short, or not a pagemap"
        )
    if not end:
        raise ValueError("it has no entries, like the pagemap of an ended process")


def _read_data(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield offsets from the file's position, and the bytes there."""
    size = WINDOW_ENTRIES * 8
    try:
        fd, base = file.fileno(), file.tell()
        about = os.fstat(fd)
    except (OSError, AttributeError):  # a pipe, or a Python object
        at = 0
        while content := file.read(size):
            yield at, content
            at += len(content)
        return
    at, end = base, about.st_size
    if stat.S_ISREG(about.st_mode) and not end and file.read(8):
        raise ValueError(
            "a live file of /proc that is no process's pagemap: it has no end, and other content"
        )
    while at < end:
        with IgnoringFileErrors():
            at = _seek_data(fd, at, base, end)
        file.seek(at)
        content = file.read(min(size, end - at))
        if not content:
            break
        yield at - base, content
        at += len(content)
    yield at - base, b""


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
