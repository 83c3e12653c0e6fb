"""Which allocations in a capture file of memray are alive, where they are, and who made them.

memray's own answers (leaks, high water mark) are sums; only its list of all events has addresses.
What is alive at its end is found here, for millions of events, by sorting them.
"""

from __future__ import annotations

import bisect
import logging
import os
import re
import site
import sysconfig
from collections.abc import Iterator
from typing import Any, NamedTuple

import memray
import numpy as np
import numpy.typing as npt
from memray import AllocatorType as Allocator

from ..model.entry import PAGE_SIZE, page_count

__all__ = [
    "EVENT",
    "FREES",
    "Allocator",
    "Site",
    "Stack",
    "alive",
    "call_site",
    "open_capture",
    "process_of",
    "read",
]

Array = npt.NDArray[Any]
EVENT = np.dtype([("address", "u8"), ("size", "u8"), ("allocator", "u1"), ("stack", "u8")])
FREES = (Allocator.FREE, Allocator.PYMALLOC_FREE)
MAPS = (Allocator.MMAP, Allocator.MUNMAP)
NO_STACK = frozenset(map(int, (*FREES, Allocator.MUNMAP)))
LIBRARIES = tuple(
    os.path.join(directory, "")
    for directory in (sysconfig.get_path("stdlib"), *site.getsitepackages())
)
# The same of other environments: the program need not run in this one.
ELSEWHERE = re.compile(r"/(site|dist)-packages/|/lib(64)?/python3(\.\d+)?t?/")


class Site(NamedTuple):
    """A line of source that allocates."""

    function: str
    file: str
    line: int


Stack = tuple[Site, ...]
"""The innermost frame first."""

NATIVE = Site("(a thread without Python frames)", "", 0)
MEMRAY_RUN = "/memray/commands/run.py"


def open_capture(path: str) -> memray.FileReader:
    """Open a capture file, which memray reads whole to do so; to be closed, by ``with``.

    A program that was stopped may have been in the midst of its last record. That one is left out,
    and memray, which would call it an error on standard error, says nothing.
    """
    memray.set_log_level(logging.CRITICAL)  # type: ignore[attr-defined]
    return memray.FileReader(path)


def process_of(capture: memray.FileReader) -> int:
    """Return the pid that is recorded, as it is in the process's own namespace."""
    return int(capture.metadata.pid)


def read(capture: memray.FileReader, starter: str | None = None) -> tuple[Array, dict[int, Stack]]:
    """Return all events of a capture file in order (EVENT), and the frames of each stack.

    Of memray's answers this is the only one with addresses: the others are sums already.
    `starter` is the file that ran the program, if it was not memray: its frames are left out.
    """
    first: dict[int, Any] = {}

    def events() -> Iterator[tuple[int, int, int, int]]:
        for record in capture.get_allocation_records():
            allocator, stack = record.allocator, record.stack_id
            if stack not in first and allocator not in NO_STACK:
                first[stack] = record
            yield record.address, record.size, allocator, stack

    answer = np.fromiter(events(), EVENT)
    return answer, {
        stack: program_frames(record.stack_trace(), starter) for stack, record in first.items()
    }


def program_frames(frames: list[tuple[str, str, int]], starter: str | None) -> Stack:
    """Return the frames of the program, without those of what ran it."""
    sites = [Site(*frame) for frame in frames if not frame[1].startswith("<frozen ")]
    own = [each for each in sites if each.file != starter and not each.file.endswith(MEMRAY_RUN)]
    return tuple(own or sites[:1] or [NATIVE])


def call_site(stack: Stack) -> Site:
    """Return the innermost line that is not in an installed library: there it can be changed."""
    return next((each for each in stack if not is_library(each.file)), stack[0])


def is_library(file: str) -> bool:
    """Return whether a file is installed, in this environment or in another one."""
    return file.startswith(LIBRARIES) or ELSEWHERE.search(file) is not None


def alive(events: Array) -> Array:
    """Return the allocations (EVENT) that are not freed at the end of `events`."""
    mapped = np.isin(events["allocator"], MAPS)
    heap = events[~mapped]
    # of each address the last event decides; a realloc is recorded as free and allocation
    order = np.argsort(heap["address"], kind="stable")
    heap = heap[order]
    last = np.ones(len(heap), bool)
    last[:-1] = heap["address"][:-1] != heap["address"][1:]
    heap = heap[last & ~np.isin(heap["allocator"], FREES) & (heap["address"] > 0)]
    return np.concatenate([heap[heap["size"] > 0], still_mapped(events[mapped])])


def still_mapped(events: Array) -> Array:
    """Return what is left of each mmap(), in pieces, where munmap() or mmap() tore it."""
    starts: list[int] = []  # of disjoint pieces, sorted
    pieces: list[tuple[int, int, int, int]] = []
    for start, size, allocator, stack in events.tolist():
        end = start + page_count(size) * PAGE_SIZE
        low = max(bisect.bisect_right(starts, start) - 1, 0)
        high = bisect.bisect_left(starts, end)
        new = []
        for at, length, kind, owner in pieces[low:high]:
            if at < start:
                new.append((at, min(length, start - at), kind, owner))
        if allocator == Allocator.MMAP:
            new.append((start, size, allocator, stack))
        for at, length, kind, owner in pieces[low:high]:
            if at + length > end:
                new.append((max(at, end), at + length - max(at, end), kind, owner))
        pieces[low:high] = new
        starts[low:high] = [piece[0] for piece in new]
    return np.array(pieces, EVENT)
