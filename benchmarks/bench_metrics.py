"""What does a scrape of many processes cost, in processor time? Beside reading smaps_rollup."""

import contextlib
import time

from prometheus_client import CollectorRegistry, generate_latest

from fastpagemap.metrics import Collector
from lab import MIB, Result, Scale, Timer, Work, medians, read_file, table, target

#: Each holds 8 MiB, and the interpreter.
PROCESSES, SIZE = 200, 8 * MIB
#: Seconds between two scrapes, and the most that they may take of a processor.
INTERVAL, SHARE = 15.0, 0.01


def run(scale: Scale) -> list[Result]:
    """Measure what is counted at every scrape; what is dear has a budget instead."""
    count = PROCESSES if scale.size > SIZE * PROCESSES else PROCESSES // 10
    with contextlib.ExitStack() as stack:
        pids = [stack.enter_context(target("dense", SIZE)).pid for _ in range(count)]
        registry = CollectorRegistry()
        registry.register(Collector(pids, budget=0))
        cost = medians(
            {
                "scrape": used(lambda: generate_latest(registry)),
                "smaps_rollup": used(
                    lambda: [read_file(f"/proc/{pid}/smaps_rollup") for pid in pids]
                ),
            },
            scale.rounds,
        )
    share = cost["scrape"] / INTERVAL * PROCESSES / count
    rows = [("processes", "scrape", "smaps_rollup", f"of a processor, every {INTERVAL:g} s")]
    cells = (f"{cost[name] * 1e3:.1f} ms" for name in ("scrape", "smaps_rollup"))
    table("metrics", [*rows, (str(count), *cells, f"{share:.2%} (of {PROCESSES})")])
    return [Result(f"{PROCESSES} processes", "a scrape", "a processor", share, SHARE)]


def used(work: Work) -> Timer:
    """Return what does some work, and returns the processor time of it."""

    def timed() -> float:
        began = time.process_time()  # a scrape reads in another thread
        work()
        return time.process_time() - began

    return timed
