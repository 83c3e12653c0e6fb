"""How much memory is in use: what is accessed, and what is written, an interval at a time?

    python examples/working_set.py                of arrays of this process
    python examples/working_set.py PID            of another process (root)
    python examples/working_set.py PID --yes      and what that writes, which clears soft-dirty bits

Each way is said on the screen, and how exact it is. See docs/working_set.md.
"""

import argparse
import contextlib
import mmap
import signal
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from other_process import line, other_process

import fastpagemap as fpm
from fastpagemap import PAGE_SIZE

Array = npt.NDArray[np.uint8]
Tracker = fpm.WriteTracker | fpm.AccessTracker


def used(
    tracker: type[Tracker], told: str, arrays: dict[str, Array], work: Callable[[], object]
) -> list[int]:
    """Do some work; return how many pages of each array were used, as a tracker told them."""
    with contextlib.ExitStack() as stack:
        trackers = [stack.enter_context(tracker(array)) for array in arrays.values()]
        work()
        return [int(getattr(each, told)().sum()) for each in trackers]


def own_pages(pages: int) -> Array:
    """Return an array on small pages of its own: what others have on its edges would count, too."""
    memory = mmap.mmap(-1, pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    array = np.frombuffer(memory, np.uint8)
    array[:] = 1
    return array


def own_arrays() -> None:
    """Have a loop use three arrays, and tell what it uses."""
    arrays = {"table": own_pages(4000), "results": own_pages(1000), "spare": own_pages(1000)}
    rounds = iter(range(8))

    def work() -> None:
        """Look up an eighth of the table, at random, and note some results."""
        at = next(rounds)
        some = np.random.default_rng(at).integers(0, 500, 10_000) * 8 + at
        arrays["results"][at * PAGE_SIZE : (at + 20) * PAGE_SIZE] = arrays["table"][
            some * PAGE_SIZE
        ].sum()

    ways: dict[str, type[Tracker]] = {"written": fpm.WriteTracker, "accessed": fpm.AccessTracker}
    for told, tracker in list(ways.items()):
        try:
            tracker(arrays["spare"]).close()
            print(f"{told}: by {tracker.__name__}, exact to the page")
        except fpm.UnsupportedError as reason:
            print(f"{told}: not told: {reason}")
            del ways[told]
    line("", *arrays)
    line("pages", *(array.nbytes // PAGE_SIZE for array in arrays.values()))
    for _ in range(3):
        for told, tracker in ways.items():  # in turn: both at once cannot be
            line(told, *used(tracker, told, arrays, work))


def seconds(text: str) -> float:
    """Return a number of seconds from the command line."""
    if not 0 < float(text) <= 86_400:
        raise ValueError
    return float(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pid", type=int, nargs="?")
    parser.add_argument("--interval", type=seconds, default=1, help="seconds: 1")
    parser.add_argument("--count", type=int, default=5, help="of intervals: 5")
    parser.add_argument("--yes", action="store_true", help="clear soft-dirty bits")
    options = parser.parse_args()
    # so that what was set up is taken away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.pid is None:
        own_arrays()
    else:
        other_process(options.pid, options.interval, options.count, options.yes)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"working_set: {error}")
