"""What does soft_dirty cost, where the kernel has such bits?

Debian's kernels for amd64 have them. In a virtual machine:

    make test-kernels KERNELS="6.12 7" RUN="benchmarks --quick soft_dirty"
"""

import ctypes
import mmap

import numpy as np

import fastpagemap as fpm
from lab import MIB, PAGE, Floor, Result, Rows, Scale, Timer, medians, readable, table, timed

#: of a bare scan
WANTED = 1.15
BIT = fpm.Category.SOFT_DIRTY
#: the steps in which pages are written after the bits were cleared
STEPS = {"1 % written": 100, "every 8th written": 8, "every 2nd written": 2, "all written": 1}
#: layouts of which nothing is written
UNTOUCHED, CLEAN = "new, untouched", "none written"
#: a virtual machine has little memory
MOST = 512 * MIB


def run(scale: Scale) -> list[Result]:
    """Measure this process's own memory, written and left alone in several ways."""
    if not fpm.capabilities().soft_dirty:
        print("\nsoft_dirty: not measured, no soft-dirty bits here (CONFIG_MEM_SOFT_DIRTY)")
        return []
    if BIT not in fpm.capabilities().categories:
        print("\nsoft_dirty: not measured, nothing to compare with (PAGEMAP_SCAN, Linux 6.7)")
        return []
    size = min(scale.size, MOST)
    results = []
    rows: Rows = [("", "bare scan, ms", "soft_dirty(out=), ms", "ratio", "target", "")]
    for layout in (UNTOUCHED, CLEAN, *STEPS):
        cost = _measured(layout, size, scale.rounds)
        ratio = cost["ours"] / cost["bare"]
        result = Result(layout, "soft_dirty(out=)", "bare scan", ratio, WANTED)
        cells = (f"{cost[name] * 1e3:.3f}" for name in ("bare", "ours"))
        judged = layout != UNTOUCHED  # there the scan takes no time at all, and a call some
        results += [result] * judged
        verdict = (f"{WANTED:g}", result.verdict) if judged else ("", "")
        rows.append((layout, *cells, f"{ratio:.2f}", *verdict))
    table(f"soft_dirty of {readable(size)} in 4 KiB pages, medians of {scale.rounds}", rows)
    return results


def _measured(layout: str, size: int, rounds: int) -> dict[str, float]:
    """Return the seconds of the C loop and of ours over memory of a layout."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, size, flags=flags) as memory, fpm.PageMap() as pm:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        start, end = fpm.span(memory)
        if layout != UNTOUCHED:
            ctypes.memset(start, 1, size)
            pm.clear_soft_dirty()
        if layout in STEPS:
            for address in range(start, end, STEPS[layout] * PAGE):
                ctypes.memset(address, 2, 1)
        floor, out = Floor(pm.pid), np.empty(size // PAGE, bool)
        contenders: dict[str, Timer] = {
            "bare": lambda: floor.scan(start, end, 0, 0, BIT, BIT),
            "ours": timed(lambda: pm.soft_dirty(start, end, out=out)),
        }
        cost = medians(contenders, rounds)
        if layout in STEPS:
            assert out.sum() == -(-len(out) // STEPS[layout])
        return cost
