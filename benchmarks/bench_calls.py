"""What does one call cost, what does decoding cost, what is allocated beside the result?"""

import tracemalloc

import numpy as np

import fastpagemap as fpm
from lab import GIB, MIB, PAGE, Rows, Scale, medians, readable, table, target, timed


def run(scale: Scale) -> None:
    """Print a table for each."""
    one_page(scale)
    decoding(scale)
    beyond_the_result(min(GIB, scale.size))


def one_page(scale: Scale) -> None:
    """Time questions about a single page."""
    with target("dense", PAGE) as memory, fpm.PageMap(memory.pid) as pm:
        span = memory.span
        out = np.zeros(1, bool)
        cost = medians(
            {
                "open and close": timed(lambda: fpm.PageMap(memory.pid).close()),
                "present": timed(lambda: pm.present(*span)),
                "present(out=)": timed(lambda: pm.present(*span, out=out)),
                "swapped": timed(lambda: pm.swapped(*span)),
                "masks": timed(lambda: pm.masks(*span)),
                "read": timed(lambda: pm.read(*span)),
                "regions()": timed(lambda: pm.regions(*span)),
                "mappings()": timed(pm.mappings),
                "usage()": timed(pm.usage),
            },
            scale.rounds,
        )
    rows: Rows = [("", "us")] + [(name, f"{value * 1e6:.2f}") for name, value in cost.items()]
    table(f"one page, medians of {scale.rounds}", rows)


def decoding(scale: Scale) -> None:
    """Compare decoding with numpy's way to do it."""
    size = min(GIB, scale.size)
    with target("dense", size) as memory, fpm.PageMap(memory.pid) as pm:
        entries = pm.read(*memory.span).entries
    words = entries["value"]
    out = np.zeros(len(entries), fpm.PAGE_DTYPE)
    cost = medians(
        {
            "decode": timed(lambda: fpm.decode(entries)),
            "decode(out=)": timed(lambda: fpm.decode(entries, out=out)),
            "numpy, one mask of them": timed(lambda: words >> 63 & 1 == 1),
        },
        scale.rounds,
    )
    rows: Rows = [("", "ms", "ns/page")]
    for name, value in cost.items():
        rows.append((name, f"{value * 1e3:.2f}", f"{value / len(entries) * 1e9:.2f}"))
    table(f"entries of {readable(size)} decoded, medians of {scale.rounds}", rows)


def beyond_the_result(size: int) -> None:
    """Measure the most that a call allocates besides its result."""
    rows: Rows = [("", "KiB")]
    with target("every 8", size) as memory, fpm.PageMap(memory.pid) as pm:
        calls = {
            "read": (8, lambda: pm.read(*memory.span)),
            "masks": (3, lambda: pm.masks(*memory.span)),
            "present": (1, lambda: pm.present(*memory.span)),
            "usage()": (0, pm.usage),
        }
        for name, (width, call) in calls.items():
            tracemalloc.start()
            kept = call()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            del kept
            rows.append((name, f"{(peak - width * memory.pages) / 1024:.1f}"))
    table(f"allocated beside the result, by Python and numpy; {size // MIB} MiB", rows)
