"""What a process waits while it is read, and what other threads of Python wait meanwhile."""

import statistics
from collections.abc import Iterator

import bench_polite
import bench_sampling
import fastpagemap as fpm
import rivals
from goals.rows import Goal, duration, more
from lab import GIB, Floor, Scale, readable, target

#: times the p99.9 under preads
TAIL = 1
#: seconds that each reader reads at a time
SLICE = 1.0


def measured(scale: Scale) -> Iterator[Goal]:
    """Measure victims with a full heap and with a mostly empty one, then the GIL."""
    resident = min(GIB, scale.size)
    heaps = {
        readable(scale.size): (scale.size, scale.size),
        f"{readable(scale.reserved)} reserved": (scale.reserved, resident),
    }
    for name, heap in heaps.items():
        with bench_polite.victim(*heap) as held:
            yield tail(name, held, scale)
            yield from holds(name, held)
    yield from gil(resident, scale)


def tail(name: str, held: bench_polite.Victim, scale: Scale) -> Goal:
    """Compare the victim's p99.9 under all our questions with that under preads."""
    shorter = scale._replace(slice=min(SLICE, scale.slice))
    slices = bench_polite.slices(held, shorter)
    ours, preads = (
        statistics.median(measure[3] for measure in slices[reader])
        for reader in (bench_polite.OURS, bench_polite.PREADS)
    )
    return Goal(
        "a victim's p99.9 while it is read",
        name,
        duration(ours / 1e6),
        bench_polite.PREADS,
        duration(preads / 1e6),
        ours / preads,
        TAIL,
    )


def holds(name: str, held: bench_polite.Victim) -> Iterator[Goal]:
    """Tell the longest hold of the lock by each question: an ioctl, or a part of a pread."""
    noted = bench_polite.longest(held)
    pread = noted.pop(bench_polite.PREADS)["pread"]
    for what, calls in noted.items():
        held_ns = max(call.cpu for call in calls.values())
        yield Goal(
            "the longest hold of the lock",
            f"{name}, {what}",
            duration(held_ns / 1e9),
            bench_polite.PREADS,
            duration(pread.cpu / 1e9),
            held_ns / 1e3,
            bench_polite.HOLD,
            "us",
        )


def gil(size: int, scale: Scale) -> Iterator[Goal]:
    """Measure how long another thread of Python does not run during one question.

    A thread that may run has to be woken first, and to find a processor: how long that takes here
    tells a scan in C of the same memory, called by ctypes, which lets go of the GIL for all of it.
    """
    samples = max(50, int(100 * scale.slice))
    with target("dense", size) as memory, fpm.PageMap(memory.pid) as pm:
        floor = Floor(memory.pid)
        bare = bench_sampling.gil(
            lambda: floor.scan(*memory.span, 0, 0, rivals.SWAPPED, rivals.SWAPPED), samples
        )[1]
        for what, ask in bench_sampling.questions(pm, *memory.span).items():
            missed = bench_sampling.gil(ask, samples)[1]
            yield more(
                "another thread of Python waits",
                f"{readable(size)}, {what}",
                missed / 1e6,
                rivals.IOCTL_SWAPPED,
                bare / 1e6,
                bench_sampling.HELD,
                "us",
            )
