"""What does soft_dirty cost, where the kernel has such bits?

Debian's kernels for amd64 have them. In a virtual machine:

    make test-kernels KERNELS="6.12 7" RUN="benchmarks soft_dirty"

The emulated processor takes a millisecond for a call by itself, before a page is looked at, and a
bare scan of 512 MiB takes two. So a call over as much untouched memory is measured as well: no call
can take less than that and the bare scan.
"""

import contextlib
import ctypes
import mmap

import numpy as np

import fastpagemap as fpm
from lab import MIB, PAGE, Floor, Result, Rows, Scale, Timer, medians, readable, table, timed

#: of a bare scan and a call over untouched memory
WANTED = 1.15
BIT = fpm.Category.SOFT_DIRTY
#: the steps in which pages are written after the bits were cleared
STEPS = {"1 % written": 100, "every 8th written": 8, "every 2nd written": 2, "all written": 1}
CLEAN = "none written"
#: a virtual machine has little memory
MAX_BYTES = 512 * MIB


def run(scale: Scale) -> list[Result]:
    """Measure this process's own memory, written and left alone in several ways."""
    if not fpm.capabilities().soft_dirty:
        print("\nsoft_dirty: not measured, no soft-dirty bits here (CONFIG_MEM_SOFT_DIRTY)")
        return []
    if BIT not in fpm.capabilities().categories:
        print("\nsoft_dirty: not measured, nothing to compare with (PAGEMAP_SCAN, Linux 6.7)")
        return []
    size = min(scale.size, MAX_BYTES)
    results = []
    head = ("bare scan, ms", "untouched, ms", "soft_dirty(out=), ms", "of the scan", "of both")
    rows: Rows = [("", *head, "target", "")]
    for layout in (CLEAN, *STEPS):
        cost = _measured(layout, size, scale.rounds)
        floor = cost["bare"] + cost["untouched"]
        result = Result(layout, "soft_dirty(out=)", "scan and call", cost["ours"] / floor, WANTED)
        results.append(result)
        cells = [f"{cost[name] * 1e3:.3f}" for name in ("bare", "untouched", "ours")]
        cells += [f"{cost['ours'] / cost['bare']:.2f}", f"{result.ratio:.2f}"]
        rows.append((layout, *cells, f"{WANTED:g}", result.verdict))
    table(f"soft_dirty of {readable(size)} in 4 KiB pages, medians of {scale.rounds}", rows)
    return results


def _measured(layout: str, size: int, rounds: int) -> dict[str, float]:
    """Return the seconds of the C loop and of ours over memory of a layout, and of an empty call.

    They take turns: each finds the processor's caches as a scan has left them.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with contextlib.ExitStack() as stack:
        memory, untouched = (stack.enter_context(mmap.mmap(-1, size, flags=flags)) for _ in "12")
        pm = stack.enter_context(fpm.PageMap())
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        start, end = fpm.span(memory)
        ctypes.memset(start, 1, size)
        pm.clear_soft_dirty()
        if layout in STEPS:
            for address in range(start, end, STEPS[layout] * PAGE):
                ctypes.memset(address, 2, 1)
        floor, out = Floor(pm.pid), np.empty(size // PAGE, bool)
        contenders: dict[str, Timer] = {
            "untouched": timed(lambda: pm.soft_dirty(untouched, out=out)),
            "bare": lambda: floor.scan(start, end, 0, 0, BIT, BIT),
            "ours": timed(lambda: pm.soft_dirty(start, end, out=out)),
        }
        cost = medians(contenders, rounds)
        assert out.sum() == (-(-len(out) // STEPS[layout]) if layout in STEPS else 0)
        return cost
