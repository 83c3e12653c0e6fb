"""What does each question cost on memory of each layout, next to C loops and the other tools?"""

import numpy as np

import fastpagemap as fpm
import rivals
from lab import (
    Result,
    Rows,
    Scale,
    Target,
    Timer,
    about,
    medians,
    readable,
    swap_in_use,
    table,
    target,
    timed,
)

LAYOUTS = (
    "dense",
    "every 2",
    "every 8",
    "every 512",
    "huge",
    "untouched",
    "swapped 16",
    "swapped 1",
)
#: what they are called where people read it
NAMES = {
    "dense": "4 KiB pages, all touched",
    "every 2": "every 2nd page touched",
    "every 8": "every 8th page touched",
    "every 512": "every 512th page touched",
    "huge": "huge pages",
    "untouched": "never touched",
    "swapped 16": "half swapped, runs of 16 pages",
    "swapped 1": "half swapped, every 2nd page",
}
#: the library's calls, and the C loop that asks the very same
OURS = {
    "present(out=)": rivals.IOCTL_PRESENT,
    "swapped(out=)": rivals.IOCTL_SWAPPED,
    "masks": None,
    "usage(present, swapped)": rivals.IOCTL_BOTH,
    "usage()": None,
    "regions(present)": rivals.IOCTL_REGIONS,
    "read(out=)": rivals.KEPT,
}
#: ratios to the C loop of preads; 1.1 for everything else
_SPARSE = {"present(out=)": 0.55, "swapped(out=)": 0.55}
_HALF = {"present(out=)": 0.6, "swapped(out=)": 0.6}
TARGETS = {
    "dense": {
        "present(out=)": 0.15,
        "swapped(out=)": 0.15,
        "masks": 0.35,
        "usage(present, swapped)": 0.3,
    },
    "every 2": _SPARSE,
    "every 8": _SPARSE,
    "huge": {"present(out=)": 0.06, "swapped(out=)": 0.06},
    "untouched": {"present(out=)": 0.03, "swapped(out=)": 0.03},
    "swapped 16": _HALF,
    "swapped 1": _HALF,
}
ANYTHING = 1.1
#: against the C loop that asks the same
SAME = 1.15


def ours(memory: Target, pm: fpm.PageMap) -> dict[str, Timer]:
    """Return the library's ways to ask about the target's span."""
    start, end = span = memory.span
    mask = np.ones(memory.pages, bool)
    entries = np.ones(memory.pages, fpm.ENTRY_DTYPE)
    mappings = [m for m in pm.mappings() if m.start < end and m.end > start]
    present = fpm.Category.PRESENT
    return {
        "present(out=)": timed(lambda: pm.present(*span, out=mask)),
        "swapped(out=)": timed(lambda: pm.swapped(*span, out=mask)),
        "masks": timed(lambda: pm.masks(*span)),
        "usage(present, swapped)": timed(lambda: pm.usage(mappings, fields=("present", "swapped"))),
        "usage()": timed(lambda: pm.usage(mappings)),
        "regions(present)": timed(lambda: pm.regions(*span, mask=present, returns=present)),
        "read(out=)": timed(lambda: pm.read(*span, out=entries)),
    }


def judged(layout: str, cost: dict[str, float]) -> list[Result]:
    """Compare the library's costs with what is wanted of them."""
    results = []
    for what, same in OURS.items():
        wanted = TARGETS.get(layout, {}).get(what, ANYTHING)
        ratio = cost[what] / cost[rivals.PREAD]
        results.append(Result(layout, what, rivals.PREAD, ratio, wanted))
        if same is not None:
            wanted = ANYTHING if same == rivals.KEPT else SAME
            results.append(Result(layout, what, same, cost[what] / cost[same], wanted))
    if layout == "dense":
        both, full = "usage(present, swapped)", "usage()"
        ratio = cost[both] / cost[rivals.ROLLUP]
        results.append(Result(layout, both, rivals.ROLLUP, ratio, 0.25))
        results.append(Result(layout, full, rivals.SMAPS, cost[full] / cost[rivals.SMAPS], 1))
    return results


def rows(cost: dict[str, float], results: list[Result], pages: int) -> Rows:
    """Lay the costs of one layout out as a table."""
    lines: Rows = [("", "ms", "ns/page", "of preads", "target", "", "of same in C", "target", "")]
    for name, seconds in cost.items():
        line = [name, f"{seconds * 1e3:.3f}", f"{seconds / pages * 1e9:.3f}"]
        line.append(f"{seconds / cost[rivals.PREAD]:.3f}")
        told = {r.against: r for r in results if r.what == name}
        reads, same = told.get(rivals.PREAD), told.get(OURS.get(name) or "")
        line += [f"{reads.target:g}", reads.verdict] if reads else ["", ""]
        line += [f"{same.ratio:.2f}", f"{same.target:g}", same.verdict] if same else ["", "", ""]
        lines.append(tuple(line))
    return lines


def run(scale: Scale) -> tuple[list[Result], dict[str, dict[str, float]]]:
    """Measure every layout; return what was judged, and all costs in ns a page."""
    results, costs = [], {}
    for layout in LAYOUTS:
        try:
            measured = one(layout, scale)
        except RuntimeError as error:
            print(f"\n{NAMES[layout]}: not measured, {error}")
            continue
        results += measured[0]
        costs[layout] = measured[1]
    return results, costs


def one(layout: str, scale: Scale) -> tuple[list[Result], dict[str, float]]:
    """Measure one layout and print its table."""
    with target(layout, scale.size) as memory, fpm.PageMap(memory.pid) as pm:
        contenders = rivals.in_c(memory) | ours(memory, pm)
        contenders |= rivals.of_span(memory) | rivals.of_process(memory)
        cost = medians(contenders, scale.rounds)
        kernel = about(memory.pid)
        if not swap_in_use():
            kernel += "; no swap in use"
    results = judged(layout, cost)
    title = f"{NAMES[layout]}: {readable(scale.size)} ({kernel}), medians of {scale.rounds}"
    table(title, rows(cost, results, memory.pages))
    for result in results:
        if result.against in (rivals.ROLLUP, rivals.SMAPS):
            print(f"  {result.what} / {result.against}: {result.ratio:.3f}, "
                  f"target {result.target:g}: {result.verdict}")  # fmt: skip
    return results, {name: seconds / memory.pages * 1e9 for name, seconds in cost.items()}
