"""Memory that is tracked, by a tracker and by the kernel's own calls, and what both cost."""

import ctypes
import mmap
import os
import statistics
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

import fastpagemap as fpm
from lab import PAGE, Result, Rows, library, readable, table, timed

Run = Callable[[], float]
Tracker = type[fpm.WriteTracker] | type[fpm.AccessTracker]

#: one page of so many is used
ONE_OF = 100

_COLLAPSE = 25  # MADV_COLLAPSE, Linux 6.1


class Bare:
    """The kernel's own calls, in C, on a span of this process."""

    def __init__(self, start: int, end: int, accesses: bool) -> None:
        self._c = library("protection.so")
        for name in ("sweep", "arm", "disarm", "write_pages", "read_pages"):
            getattr(self._c, name).restype = ctypes.c_double
        self.start, self.end = ctypes.c_uint64(start), ctypes.c_uint64(end)
        self._accesses = accesses
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        self._watch = int(checked(self._c.watch(accesses)))
        self._mask = ctypes.create_string_buffer((end - start) // PAGE)

    def close(self) -> None:
        """Close what it holds."""
        os.close(self._pagemap)
        os.close(self._watch)

    def _sweep(self, mask: object) -> float:
        rwp = self._watch if self._accesses else -1
        page = ctypes.c_uint64(PAGE)
        return checked(self._c.sweep(rwp, self._pagemap, self.start, self.end, page, mask))

    def sweep(self) -> float:
        """Answer and protect again; return the seconds."""
        return self._sweep(None)

    def sweep_into_mask(self) -> float:
        """Do the same, and fill a mask of all pages."""
        return self._sweep(self._mask)

    def arm(self) -> float:
        """Register and protect."""
        return checked(
            self._c.arm(self._watch, self._accesses, self._pagemap, self.start, self.end)
        )

    def disarm(self) -> float:
        """Let go of it."""
        return checked(self._c.disarm(self._watch, self.start, self.end))

    def write(self, pages_apart: int = 1) -> float:
        """Write to every so many pages; return the writer's own seconds."""
        step = ctypes.c_uint64(pages_apart * PAGE)
        return checked(self._c.write_pages(self.start, self.end, step))

    def read(self, pages_apart: int = 1) -> float:
        """Read of every so many pages; return the reader's own seconds."""
        step = ctypes.c_uint64(pages_apart * PAGE)
        return checked(self._c.read_pages(self.start, self.end, step))


def checked(seconds: float) -> float:
    """Return the seconds, or raise the error they stand for."""
    if seconds < 0:
        raise OSError(-int(seconds), os.strerror(-int(seconds)))
    return seconds


class Memory:
    """Touched memory of this process, of 4 KiB pages or huge ones, and what is to track it."""

    def __init__(self, size: int, huge: bool, tracker: Tracker) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.map = mmap.mmap(-1, size, flags=flags)
        self.map.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        self.start, self.end = fpm.span(self.map)
        self.huge, self.tracker = huge, tracker
        self.layout = f"{readable(size)}, {'huge' if huge else 'small'} pages"
        self.bare = Bare(self.start, self.end, tracker is fpm.AccessTracker)
        self.bare.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bare.close()
        self.map.close()

    def tracked(self) -> fpm.WriteTracker | fpm.AccessTracker:
        """Return a new tracker of all of it."""
        return self.tracker(self.start, self.end)

    def whole(self) -> None:
        """Have huge pages huge again: the first write to a tracked one makes it small."""
        if self.huge:
            self.map.madvise(_COLLAPSE)

    def some(self) -> None:
        """Write 1 % of it: pages far apart; with huge pages, one part of it in whole."""
        if self.huge:
            part = (self.end - self.start) // ONE_OF // PAGE * PAGE
            ctypes.memset(self.start, 1, part)
        else:
            self.bare.write(ONE_OF)


def turns(before: Callable[[], object], runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the medians of some runs that take turns, each after `before`; the first warms up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            before()
            took = run()
            if turn:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def answers(memory: Memory, done: str, rounds: int, wanted: float) -> list[Result]:
    """Measure the answer about what was `done` with 1 %, against the bare calls."""
    with memory.tracked() as tracker:
        out = np.empty(len(tracker), bool)
        ask = getattr(tracker, done)
        runs: dict[str, Run] = {
            "bare": memory.bare.sweep,
            "bare, into a mask": memory.bare.sweep_into_mask,
            f"{done}()": timed(ask),
            f"{done}(out=)": timed(lambda: ask(out=out)),
            "regions(reset=True)": timed(lambda: tracker.regions(reset=True)),
        }
        cost = turns(memory.some, runs, rounds)
    return judged(memory.layout, f"1 % {done}", cost, wanted)


def arming(memory: Memory, rounds: int, wanted: float) -> list[Result]:
    """Measure the constructor against registering and protecting."""

    def ours() -> float:
        kept = []
        took = timed(lambda: kept.append(memory.tracked()))()
        kept[0].close()
        return took

    def bare() -> float:
        took = memory.bare.arm()
        memory.bare.disarm()
        return took

    name = f"{memory.tracker.__name__}()"
    cost = turns(lambda: None, {"bare": bare, name: ours}, rounds)
    return judged(memory.layout, "arming", cost, wanted)


def users(memory: Memory, verb: str, use: Run, rounds: int, wanted: float) -> list[Result]:
    """Measure the own time of who uses each page for the first time."""

    def ours() -> float:
        memory.whole()
        with memory.tracked():
            return use()

    def bare() -> float:
        memory.whole()
        memory.bare.arm()
        took = use()
        memory.bare.disarm()
        return took

    under = f"under {memory.tracker.__name__}"
    runs: dict[str, Run] = {"bare": bare, under: ours, "not tracked": use}
    cost = turns(lambda: None, runs, rounds)
    pages = (memory.end - memory.start) // PAGE
    each = ", ".join(f"{name} {value / pages * 1e9:.0f}" for name, value in cost.items())
    print(f"\nto {verb} each page for the first time, ns a page: {each} ({memory.layout})")
    del cost["not tracked"]
    return judged(memory.layout, f"first {verb}s", cost, wanted)


def judged(layout: str, case: str, cost: dict[str, float], wanted: float) -> list[Result]:
    """Return each cost as a ratio to the bare calls'; print all of them."""
    bare = cost.pop("bare")
    rows: Rows = [(layout, "ms", "ratio", "target", ""), (f"{case}: bare", ms(bare), "", "", "")]
    results = []
    for name, seconds in cost.items():
        result = Result(layout, f"{case}: {name}", "bare ioctls", seconds / bare, wanted)
        verdict = result.verdict
        if name.startswith("bare"):
            rows.append((f"{case}: {name}", ms(seconds), f"{result.ratio:.3f}", "", ""))
            continue
        results.append(result)
        rows.append((f"{case}: {name}", ms(seconds), f"{result.ratio:.3f}", f"{wanted:g}", verdict))
    table(f"{case}, {layout}", rows)
    return results


def ms(seconds: float) -> str:
    """Return milliseconds as text."""
    return f"{seconds * 1e3:.3f}"
