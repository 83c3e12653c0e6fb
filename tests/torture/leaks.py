"""Every public call many times: descriptors and memory do not grow, also where it fails."""

import contextlib
import gc
import os
import sys

import _torture  # isort: skip
import _calls
import _layouts

import fastpagemap as fpm
from victim import Victim

#: Calls before it is measured and while it is, and the KiB that may come and go in between.
WARM, MEASURED = 100, 300
NOISE = 600


def resident():
    """Resident memory of this process in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 10


def descriptors():
    """How many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


def failures(target, stack):
    """Calls that fail, by name."""
    ended = stack.enter_context(Victim())
    dead = fpm.PageMap(ended.pid)
    ended.kill()
    (start, end), *_ = target.spans
    return {
        "of a dead process: mappings": dead.mappings,
        "of a dead process: usage": dead.usage,
        "of a dead process: states": dead.states,
        "of a dead process: snapshot": dead.snapshot,
        "of a dead process: mask": lambda: dead.present(start, end),
        "of no process": lambda: fpm.PageMap(4194303),
        "of a kernel thread": lambda: fpm.PageMap(2),
        "of a bad address": lambda: target.held.present(1, 2),
        "into a wrong array": lambda: target.held.present(start, end, out=[]),
        "of too much": lambda: target.held.present(0, 1 << 63),
        "of no snapshot": lambda: fpm.Snapshot.load(__file__),
        "tracking nothing": lambda: fpm.WriteTracker(4096, 8192),
        "tracking accesses to nothing": lambda: fpm.AccessTracker(4096, 8192),
    }


def failing(call):
    """The call, which has to fail."""

    def attempt(_target):
        try:
            call()
        except (OSError, ValueError, MemoryError, fpm.SnapshotError):
            return
        raise AssertionError("no exception")

    return attempt


def measure(call, target):
    """(descriptors, KiB) that repeated calls left behind, in the second half of them."""
    for _ in range(WARM):
        call(target)
    gc.collect()
    before = descriptors()
    for _ in range(MEASURED):
        call(target)
    gc.collect()
    middle = resident()
    for _ in range(MEASURED):
        call(target)
    gc.collect()
    return descriptors() - before, resident() - middle


def main():
    """Return the exit status."""
    given = _torture.arguments()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_layouts.both_kinds_of_swap())
        target = _calls.Target(stack)
        calls = dict(_calls.CALLS)
        for name, call in failures(target, stack).items():
            calls[name] = failing(call)
        names = sorted(calls)

        def one_round(chance, counts):
            name = names[chance.number % len(names)]
            left, grown = measure(calls[name], target)
            assert left == 0, f"{name}: {left} descriptors stay open"
            if grown > NOISE:  # once more, as memory comes in large pieces
                _, grown = measure(calls[name], target)
            assert grown <= NOISE, f"{name}: {grown} KiB in {MEASURED} calls"
            counts["calls"] += WARM + 2 * MEASURED

        return _torture.run(one_round, given)


if __name__ == "__main__":
    sys.exit(main())
