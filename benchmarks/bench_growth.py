"""How does the cost of asking grow with the memory asked about, from one page on?"""

import numpy as np

import fastpagemap as fpm
import rivals
from lab import GIB, Rows, Scale, Target, Timer, affordable, medians, readable, table, target, timed

#: sizes up to which a tool that reads page by page is waited for
PATIENCE = GIB


def contenders(memory: Target, pm: fpm.PageMap) -> dict[str, Timer]:
    """Return who is followed through all sizes: those of a span first, of the process then."""
    span = memory.span
    mask = np.ones(memory.pages, bool)
    mappings = [m for m in pm.mappings() if m.start < span[1] and m.end > span[0]]
    found = {
        rivals.PREAD: rivals.in_c(memory)[rivals.PREAD],
        "present(out=)": timed(lambda: pm.present(*span, out=mask)),
        "swapped(out=)": timed(lambda: pm.swapped(*span, out=mask)),
        "usage(present, swapped)": timed(lambda: pm.usage(mappings, fields=("present", "swapped"))),
        "read": timed(lambda: pm.read(*span)),
    }
    found |= rivals.of_span(memory)
    del found[rivals.FILLED]
    found |= rivals.of_process(memory, one_by_one=memory.end - memory.start <= PATIENCE)
    return found


def run(scale: Scale) -> dict[str, list[tuple[int, float]]]:
    """Measure every size; print a table, and return each contender's (size, seconds)."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for size in scale.sizes:
        if not affordable(size):
            print(f"\n{readable(size)}: not measured, there is not so much memory")
            continue
        with target("dense", size) as memory, fpm.PageMap(memory.pid) as pm:
            cost = medians(contenders(memory, pm), scale.rounds)
        for name, seconds in cost.items():
            curves.setdefault(name, []).append((size, seconds))
    sizes = sorted({size for curve in curves.values() for size, _ in curve})
    rows: Rows = [("microseconds", *map(readable, sizes))]
    for name, curve in curves.items():
        cells = [f"{dict(curve)[size] * 1e6:.4g}" if size in dict(curve) else "" for size in sizes]
        rows.append((name, *cells))
    table(f"4 KiB pages, all touched: growing, medians of {scale.rounds}", rows)
    return curves
