"""What do `swapped` and `masks` cost where nothing at all is swapped out on the machine?"""

import fastpagemap as fpm
import rivals
from bench_layouts import ours
from lab import Rows, Scale, medians, readable, swap_in_use, table, target


def run(scale: Scale) -> None:
    """Measure dense memory, if there is no swap in use."""
    if swap_in_use():
        print("\nwithout any swap in use: not measured, there is some")
        return
    with target("dense", scale.size) as memory, fpm.PageMap(memory.pid) as pm:
        contenders = {rivals.PREAD: rivals.in_c(memory)[rivals.PREAD]} | ours(memory, pm)
        cost = medians(contenders, scale.rounds)
    if swap_in_use():
        print("\nwithout any swap in use: not measured, it was put to use meanwhile")
        return
    rows: Rows = [("", "ms", "of preads")]
    for name in (rivals.PREAD, "swapped(out=)", "masks", "usage(present, swapped)"):
        rows.append((name, f"{cost[name] * 1e3:.3f}", f"{cost[name] / cost[rivals.PREAD]:.4f}"))
    title = f"no swap in use on the machine: {readable(scale.size)} of 4 KiB pages, all touched"
    table(f"{title}, medians of {scale.rounds}", rows)
