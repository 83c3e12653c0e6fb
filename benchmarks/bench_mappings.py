"""What do many small mappings cost?"""

import fastpagemap as fpm
import rivals
from bench_layouts import ANYTHING
from lab import PAGE, Result, Rows, Scale, Timer, medians, table, target, timed

#: what all columns may take, in times of reading smaps
OF_SMAPS = 0.5


def run(scale: Scale) -> list[Result]:
    """Measure questions about a process of many mappings of a page each."""
    with (
        target("small mappings", scale.small_mappings * PAGE) as memory,
        fpm.PageMap(memory.pid) as pm,
    ):
        cost = medians(contenders(pm) | others(memory.pid) | rivals.of_process(memory),
                       scale.rounds)  # fmt: skip
    text, smaps = cost["maps, only read"], cost[rivals.SMAPS]
    rows: Rows = [("", "ms", "of maps", "of smaps")]
    for name, seconds in cost.items():
        ratios = (seconds / text, seconds / smaps)
        rows.append((name, f"{seconds * 1e3:.2f}", *(f"{ratio:.2f}" for ratio in ratios)))
    title = f"{scale.small_mappings:,} mappings of a page each"
    table(f"{title}; medians of {scale.rounds}", rows)
    full, both = "usage()", "usage(present, swapped)"
    return [
        Result(title, full, rivals.SMAPS, cost[full] / smaps, OF_SMAPS),
        Result(title, both, rivals.ROLLUP, cost[both] / cost[rivals.ROLLUP], ANYTHING),
    ]


def contenders(pm: fpm.PageMap) -> dict[str, Timer]:
    """Return questions about the whole process, and about one small part of it."""
    present = fpm.Category.PRESENT
    return {
        "mappings()": timed(pm.mappings),
        "usage(present, swapped)": timed(lambda: pm.usage(fields=("present", "swapped"))),
        "usage()": timed(pm.usage),
        "regions(present)": timed(lambda: pm.regions(mask=present, returns=present)),
    }


def others(pid: int) -> dict[str, Timer]:
    """Return what it takes to read the list of mappings alone."""

    def text() -> None:
        with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
            while file.read(1 << 16):
                pass

    return {"maps, only read": timed(text)}
