"""What the benchmarks share: processes to measure, the C loops, contenders that take turns."""

import contextlib
import ctypes
import functools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import fastpagemap as fpm

PAGE = fpm.PAGE_SIZE
HERE = Path(__file__).resolve().parent
#: what is compiled, downloaded and noted; never committed
BUILD = HERE.parent / "build" / "bench"
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
#: bytes a read, where nothing else is said
CHUNK = 256 * KIB

Work = Callable[[], object]
Timer = Callable[[], float]
Rows = list[tuple[str, ...]]


class Scale(NamedTuple):
    """How much is measured."""

    size: int
    rounds: int
    sizes: tuple[int, ...]
    small_mappings: int
    # how much address space 1 GiB is in, at most
    reserved: int
    # seconds that a victim works at a time, and how often
    slice: float
    slices: int


QUICK = Scale(64 * MIB, 3, (PAGE, MIB, 64 * MIB), 2_000, TIB, 0.2, 2)
FULL = Scale(
    4 * GIB,
    9,
    (PAGE, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 8 * GIB),
    20_000,
    16 * TIB,
    2.0,
    5,
)


class Result(NamedTuple):
    """What a library call cost next to what it is to be compared with, and what is wanted."""

    layout: str
    what: str
    against: str
    ratio: float
    target: float

    @property
    def verdict(self) -> str:
        """Say whether the target was reached, or by how much not."""
        short = self.ratio - self.target
        return "ok" if short <= 0 else f"SHORT by {short:.3g}"


# ---- processes to measure ----------------------------------------------------------------------


class Target(NamedTuple):
    """A process that holds a span of memory."""

    pid: int
    start: int
    end: int

    @property
    def span(self) -> tuple[int, int]:
        """Its start and its end."""
        return self.start, self.end

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return (self.end - self.start) // PAGE


@contextlib.contextmanager
def target(layout: str, size: int, resident: int = 0) -> Iterator[Target]:
    """Start a process that holds memory of a layout that target.py knows."""
    size = max(PAGE, size // PAGE * PAGE)
    command = [sys.executable, "-S", "-E", str(HERE / "target.py"), layout, str(size)]
    with subprocess.Popen(
        [*command, str(resident)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"no memory of layout {layout!r}")
            yield Target(process.pid, *map(int, line.split()))
        finally:
            process.kill()


def kernel_sums(pid: int) -> dict[str, int]:
    """Return the kernel's own sums of a process, in bytes: Rss, Swap and others."""
    sums = {}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in list(file)[1:]:
            name, value, *_ = line.replace(":", "").split()
            sums[name] = int(value) * KIB
    return sums


def about(pid: int) -> str:
    """Return what the kernel's own sums say of a process."""
    sums = kernel_sums(pid)
    parts = (("Rss", "in RAM"), ("AnonHugePages", "of it huge"), ("Swap", "swapped"))
    return ", ".join(f"{readable(sums[name])} {what}" for name, what in parts if sums[name])


def meminfo(name: str) -> int:
    """Return a line of /proc/meminfo in bytes."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) * KIB


def load() -> str:
    """Return how busy the machine is."""
    return f"load {', '.join(f'{value:.2f}' for value in os.getloadavg())}"


def swap_in_use() -> bool:
    """Return whether anything is swapped out on this machine."""
    return meminfo("SwapFree") != meminfo("SwapTotal")


def affordable(size: int) -> bool:
    """Return whether that much memory may be touched here."""
    return size < meminfo("MemAvailable") * 3 // 4


# ---- C -----------------------------------------------------------------------------------------


@functools.cache
def compiled(name: str, *options: str) -> Path:
    """Compile one of the C files here, once, and return where the result is."""
    BUILD.mkdir(parents=True, exist_ok=True)
    binary = BUILD / name
    cc = os.environ.get("CC") or shutil.which("cc") or "gcc"
    source = HERE / f"{binary.stem}.c"
    subprocess.run([*cc.split(), "-O2", *options, "-o", binary, source], check=True)
    return binary


def library(name: str) -> ctypes.CDLL:
    """Compile one of the C files here as a library and load it."""
    return ctypes.CDLL(str(compiled(name, "-shared", "-fPIC")))


def _checked(seconds: float) -> float:
    """Return what a C loop returned, unless that is an errno."""
    if seconds < 0:
        raise OSError(-int(seconds), os.strerror(-int(seconds)))
    return seconds


def read_file(path: str) -> float:
    """Return the seconds it takes in C to open a file, to read all of it, and to close it."""
    read = library("floor.so").floor_file
    read.restype = ctypes.c_double
    return _checked(read(os.fsencode(path)))


class Floor:
    """The C loops over one process's pagemap."""

    def __init__(self, pid: int) -> None:
        self._read = library("floor.so").floor_read
        self._read.argtypes = [
            ctypes.c_int,
            *[ctypes.c_uint64] * 3,
            ctypes.c_void_p,
        ]
        self._scan = library("scan.so").scan_pages
        self._scan.argtypes = [ctypes.c_int, *[ctypes.c_uint64] * 6, ctypes.c_void_p]
        self._read.restype = self._scan.restype = ctypes.c_double
        self._fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self._fd)

    def read(self, start: int, end: int, keep: int | None = None, chunk: int = CHUNK) -> float:
        """Return the seconds of preads over a span, each entry kept at address `keep`, or none."""
        return _checked(self._read(self._fd, start, (end - start) // PAGE, chunk, keep))

    def scan(self, start: int, end: int, *question: int, keep: int | None = None) -> float:
        """Return the seconds of a bare scan, each region kept at address `keep`, or none.

        `question` is inverted, mask, anyof, returns.
        """
        return _checked(self._scan(self._fd, start, end, *question, keep))


# ---- time --------------------------------------------------------------------------------------


def timed(work: Work) -> Timer:
    """Return a function that calls `work` once and gives the seconds it took."""

    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run


def medians(contenders: dict[str, Timer], rounds: int) -> dict[str, float]:
    """Run all contenders in turn, round after round; return each one's median in seconds.

    The first round warms up, and tells who is so quick that a turn has to be many calls, and who
    so slow that a few turns are enough.
    """
    first = {name: run() for name, run in contenders.items()}
    calls = {name: max(1, int(0.002 / max(took, 1e-7))) for name, took in first.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, run in contenders.items():
            if first[name] < 0.2 or (turn < 3 and first[name] < 5):
                times[name].append(statistics.fmean(run() for _ in range(calls[name])))
    return {name: statistics.median(values or [first[name]]) for name, values in times.items()}


# ---- print -------------------------------------------------------------------------------------


def bytes_of(text: str) -> int:
    """Return a number of bytes as people write it: 512M, 4GiB."""
    units = "KMGT"
    number = text.upper().removesuffix("B").removesuffix("I")
    power = units.find(number[-1:]) + 1 if number[-1:] else 0
    return int(float(number[:-1] if power else number) * 1024**power)


def readable(size: float) -> str:
    """Return a number of bytes as people write it."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.4g} {units[0]}"


def table(title: str, rows: Rows) -> None:
    """Print a title and aligned rows, the first one as a header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()
