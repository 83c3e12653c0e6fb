"""One page, a million allocations, and a report of all processes."""

import os
import time
from collections.abc import Iterator

import numpy as np

import bench_cli
import bench_residency
import fastpagemap as fpm
from bench_layouts import NAMES
from goals.rows import Goal, ratio
from lab import GIB, PAGE, Scale, Timer, Work, medians, target

#: times os.pread
ONE_PAGE = 3
#: ns
ALLOCATION = 20
#: calls between two looks at the clock
CALLS = 20


def measured(scale: Scale) -> Iterator[Goal]:
    """Measure each."""
    yield one_page(scale)
    for layout in ("dense", "every 8"):
        yield from residency(layout, scale)
    what, value = bench_cli.everyone(scale)
    yield Goal("report --all", what, "", "its kernel time", "", value, bench_cli.ALL)


def each(work: Work) -> Timer:
    """Return a timer of one of many calls, the clock and the loop spread over all of them."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            work()
        return (time.perf_counter() - began) / CALLS

    return run


def one_page(scale: Scale) -> Goal:
    """Measure the least that can be asked, beside reading its entry from Python."""
    with target("dense", PAGE) as memory, fpm.PageMap(memory.pid) as pm:
        (start, end), out = memory.span, np.zeros(1, bool)
        entries = os.open(f"/proc/{memory.pid}/pagemap", os.O_RDONLY)
        offset = start // PAGE * 8
        try:
            cost = medians(
                {
                    "present": each(lambda: pm.present(start, end, out=out)),
                    "pread": each(lambda: os.pread(entries, 8, offset)),
                },
                scale.rounds,
            )
        finally:
            os.close(entries)
    floor = "os.pread of 8 bytes", cost["pread"]
    return ratio("present(out=)", "one page", cost["present"], *floor, ONE_PAGE)


def residency(layout: str, scale: Scale) -> Iterator[Goal]:
    """Measure allocations in no order, beside the four masks of the memory they are in."""
    with target(layout, min(GIB, scale.size)) as memory, fpm.PageMap(memory.pid) as pm:
        count, contenders = bench_residency.contenders(pm, memory.start, memory.end)
        names = bench_residency.MASKS, bench_residency.UNSORTED
        cost = medians({name: contenders[name] for name in names}, scale.rounds)
    masks, took = (cost[name] for name in names)
    what = f"{count:,} allocations, {NAMES[layout]}"
    row = ratio("residency(out=)", what, took, bench_residency.MASKS, masks, bench_residency.WANTED)
    yield row
    each_ns = took / count * 1e9
    yield row._replace(beside="", floor="", value=each_ns, limit=ALLOCATION, unit="ns each")
