"""What does it cost to be sampled 100 times a second, and to sample?

The process that is sampled: how much less it gets done. The one that samples: what it allocates,
and how long it holds the GIL, as another thread of Python sees it.
"""

import itertools
import os
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

import fastpagemap as fpm
from bench_polite import ALONE, Reader, Victim, victim
from lab import GIB, PAGE, Result, Rows, Scale, readable, table, target

EVERY = 0.01
#: what being sampled may cost, and how many us of the GIL a sample may take
LOSS, HELD = 0.01, 50
#: a thread that had no turn for so long did not have the GIL
MIN_PAUSE_NS = 3_000
VICTIMS = {"reads its heap": ("cpu",), "maps and unmaps": ()}

Ask = Callable[[], object]


def questions(pm: fpm.PageMap, start: int, end: int) -> dict[str, Ask]:
    """Return what is sampled."""
    mask = np.ones((end - start) // PAGE, bool)
    heap = [mapping for mapping in pm.mappings() if mapping.start == start]
    fields = ("present", "swapped")
    return {
        "present(out=)": lambda: pm.present(start, end, out=mask),
        "usage([heap], ...)": lambda: pm.usage(heap, fields=fields),
        "usage(present, swapped)": lambda: pm.usage(fields=fields),
    }


def paced(ask: Ask) -> Reader:
    """Ask at fixed times; what was missed is left out."""
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + EVERY, time.monotonic())
        yield ask()


def run(scale: Scale) -> list[Result]:
    """Measure both kinds of victim, then the sampler itself."""
    size = min(GIB, scale.size)
    results: list[Result] = []
    for what, kind in VICTIMS.items():
        with victim(size, size, *kind) as held, fpm.PageMap(held.pid) as pm:
            asks = questions(pm, held.start, held.end)
            results += lost(f"{readable(size)}, {what}", held, asks, scale)
            if kind:
                results += holds(asks, scale)
    results += by_itself(size)
    return results


def lost(name: str, held: Victim, asks: dict[str, Ask], scale: Scale) -> list[Result]:
    """Compare how often the victim gets round under each sampler, who take turns."""
    readers: dict[str, Reader | None] = {ALONE: None}
    readers |= {what: paced(ask) for what, ask in asks.items()}
    rounds: dict[str, list[float]] = {what: [] for what in readers}
    for _ in range(2 * scale.slices):
        for what, reader in readers.items():
            rounds[what].append(held.work(scale.slice / 2, reader)[0])
    rows: Rows = [("sampled 100 times a second", "rounds/s", "of it lost")]
    results = []
    alone = statistics.median(rounds[ALONE])
    for what, counts in rounds.items():
        count = statistics.median(counts)
        rows.append((what, f"{count / scale.slice * 2:,.0f}", f"{1 - count / alone:.2%}"))
        if what != ALONE:
            results.append(Result(name, f"lost under {what}", ALONE, 1 - count / alone, LOSS))
    table(f"a victim of {name}; medians of {2 * scale.slices} times {scale.slice / 2:g} s", rows)
    return results


def holds(asks: dict[str, Ask], scale: Scale) -> list[Result]:
    """Measure what a sample allocates, and how long another thread waits for the GIL."""
    rows: Rows = [("a sample", "us", "us without the GIL for others", "bytes allocated at most")]
    results = []
    idle = os.open("/dev/zero", os.O_RDONLY)
    nothing = {
        "nothing": lambda: None,
        "four times nothing, without the GIL": lambda: [os.pread(idle, 1, 0) for _ in range(4)],
    }
    for what, ask in (nothing | asks).items():
        took, held = gil(ask, max(50, int(100 * scale.slice)))
        ask()
        tracemalloc.start()
        ask()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append((what, f"{took:.0f}", f"{held:.1f}", f"{peak:,}"))
        if what not in nothing:
            results.append(Result("sampler", f"GIL missed under {what}", "us", held, HELD))
    os.close(idle)
    table("the sampler; medians, `nothing` is what changing threads costs by itself", rows)
    return results


def by_itself(size: int) -> list[Result]:
    """Measure the CPU time of a sample where a scan costs nothing: the GIL is held for less."""
    rows: Rows = [("a sample of as much, untouched, no other thread", "us of CPU")]
    results = []
    with target("untouched", size) as memory, fpm.PageMap(memory.pid) as pm:
        for what, ask in questions(pm, memory.start, memory.end).items():
            times = []
            for _ in range(200):
                began = time.thread_time_ns()
                ask()
                times.append(time.thread_time_ns() - began)
            cost = statistics.median(times) / 1e3
            rows.append((what, f"{cost:.1f}"))
            results.append(Result("sampler", f"CPU beside the scan, {what}", "us", cost, HELD))
    table("what the GIL is held for, and the system calls without it", rows)
    return results


def gil(ask: Ask, samples: int) -> tuple[float, float]:
    """Return medians in us: how long a sample takes, and how long another thread has no GIL."""
    gaps: list[tuple[int, int]] = []
    over = threading.Event()

    def watch() -> None:
        last = time.perf_counter_ns()
        while not over.is_set():
            here = time.perf_counter_ns()
            if here - last > MIN_PAUSE_NS:
                gaps.append((last, here))
            last = here

    # the thread that samples asks for the GIL back that soon
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    watcher = threading.Thread(target=watch)
    watcher.start()
    spans = []
    try:
        for _ in range(samples):
            time.sleep(EVERY)
            began = time.perf_counter_ns()
            ask()
            spans.append((began, time.perf_counter_ns()))
    finally:
        over.set()
        watcher.join()
        sys.setswitchinterval(interval)
    held = [
        sum(min(end, high) - max(start, low) for low, high in gaps if low < end and start < high)
        for start, end in spans
    ]
    took = [end - start for start, end in spans]
    return statistics.median(took) / 1e3, statistics.median(held) / 1e3


if __name__ == "__main__":
    from lab import FULL, QUICK

    run(QUICK if "--quick" in itertools.islice(sys.argv, 1, None) else FULL)
