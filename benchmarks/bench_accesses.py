"""What do access-tracking's answers cost, arming, and the reader; beside the kernel's own calls?"""

import fastpagemap as fpm
from lab import Result, Scale
from protection import Memory, answers, arming, users

#: how often what the kernel takes an answer, or arming, may take
ANSWER = ARMING = 1.15
#: and the reader
READER = 1.05


def run(scale: Scale) -> list[Result]:
    """Measure memory of small and of huge pages, of this process itself."""
    results: list[Result] = []
    if not fpm.capabilities().userfaultfd_rwp_async:
        print("\nno access-tracking is measured: it takes Linux 7.3, and userfaultfd allowed")
        return results
    for huge in (False, True):
        with Memory(scale.size, huge, fpm.AccessTracker) as memory:
            results += arming(memory, scale.rounds, ARMING)
            results += answers(memory, "accessed", scale.rounds, ANSWER)
            results += users(memory, "read", memory.bare.read, max(3, scale.rounds // 2), READER)
    return results
