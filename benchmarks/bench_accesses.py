"""What do access-tracking's answers cost, arming, and the reader; beside the kernel's own calls?"""

import numpy as np

import fastpagemap as fpm
from lab import Result, Scale, timed
from protection import Memory, Run, arming, judged, turns, users

#: how often what the kernel takes an answer, or arming, may take
ANSWER = ARMING = 1.15
#: and the reader
READER = 1.05


def answers(memory: Memory, rounds: int) -> list[Result]:
    """Measure `accessed` with 1 % accessed, against the bare calls on memory tracked alike."""
    with fpm.AccessTracker(memory.start, memory.end) as tracker:
        out = np.empty(len(tracker), bool)
        runs: dict[str, Run] = {
            "bare": memory.bare.sweep,
            "bare, into a mask": memory.bare.sweep_into_mask,
            "accessed()": timed(tracker.accessed),
            "accessed(out=)": timed(lambda: tracker.accessed(out=out)),
            "regions(reset=True)": timed(lambda: tracker.regions(reset=True)),
        }
        cost = turns(memory.some, runs, rounds)
    return judged(memory.layout, "1 % accessed", cost, ANSWER)


def run(scale: Scale) -> list[Result]:
    """Measure memory of small and of huge pages, of this process itself."""
    results: list[Result] = []
    if not fpm.capabilities().userfaultfd_rwp_async:
        print("\nno access-tracking is measured: it takes Linux 7.3, and userfaultfd allowed")
        return results
    for huge in (False, True):
        with Memory(scale.size, huge, fpm.AccessTracker) as memory:
            results += arming(memory, scale.rounds, ARMING)
            results += answers(memory, scale.rounds)
            results += users(memory, "read", memory.bare.read, max(3, scale.rounds // 2), READER)
    return results
