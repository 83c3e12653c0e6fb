"""The slow twin of Group: which frames and swap slots processes have, as sets in Python (root)."""

import re
from collections import Counter

import oracle
import oracle_frames
from linux import PAGE


def mappings(pid):
    """(start, end) of each mapping but the kernel's own page of system calls."""
    with open(f"/proc/{pid}/maps") as file:
        found = [re.match(r"(\w+)-(\w+) .*", line) for line in file if "[vsyscall]" not in line]
    return [(int(line[1], 16), int(line[2], 16)) for line in found]


def entries(pid):
    """All entries of a process, taken apart, that are not empty."""
    for start, end in mappings(pid):
        words = memoryview(oracle.many_words(start, end, pid)).cast("Q")
        yield from (oracle.decode(word) for word in words if word)


def slots(pid):
    """How often a process has each slot of the swap areas."""
    found = (each for each in entries(pid) if each.swapped and not each.guard)
    real = (each for each in found if each.swap_type < oracle.FIRST_SPECIAL_TYPE)
    return Counter((each.swap_type, each.swap_offset) for each in real)


class Twin:
    """What some processes map, at one moment."""

    def __init__(self, pids):
        """Look at each entry, then at the count of each frame."""
        self.mapped = {pid: Counter(e.pfn for e in entries(pid) if e.present) for pid in pids}
        frames = sorted(set().union(*self.mapped.values()))
        self.counts = dict(zip(frames, oracle_frames.values("kpagecount", frames), strict=True))
        for own in self.mapped.values():
            for frame in [frame for frame in own if not self.counts[frame]]:
                del own[frame]  # the zero page, and what is no memory

    def __eq__(self, other):
        return self.mapped == other.mapped and self.counts == other.counts

    def _sums(self, own):
        alone = sum(1 for frame, times in own.items() if times >= self.counts[frame])
        share = sum(PAGE * times / self.counts[frame] for frame, times in own.items())
        return {"rss": own.total() * PAGE, "pss": share, "uss": alone * PAGE}

    def usage(self):
        """rss, pss and uss of each process."""
        return [self._sums(own) for own in self.mapped.values()]

    def total(self):
        """The same of all together, with names of their own."""
        both = sum(self.mapped.values(), Counter())
        sums = self._sums(both)
        sums["unique"] = sums.pop("uss")
        return {**sums, "union": len(both) * PAGE}

    def overlap(self):
        """The bytes that each two processes map both."""
        sets = [set(own) for own in self.mapped.values()]
        return [[len(one & other) * PAGE for other in sets] for one in sets]

    def sharers(self, pid, start, end):
        """How many processes map each page of a span."""
        frames = oracle_frames.pfns(start, end, pid)
        return [sum(frame in own for own in self.mapped.values()) for frame in frames]
