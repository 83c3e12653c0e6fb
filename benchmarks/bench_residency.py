"""What does it cost to tell of a million allocations how much of each is in RAM?

Next to the masks that the answer is made of, and to `PageMap.masks`, of the same memory.
"""

import numpy as np

import fastpagemap as fpm
from lab import GIB, Result, Rows, Scale, Timer, medians, readable, table, target, timed

AVERAGE = 1024
#: of the masks' cost
WANTED = 3
MASKS, UNSORTED = "the four masks", "residency(out=)"
COLUMNS = ("present", "swapped", "shared", "exclusive")


def run(scale: Scale) -> list[Result]:
    """Measure memory all touched, and in pieces; allocations in order, and in none."""
    size = min(GIB, scale.size)
    results = []
    for layout in ("dense", "every 8"):
        with target(layout, size) as memory, fpm.PageMap(memory.pid) as pm:
            results += compare(layout, pm, memory.start, memory.end, scale.rounds)
    return results


def contenders(pm: fpm.PageMap, start: int, end: int) -> tuple[int, dict[str, Timer]]:
    """Return how many allocations there are, the masks of their memory, and ways to ask."""
    count = (end - start) // AVERAGE
    chance = np.random.default_rng(1)
    sizes = chance.exponential(AVERAGE, count).astype(np.uint64)
    anywhere = chance.integers(start, end - 64 * AVERAGE, count).astype(np.uint64)
    in_order = np.sort(anywhere)
    rows_ = np.zeros(count, fpm.RESIDENCY_DTYPE)
    out = np.zeros((end - start) // fpm.PAGE_SIZE, bool)

    def masks() -> None:
        for name in COLUMNS:
            getattr(pm, name)(start, end, out=out)

    return count, {
        MASKS: timed(masks),
        "PageMap.masks": timed(lambda: pm.masks(start, end)),
        "residency": timed(lambda: pm.residency(anywhere, sizes)),
        UNSORTED: timed(lambda: pm.residency(anywhere, sizes, out=rows_)),
        "residency(out=), sorted": timed(lambda: pm.residency(in_order, sizes, out=rows_)),
    }


def compare(layout: str, pm: fpm.PageMap, start: int, end: int, rounds: int) -> list[Result]:
    """Time one layout."""
    count, asked = contenders(pm, start, end)
    cost = medians(asked, rounds)
    base = cost[MASKS]
    rows: Rows = [("", "ms", "of the four masks", "ns/allocation")]
    results = []
    for name, value in cost.items():
        per = f"{value / count * 1e9:.1f}" if name.startswith("residency") else ""
        rows.append((name, f"{value * 1e3:.2f}", f"{value / base:.2f}", per))
        if per:
            results.append(Result(layout, name, MASKS, value / base, WANTED))
    what = f"{count:,} allocations of {AVERAGE} bytes on average in {readable(end - start)}"
    table(f"{what}, {layout}; medians of {rounds}", rows)
    return results
