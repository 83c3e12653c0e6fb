"""How fast does another process write to its memory, mapping by mapping, over time?

    python examples/write_rate.py PID [--interval SECONDS] [--count TIMES] [--top MAPPINGS]

By soft-dirty bits, as the working-set tool wss and CRIU's pre-dump do it: clear them all, wait,
count the pages written meanwhile, and again.

**This disturbs others.** Clearing is global to the process: whoever else reads its soft-dirty bits
(CRIU's incremental dumps, a second one of this program) loses what was written before, and a CRIU
pre-dump of it becomes wrong. Do not run it on a process that is being checkpointed. The process
itself pays one page fault for the first write to each page after each clearing.

How to read the figures:

- A page counts once an interval, however often it is written: it is the rate at which pages
  *become* dirty, what a live migration or an incremental dump would have to copy. Shorter
  intervals give higher rates.
- Memory mapped since the last clearing counts as written in whole, touched or not, and a mapping
  that the kernel merged with it does, too. One write to a transparent huge page counts all of it.
- A page of shared memory that was written and swapped out meanwhile is not counted, nor what is
  written between counting and clearing: the two are not one step, as they are for WriteTracker.

It needs a kernel with CONFIG_MEM_SOFT_DIRTY (not every architecture has it, and not every
distribution sets it), and the right to read and write the process's /proc: the same user, or root.
Where there is no soft-dirty it says so, and ends with exit code 1. For memory of your own process
there is WriteTracker, which works without: see pages_written.py.
"""

import argparse
import itertools
import sys
import time

import numpy as np

from fastpagemap import PAGE_SIZE, PageMap

MIB = 1 << 20


def written(pm: PageMap) -> dict[str, int]:
    """Return the bytes of the pages written since the last clearing, by the mapping's name."""
    sums: dict[str, int] = {}
    for mapping in pm.mappings():
        # the kernel's own pages, of which it tells nothing
        if mapping.writable and not mapping.path.startswith(("[vvar", "[vsyscall")):
            pages = int(np.count_nonzero(pm.soft_dirty(mapping.start, mapping.end)))
            name = mapping.path or "anonymous"
            sums[name] = sums.get(name, 0) + pages * PAGE_SIZE
    return sums


def watch(pm: PageMap, interval: float, count: int, top: int) -> None:
    """Print the rate of each interval: the sum, and the mappings that are most of it."""
    began = time.monotonic()
    pm.clear_soft_dirty()
    cleared = began
    turns = range(count) if count else itertools.count()
    for _ in turns:
        time.sleep(interval)
        sums = written(pm)
        now = time.monotonic()
        # what is written between counting and clearing is told to no one
        pm.clear_soft_dirty()
        rates = {name: size / (now - cleared) / MIB for name, size in sums.items() if size}
        print(f"{now - began:8.1f} s {sum(rates.values()):10.2f} MiB/s", flush=True)
        for name in sorted(rates, key=lambda name: -rates[name])[:top]:
            print(f"{'':10} {rates[name]:10.2f} MiB/s  {name}", flush=True)
        cleared = time.monotonic()


def main() -> None:
    """Read the command line; one line for each thing that can go wrong."""
    parser = argparse.ArgumentParser(
        description="The write rate of a process, by soft-dirty bits: clears them, for everyone."
    )
    parser.add_argument("pid", type=int)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds, 1 by default")
    parser.add_argument("--count", type=int, default=0, help="so many intervals; until it ends")
    parser.add_argument("--top", type=int, default=5, help="mappings shown, 5 by default")
    options = parser.parse_args()
    if options.interval <= 0 or options.count < 0 or options.top < 0:
        parser.error("--interval must be above 0, --count and --top not below")
    try:
        with PageMap(options.pid) as pm:
            watch(pm, options.interval, options.count, options.top)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as error:  # UnsupportedError is an OSError
        sys.exit(f"write_rate: {error}")


if __name__ == "__main__":
    main()
