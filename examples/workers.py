"""Workers that only read, and what reading costs: try ``fastpagemap forks`` on it.

    fastpagemap forks examples/workers.py
    fastpagemap forks examples/workers.py --freeze    # gc.freeze() before the fork

fork() copies no memory, as long as nobody writes. An array is read without a trace. But a loop over
a list counts references in its elements, and the garbage collector writes to the head of each
container, unless gc.freeze() has put it aside.
"""

import gc
import multiprocessing
import sys
import time

import numpy as np

SECONDS = 2  # for each step, so that each is looked at

array = np.ones(4_000_000)
strings = [f"{number:60}" for number in range(200_000)]
lists = [[] for _ in range(200_000)]


def work(name):
    """Read all of it."""
    for step in ("array.sum()", "for each in strings: pass", "gc.collect()"):
        time.sleep(SECONDS)
        exec(step)
        if name == "first":
            print(f"\neach worker did {step}", flush=True)
    time.sleep(SECONDS)


if __name__ == "__main__":
    gc.disable()  # the collector is to come when it is called
    gc.collect()
    if "--freeze" in sys.argv:
        gc.freeze()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(name,)) for name in ("first", "second")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
