"""What do write-tracking's answers cost, arming, and the writer; next to the kernel's own calls?"""

import ctypes
import gc
import mmap
import os
import statistics
import tracemalloc
from collections.abc import Callable

import numpy as np

import fastpagemap as fpm
from lab import PAGE, Result, Rows, Scale, compiled, readable, table, timed

#: how often what the kernel takes an answer, or arming, may take
ANSWER = ARMING = 1.15
#: and the writer
WRITER = 1.05
#: KiB that an answer may allocate, beside its result
ALLOCATED = 4.0
#: one page of so many is written
ONE_OF = 100

_COLLAPSE = 25  # MADV_COLLAPSE, Linux 6.1

Run = Callable[[], float]


class Bare:
    """The kernel's own calls, in C, on a span of this process."""

    def __init__(self, start: int, end: int) -> None:
        self._c = ctypes.CDLL(str(compiled("writes.so", "-shared", "-fPIC")))
        for name in ("sweep", "arm", "disarm", "write_pages"):
            getattr(self._c, name).restype = ctypes.c_double
        self.start, self.end = ctypes.c_uint64(start), ctypes.c_uint64(end)
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        self._watch = self._c.watch()
        if self._watch < 0:
            raise OSError(-self._watch, os.strerror(-self._watch), "userfaultfd")

    def close(self) -> None:
        """Close what it holds."""
        os.close(self._pagemap)
        os.close(self._watch)

    def sweep(self) -> float:
        """Answer and protect again; return the seconds."""
        return checked(self._c.sweep(self._pagemap, self.start, self.end, 1))

    def arm(self) -> float:
        """Register and protect."""
        return checked(self._c.arm(self._watch, self._pagemap, self.start, self.end))

    def disarm(self) -> float:
        """Let go of it."""
        return checked(self._c.disarm(self._watch, self.start, self.end))

    def write(self, pages_apart: int = 1) -> float:
        """Write to every so many pages; return the writer's own seconds."""
        step = ctypes.c_uint64(pages_apart * PAGE)
        return checked(self._c.write_pages(self.start, self.end, step))


def checked(seconds: float) -> float:
    """Return the seconds, or raise the error they stand for."""
    if seconds < 0:
        raise OSError(-int(seconds), os.strerror(-int(seconds)))
    return seconds


class Memory:
    """Touched memory of this process: of 4 KiB pages, or huge ones."""

    def __init__(self, size: int, huge: bool) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.map = mmap.mmap(-1, size, flags=flags)
        self.map.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
        self.start, self.end = fpm.span(self.map)
        self.huge = huge
        self.bare = Bare(self.start, self.end)
        self.bare.write()

    def close(self) -> None:
        """Unmap it."""
        self.bare.close()
        self.map.close()

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


def answers(memory: Memory, layout: str, rounds: int) -> list[Result]:
    """Measure `written` with 1 % written, against the bare calls on memory tracked alike."""
    with fpm.WriteTracker(memory.start, memory.end) as tracker:
        out = np.empty(len(tracker), bool)
        runs: dict[str, Run] = {
            "bare": memory.bare.sweep,
            "written()": timed(tracker.written),
            "written(out=)": timed(lambda: tracker.written(out=out)),
            "regions(reset=True)": timed(lambda: tracker.regions(reset=True)),
        }
        cost = turns(memory.some, runs, rounds)
    return judged(layout, "1 % written", cost, ANSWER)


def arming(memory: Memory, layout: str, rounds: int) -> list[Result]:
    """Measure the constructor against registering and one scan that protects."""

    def ours() -> float:
        kept = []
        took = timed(lambda: kept.append(fpm.WriteTracker(memory.start, memory.end)))()
        kept[0].close()
        return took

    def bare() -> float:
        took = memory.bare.arm()
        memory.bare.disarm()
        return took

    cost = turns(lambda: None, {"bare": bare, "WriteTracker()": ours}, rounds)
    return judged(layout, "arming", cost, ARMING)


def writers(memory: Memory, layout: str, rounds: int) -> list[Result]:
    """Measure a writer's own time for the first write to each page."""

    def ours() -> float:
        memory.whole()
        with fpm.WriteTracker(memory.start, memory.end):
            return memory.bare.write()

    def bare() -> float:
        memory.whole()
        memory.bare.arm()
        took = memory.bare.write()
        memory.bare.disarm()
        return took

    runs: dict[str, Run] = {
        "bare": bare,
        "under WriteTracker": ours,
        "not tracked": memory.bare.write,
    }
    cost = turns(lambda: None, runs, rounds)
    pages = (memory.end - memory.start) // PAGE
    each = ", ".join(f"{name} {value / pages * 1e9:.0f}" for name, value in cost.items())
    print(f"\na writer's first write to each page, ns: {each} ({layout})")
    del cost["not tracked"]
    return judged(layout, "first writes", cost, WRITER)


def allocated(memory: Memory, layout: str) -> list[Result]:
    """Measure the most that an answer allocates, beside its result."""
    results = []
    with fpm.WriteTracker(memory.start, memory.end) as tracker:
        out = np.empty(len(tracker), bool)
        calls = {
            "written()": (len(tracker), tracker.written),
            "written(out=)": (0, lambda: tracker.written(out=out)),
        }
        for name, (size, call) in calls.items():
            memory.some()
            call()
            memory.some()
            gc.collect()
            tracemalloc.start()
            kept = call()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            del kept
            kib = (peak - size) / 1024
            results.append(Result(layout, name, "KiB beside its result", kib, ALLOCATED))
    return results


def judged(layout: str, case: str, cost: dict[str, float], wanted: float) -> list[Result]:
    """Return each cost as a ratio to the bare calls'; print all of them."""
    bare = cost.pop("bare")
    rows: Rows = [(layout, "ms", "ratio", "target", ""), (f"{case}: bare", ms(bare), "", "", "")]
    results = []
    for name, seconds in cost.items():
        result = Result(layout, f"{case}: {name}", "bare ioctls", seconds / bare, wanted)
        results.append(result)
        numbers = (f"{result.ratio:.3f}", f"{wanted:g}", result.verdict)
        rows.append((f"{case}: {name}", ms(seconds), *numbers))
    table(f"{case}, {layout}", rows)
    return results


def ms(seconds: float) -> str:
    """Return milliseconds as text."""
    return f"{seconds * 1e3:.3f}"


def run(scale: Scale) -> list[Result]:
    """Measure memory of small and of huge pages, of this process itself."""
    results: list[Result] = []
    if not fpm.capabilities().userfaultfd_wp_async:
        print("\nno write-tracking is measured: it takes Linux 6.7, and userfaultfd allowed")
        return results
    for huge in (False, True):
        layout = f"{readable(scale.size)}, {'huge' if huge else 'small'} pages"
        memory = Memory(scale.size, huge)
        try:
            # the first write to a huge page makes it small: what wants them huge comes first
            results += arming(memory, layout, scale.rounds)
            results += answers(memory, layout, scale.rounds)
            results += allocated(memory, layout)
            results += writers(memory, layout, max(3, scale.rounds // 2))
        finally:
            memory.close()
    return results
