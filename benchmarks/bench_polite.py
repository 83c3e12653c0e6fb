"""How much is a process held up by being read, when all it does is map and unmap?

To read its page tables, the kernel holds the lock that mapping and unmapping need. A victim works
while nobody reads it, while a C loop of 64 KiB preads does, and while fastpagemap does.
"""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import fastpagemap as fpm
from lab import GIB, KIB, PAGE, Floor, Result, Rows, Scale, compiled, readable, table

#: bytes read at a time, so that a slice of time ends when it should
WINDOW = 4 * GIB
#: us that one hold of the lock may take
HOLD = 1000
#: of system calls, as holds.c notes them
KINDS = ("ioctl", "pread")
ALONE, PREADS, OURS = "left alone", "64 KiB preads in C", "fastpagemap"

Reader = Iterator[object]


class Victim(NamedTuple):
    """A process at work."""

    process: subprocess.Popen[str]
    start: int
    end: int

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def work(self, seconds: float, reader: Reader | None) -> list[float]:
        """Have it work while a reader reads; return how often it got round, and latencies in us."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        end = time.monotonic() + seconds
        while reader and time.monotonic() < end:
            next(reader)
        count, *latencies = map(int, self.process.stdout.readline().split())
        return [count, *(ns / 1e3 for ns in latencies)]


@contextlib.contextmanager
def victim(reserved: int, resident: int, *kind: str) -> Iterator[Victim]:
    """Start one with a heap."""
    command = [compiled("victim"), str(reserved), str(resident), *kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Victim(process, *map(int, process.stdout.readline().split()))
        finally:
            process.kill()


def windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Go through a span again and again."""
    return itertools.cycle((at, min(at + WINDOW, end)) for at in range(start, end, WINDOW))


def preads(held: Victim) -> Reader:
    """Read all entries of the heap, over and over."""
    floor = Floor(held.pid)
    for span in windows(held.start, held.end):
        yield floor.read(*span, chunk=64 * KIB)


def questions(pm: fpm.PageMap, start: int, end: int) -> dict[str, Callable[[], object]]:
    """Return what is asked, span by span, or of all the process at once."""
    spans = windows(start, end)
    mask = np.ones(WINDOW // PAGE, bool)

    def present() -> object:
        low, high = next(spans)
        return pm.present(low, high, out=mask[: (high - low) // PAGE])

    return {
        "present": present,
        "masks": lambda: pm.masks(*next(spans)),
        "usage(present, swapped)": lambda: pm.usage(fields=("present", "swapped")),
        "regions()": pm.regions,
        "usage_of(present, swapped)": lambda: fpm.usage_of(pm, fields=("present", "swapped")),
        "usage_of()": lambda: fpm.usage_of(pm),
    }


def ours(held: Victim) -> Reader:
    """Ask everything, over and over."""
    with fpm.PageMap(held.pid) as pm:
        for ask in itertools.cycle(questions(pm, held.start, held.end).values()):
            yield ask()


def run(scale: Scale) -> list[Result]:
    """Measure both heaps."""
    resident = min(GIB, scale.size)
    heaps = {
        f"{readable(scale.size)} of 4 KiB pages": (scale.size, scale.size),
        f"{readable(scale.reserved)} reserved, {readable(resident)} of it touched": (
            scale.reserved,
            resident,
        ),
    }
    results = []
    for name, heap in heaps.items():
        with victim(*heap) as held:
            results += latencies(name, held, scale)
            results += holds(name, held)
    return results


def slices(held: Victim, scale: Scale) -> dict[str, list[list[float]]]:
    """Return what the victim tells of its work under each reader, who take turns."""
    readers = {ALONE: None, PREADS: preads(held), OURS: ours(held)}
    told: dict[str, list[list[float]]] = {reader: [] for reader in readers}
    for _ in range(scale.slices):
        for reader, read in readers.items():
            told[reader].append(held.work(scale.slice, read))
    return told


def latencies(name: str, held: Victim, scale: Scale) -> list[Result]:
    """Compare the victim's latencies under each reader."""
    rows: Rows = [("the victim, us", "p50", "p99", "p99.9", "longest", "rounds/s")]
    tails = {}
    for reader, measured in slices(held, scale).items():
        count, p50, p99, tails[reader], _ = map(statistics.median, zip(*measured, strict=True))
        longest = max(measure[-1] for measure in measured)
        cells = (*(f"{value:.1f}" for value in (p50, p99, tails[reader], longest)),)
        rows.append((reader, *cells, f"{count / scale.slice:,.0f}"))
    title = f"a victim with a heap of {name}"
    table(f"{title}; medians of {scale.slices} times {scale.slice:g} s, longest of all", rows)
    ratio = tails[OURS] / tails[PREADS]
    result = Result(name, "victim's p99.9", PREADS, ratio, 1)
    print(f"  p99.9 under fastpagemap / under preads: {ratio:.2f}, target 1: {result.verdict}")
    return [result]


# ---- single system calls -----------------------------------------------------------------------


class Calls(NamedTuple):
    """System calls of one kind: how many, and the longest of them, by the clock and in CPU time.

    Of a pread the latter is its share of a single hold of the lock.
    """

    count: int
    elapsed: int
    cpu: int


def longest(held: Victim) -> dict[str, dict[str, Calls]]:
    """Ask our questions, and read a heap in C; return the system calls by question, in ns."""
    return noted_by(__file__, held.pid, held.start, held.end)


def noted_by(program: str, *arguments: int) -> dict[str, dict[str, Calls]]:
    """Run a program that calls `note`, in another interpreter with its system calls timed."""
    preloaded = compiled("holds.so", "-shared", "-fPIC")
    done = subprocess.run(
        [sys.executable, program, *map(str, arguments)],
        env=os.environ | {"LD_PRELOAD": str(preloaded)},
        check=True,
        capture_output=True,
        text=True,
    )
    return {
        what: {kind: Calls(*calls) for kind, calls in zip(KINDS, noted, strict=True)}
        for what, noted in json.loads(done.stdout).items()
    }


def holds(name: str, held: Victim) -> list[Result]:
    """Print the longest system calls of each question."""
    rows: Rows = [("longest system call, us", "ioctls", "elapsed", "CPU", "preads", "elapsed")]
    results = []
    for what, calls in longest(held).items():
        ioctl, pread = calls["ioctl"], calls["pread"]
        cells = (f"{ioctl.elapsed / 1e3:.1f}", f"{ioctl.cpu / 1e3:.1f}", f"{pread.count}")
        rows.append((what, f"{ioctl.count}", *cells, f"{pread.elapsed / 1e3:.1f}"))
        if ioctl.count:
            cpu = ioctl.cpu / 1e3
            results.append(Result(name, f"longest ioctl of {what}", "us of CPU", cpu, HOLD))
    table(f"a victim with a heap of {name}, idle: an ioctl is one hold of its lock", rows)
    return results


def note(asks: dict[str, Callable[[], object]]) -> None:
    """Ask each question a few times, and print the longest system calls in it as JSON."""
    import ctypes

    noted = (ctypes.c_uint64 * 3 * 2).in_dll(ctypes.CDLL(None), "holds")
    found = {}
    for what, ask in asks.items():
        ctypes.memset(noted, 0, ctypes.sizeof(noted))
        for _ in range(8):
            ask()
        found[what] = [list(row) for row in noted]
    json.dump(found, sys.stdout)


def main() -> None:
    """Note what the questions here take."""
    pid, start, end = map(int, sys.argv[1:])
    floor, spans = Floor(pid), windows(start, end)
    with fpm.PageMap(pid) as pm:
        asks = questions(pm, start, end)
        asks[PREADS] = lambda: floor.read(*next(spans), chunk=64 * KIB)
        note(asks)


if __name__ == "__main__":
    main()
