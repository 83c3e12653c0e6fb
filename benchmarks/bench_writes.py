"""What do write-tracking's answers cost, arming, and the writer; next to the kernel's own calls?"""

import gc
import tracemalloc

import numpy as np

import fastpagemap as fpm
from lab import Result, Scale
from protection import Memory, answers, arming, users

#: how often what the kernel takes an answer, or arming, may take
ANSWER = ARMING = 1.15
#: and the writer
WRITER = 1.05
#: KiB that an answer may allocate, beside its result
ALLOCATED = 4.0


def allocated(memory: Memory) -> list[Result]:
    """Measure the most that an answer allocates, beside its result."""
    results = []
    with fpm.WriteTracker(memory.start, memory.end) as tracker:
        out = np.empty(len(tracker), bool)
        calls = {
            "written()": (len(tracker), tracker.written),
            "written(out=)": (0, lambda: tracker.written(out=out)),
        }
        for name, (size, call) in calls.items():
            memory.some()
            call()
            memory.some()
            gc.collect()
            tracemalloc.start()
            kept = call()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            del kept
            kib = (peak - size) / 1024
            results.append(Result(memory.layout, name, "KiB beside its result", kib, ALLOCATED))
    return results


def run(scale: Scale) -> list[Result]:
    """Measure memory of small and of huge pages, of this process itself."""
    results: list[Result] = []
    if not fpm.capabilities().userfaultfd_wp_async:
        print("\nno write-tracking is measured: it takes Linux 6.7, and userfaultfd allowed")
        return results
    for huge in (False, True):
        with Memory(scale.size, huge, fpm.WriteTracker) as memory:
            # the first write to a huge page makes it small: what wants them huge comes first
            results += arming(memory, scale.rounds, ARMING)
            results += answers(memory, "written", scale.rounds, ANSWER)
            results += allocated(memory)
            results += users(memory, "write", memory.bare.write, max(3, scale.rounds // 2), WRITER)
    return results
