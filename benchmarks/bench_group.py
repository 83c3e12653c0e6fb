"""What does it cost to count processes as one? Beside a C loop of the same reads."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fastpagemap as fpm
from bench_layouts import ANYTHING
from lab import (
    CHUNK,
    GIB,
    KIB,
    MIB,
    PAGE,
    Floor,
    Result,
    Rows,
    Scale,
    Timer,
    Work,
    affordable,
    library,
    medians,
    readable,
    table,
    target,
    timed,
)

PROCESSES = 8
FLOOR = "C: all entries, and once the counts of the frames"
ENTRIES = "C: all entries"
OF_FLOOR, OF_ENTRIES = 1.3, 1.2
BYTES_A_FRAME = 16.0


def run(scale: Scale) -> list[Result]:
    """Measure groups, and the share of a process that shares nothing."""
    if os.geteuid() != 0:
        print("\ngroups are left out: they take root")
        return []
    return [*shared(scale), *dense(scale)]


@contextlib.contextmanager
def sharing(size: int) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Fork processes that map the same shared memory, each all of it."""
    file = os.memfd_create("shared")
    os.ftruncate(file, size)
    for _ in range(size // (16 * MIB) or 1):
        os.write(file, b"x" * min(size, 16 * MIB))
    place = np.memmap(f"/proc/self/fd/{file}", np.uint8, "r+", shape=(size,))
    span = fpm.span(place)
    pids, ready = [], os.pipe()
    try:
        for _ in range(PROCESSES):
            pid = os.fork()
            if pid == 0:
                # From here on this child only touches its memory and waits to be killed.
                place[::PAGE] = 1
                os.write(ready[1], b"x")
                while True:
                    signal.pause()
            pids.append(pid)
        for _ in pids:
            os.read(ready[0], 1)
        yield pids, span
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (*ready, file):
            os.close(fd)


def shared(scale: Scale) -> list[Result]:
    """Measure 8 processes that share 1 GiB."""
    size = min(scale.size, GIB)
    with sharing(size) as (pids, span), fpm.Group(pids) as group:
        entries = [Floor(pid) for pid in pids]
        pfns = np.unique(fpm.PageMap(pids[0]).read(*span).pfn)
        count = counts_of(pfns)

        def floor() -> float:
            return sum(each.read(*span) for each in entries) + count()

        cost = medians(
            {
                FLOOR: floor,
                "Group.total": timed(group.total),
                "Group.usage": timed(group.usage),
                "Group.overlap": timed(group.overlap),
            },
            scale.rounds,
        )
        added = peak_bytes(group.total)
        frames = int(group.total()["union"]) // PAGE
    title = f"{PROCESSES} processes that share {readable(size)}"
    report(title, cost, cost[FLOOR], PROCESSES * size // PAGE)
    print(f"  to count {frames:,} distinct frames takes {added / frames:.1f} bytes each, at most")
    return [
        Result(title, "Group.total", FLOOR, cost["Group.total"] / cost[FLOOR], OF_FLOOR),
        Result(title, "Group.usage", FLOOR, cost["Group.usage"] / cost[FLOOR], ANYTHING),
        Result(title, "bytes a distinct frame", "(bytes)", added / frames, BYTES_A_FRAME),
    ]


def peak_bytes(work: Work) -> int:
    """Return how much more memory this process needs while it works than before."""
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Return a size in this process's status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * KIB


def counts_of(pfns: np.ndarray) -> Timer:
    """Return a C loop that reads the counts of as many frames as these, in as many runs."""
    counts = os.open("/proc/kpagecount", os.O_RDONLY)
    read = library("floor.so").floor_read
    read.argtypes = [ctypes.c_int, *[ctypes.c_uint64] * 3, ctypes.c_void_p]
    read.restype = ctypes.c_double
    edges = np.flatnonzero(np.diff(pfns) > 1) + 1
    runs = [(int(run[0]), len(run)) for run in np.split(pfns, edges)]
    return lambda: sum(read(counts, first * PAGE, size, CHUNK, None) for first, size in runs)


def dense(scale: Scale) -> list[Result]:
    """Measure a process that shares nothing."""
    size = scale.size
    while not affordable(size):
        size //= 2
    with target("dense", size) as memory, fpm.PageMap(memory.pid) as pm:
        entries = Floor(memory.pid)
        cost = medians(
            {
                ENTRIES: lambda: entries.read(*memory.span),
                "usage, pss and uss": timed(lambda: pm.usage(fields=["pss", "uss"])),
                "Group.total": timed(fpm.Group([memory.pid]).total),
            },
            scale.rounds,
        )
    title = f"{readable(size)} of one process's own"
    report(title, cost, cost[ENTRIES], memory.pages)
    ratio = cost["usage, pss and uss"] / cost[ENTRIES]
    return [Result(title, "usage, pss and uss", ENTRIES, ratio, OF_ENTRIES)]


def report(title: str, cost: dict[str, float], floor: float, pages: int) -> None:
    """Print what each took."""
    rows: Rows = [("", "ms", "ns a page", "of the C loop")]
    for name, took in cost.items():
        each = f"{took / pages * 1e9:.1f}"
        rows.append((name, f"{took * 1e3:.1f}", each, f"{took / floor:.2f}"))
    table(title, rows)
