"""Which allocations in a capture file of memray are alive, where they are, and who made them.

memray's own answers (leaks, high water mark) are sums; only its list of all events has addresses.
What is alive at its end is found here, for millions of events, by sorting them.
"""

from __future__ import annotations

import bisect
import logging
import os
import site
import sysconfig
from collections.abc import Iterator
from typing import Any, NamedTuple

import memray
import numpy as np
import numpy.typing as npt
from memray import AllocatorType as Allocator

from ..model.entry import PAGE_SIZE, page_count

__all__ = ["EVENT", "FREES", "Allocator", "Site", "alive", "read"]

Array = npt.NDArray[Any]
EVENT = np.dtype([("address", "u8"), ("size", "u8"), ("allocator", "u1"), ("stack", "u8")])
FREES = (Allocator.FREE, Allocator.PYMALLOC_FREE)
MAPS = (Allocator.MMAP, Allocator.MUNMAP)
NO_STACK = frozenset(map(int, (*FREES, Allocator.MUNMAP)))
LIBRARIES = tuple(
    os.path.join(directory, "")
    for directory in (sysconfig.get_path("stdlib"), *site.getsitepackages())
)


class Site(NamedTuple):
    """A line of source that allocates."""

    function: str
    file: str
    line: int


NATIVE = Site("(a thread without Python frames)", "", 0)


def read(capture: str, starter: str) -> tuple[Array, dict[int, Site]]:
    """Return all events of a capture file in order (EVENT), and the call site of each stack.

    Of memray's answers this is the only one with addresses: the others are sums already.
    `starter` is the file that ran the program: its lines are no call sites.
    """
    first: dict[int, Any] = {}
    # a program that was stopped may have been in the midst of its last record: that one is left out
    memray.set_log_level(logging.CRITICAL)  # type: ignore[attr-defined]

    def events() -> Iterator[tuple[int, int, int, int]]:
        with memray.FileReader(capture) as reader:
            for record in reader.get_allocation_records():
                allocator, stack = record.allocator, record.stack_id
                if stack not in first and allocator not in NO_STACK:
                    first[stack] = record
                yield record.address, record.size, allocator, stack

    answer = np.fromiter(events(), EVENT)
    return answer, {
        stack: call_site(record.stack_trace(), starter) for stack, record in first.items()
    }


def call_site(frames: list[tuple[str, str, int]], starter: str) -> Site:
    """Return the innermost line that is not in an installed library: there it can be changed."""
    sites = [Site(*frame) for frame in frames if not frame[1].startswith("<frozen ")]
    if sites and sites[-1].file == starter:
        sites = [each for each in sites if each.file != starter] or sites[:1]
    for each in sites:
        if not each.file.startswith(LIBRARIES):
            return each
    return sites[0] if sites else NATIVE


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
