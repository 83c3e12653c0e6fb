"""Tell what this process writes, again and again, from a thread: ``fastpagemap writes SCRIPT``."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastpagemap.model.entry import Category
from fastpagemap.model.mapping import KERNEL_PATHS, Mapping
from fastpagemap.pagemap import PageMap
from fastpagemap.tracking import WriteTracker

__all__ = ["OwnWrites", "telling"]

#: Stretches of memory tracked at a time, the largest.
MAX_STRETCHES = 128
# Each tracker holds four descriptors: of those that there may be, the program keeps half.
_DESCRIPTORS_EACH = 8
_THERE = Category.PRESENT | Category.SWAPPED
_SHARED_MEMORY = ("/dev/zero", "/memfd:", "/dev/shm/", "/SYSV")


class Stretch(NamedTuple):
    """Writable memory of one kind without a gap."""

    start: int
    end: int
    path: str
    shared: bool


class _Pipe(NamedTuple):
    """What the command reads; the program may close it, and get its number for another file."""

    fd: int
    made: os.stat_result

    def put(self, words: list[object]) -> None:
        """Write a line; BrokenPipeError where the pipe is gone."""
        data = json.dumps(words).encode() + b"\n"
        while data:
            try:
                there = os.path.samestat(os.fstat(self.fd), self.made)
            except OSError:
                there = False
            if not there:
                raise BrokenPipeError
            data = data[os.write(self.fd, data) :]


def telling(fd: int, interval: float) -> Callable[[], None]:
    """Write a line of JSON to `fd` each interval; return what writes the last one.

    Each has the time, the seconds that it is about, and the bytes written, by path. Where nothing
    can be tracked, the first line is the reason.
    """
    os.set_inheritable(fd, False)
    pipe, ended = _Pipe(fd, os.fstat(fd)), threading.Event()
    try:
        writes = OwnWrites()
    except OSError as error:
        pipe.put([error.errno, error.strerror])
        return lambda: None
    thread = threading.Thread(
        target=_tell, args=(pipe, interval, writes, ended), name="fastpagemap", daemon=True
    )
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    return end


def _tell(pipe: _Pipe, interval: float, writes: OwnWrites, ended: threading.Event) -> None:
    began = looked = time.monotonic()
    last = False
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        while not last:
            last = ended.wait(max(0.0, looked + interval - time.monotonic()))
            reason: OSError | MemoryError | None = None
            try:
                sums = writes.since()
            except (OSError, MemoryError) as error:  # the program may have used up what there is
                reason = error
            looked = time.monotonic()
            if reason is None:
                pipe.put([time.time(), looked - began, sums])
                began = looked
            elif last:
                pipe.put(_in_words(reason))


def _in_words(reason: OSError | MemoryError) -> list[object]:
    if isinstance(reason, OSError):
        return [reason.errno, reason.strerror]
    return [errno.ENOMEM, f"no memory to look at what was written: {reason}"]


class OwnWrites:
    """What this process writes, by path: a tracker for each writable stretch of memory.

    Memory that is mapped anew counts with what is there of it. What was mapped, written and
    unmapped between two looks is not seen.
    """

    def __init__(self) -> None:
        self._trackers: dict[Stretch, WriteTracker] = {}
        self._refused: set[Stretch] = set()
        # What a call has found that then failed: the next one tells it.
        self._sums: Counter[str] = Counter()
        self._pagemap = PageMap()
        WriteTracker(0, 0).close()  # raises where this kernel or user cannot track
        self._follow()

    def since(self) -> dict[str, int]:
        """Return the bytes written since the last call that did not fail, by path, largest first.

        OSError, MemoryError: it cannot be told now.
        """
        sums = self._sums
        for stretch, tracker in self._trackers.items():
            with contextlib.suppress(OSError):  # part of it has been unmapped
                sums[stretch.path] += _size(tracker.regions(reset=True))
        for path, size in self._follow():
            sums[path] += size
        self._sums = Counter()
        return {path: size for path, size in sums.most_common() if size}

    def _follow(self) -> list[tuple[str, int]]:
        """Track what is mapped now; return paths, and what is there of new memory."""
        wanted = _stretches(self._pagemap.mappings())
        old = [stretch for stretch in self._trackers if stretch not in wanted]
        for stretch in old:
            self._trackers.pop(stretch).close()
        self._refused &= set(wanted)
        new = [each for each in wanted if each not in self._trackers]
        found = []
        for stretch in new:
            if stretch in self._refused:
                continue
            # Before it is tracked: protection leaves markers that look like swapped pages.
            there = sum(self._there(stretch, *part) for part in _without(stretch, old))
            try:
                self._trackers[stretch] = WriteTracker(stretch.start, stretch.end)
                found.append((stretch.path, there))
            except (OSError, ValueError, MemoryError):  # a device's, unmapped meanwhile, too large
                self._refused.add(stretch)
        return found

    def _there(self, stretch: Stretch, start: int, end: int) -> int:
        """Return how many bytes of new memory are there, and not only because they were read."""
        unlike = Category.PFNZERO
        if not stretch.shared:
            unlike |= Category.FILE
        elif not stretch.path.startswith(_SHARED_MEMORY):
            return 0
        return _size(
            self._pagemap.regions(start, end, mask=unlike, inverted=unlike, anyof=_THERE, returns=0)
        )


def _size(regions: Any) -> int:
    return int((regions["end"] - regions["start"]).sum())


def _without(stretch: Stretch, others: list[Stretch]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a stretch that are in none of the others."""
    at = stretch.start
    for other in sorted(others):
        if at < other.end and other.start < stretch.end:
            if at < other.start:
                yield at, other.start
            at = other.end
    if at < stretch.end:
        yield at, stretch.end


def _stretches(mappings: list[Mapping]) -> list[Stretch]:
    """Return what may be written, neighbours of one kind as one; of many, the largest."""
    found: list[Stretch] = []
    for each in mappings:
        if not each.writable or each.path.startswith(KERNEL_PATHS):
            continue
        new = Stretch(each.start, each.end, each.path, each.shared)
        if found and found[-1][1:] == (new.start, *new[2:]):
            new = new._replace(start=found.pop().start)
        found.append(new)
    return sorted(found, key=lambda each: each.start - each.end)[: _affordable()]


def _affordable() -> int:
    """Return how many stretches can be tracked, so that the program can still open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_STRETCHES if limit < 0 else min(MAX_STRETCHES, limit // _DESCRIPTORS_EACH)
