"""What does `fastpagemap record` take of a processor, and how long does it hold a lock?"""

import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import NamedTuple

from bench_cli import COMMAND
from bench_polite import HOLD, note, noted_by
from lab import Result, Rows, Scale, readable, table, target

#: Seconds between readings.
INTERVAL = 1.0
#: The columns that are read, and the share of a processor that this may take.
RECORDED = {"all columns": ("", 0.06), "present,swapped": ("present,swapped", 0.01)}
#: So much longer than asked for the interval may be: then the budget is what counts.
LATE = 1.1


class Run(NamedTuple):
    """Seconds by the clock and of a processor, of a recording."""

    elapsed: float
    cpu: float


def run(scale: Scale) -> list[Result]:
    """Measure a process that is recorded once a second, by what each reading adds."""
    readings = 5 * scale.rounds
    rows: Rows = [("record", "budget", "of a processor", "ms a reading", "s between readings")]
    results = []
    with target("every 1", scale.size) as memory:
        what = f"a process of {readable(scale.size)}"
        for name, (columns, budget) in RECORDED.items():
            # the difference of two has neither Python's start nor its end in it
            few, many = (recorded(memory.pid, columns, budget, n) for n in (2, 2 + readings))
            elapsed, cpu = many.elapsed - few.elapsed, many.cpu - few.cpu
            each = f"{cpu / readings * 1e3:.1f}", f"{elapsed / readings:.2f}"
            rows.append((name, f"{budget:.0%}", f"{cpu / elapsed:.2%}", *each))
            results.append(Result(what, f"record {name}", "its budget", cpu / elapsed / budget, 1))
            late = elapsed / readings / INTERVAL
            results.append(Result(what, f"record {name}", "an interval of 1 s", late, LATE))
        noted = noted_by(__file__, memory.pid)
    table(f"{what}, a reading a second, {readings} readings", rows)
    rows = [("longest hold of its lock, us of CPU", "ioctl", "pread")]
    for name, calls in noted.items():
        held = [calls[kind].cpu / 1e3 for kind in ("ioctl", "pread")]
        rows.append((name, *(f"{each:.0f}" for each in held)))
        results.append(Result(what, f"longest hold, {name}", "us of CPU", max(held), HOLD))
    table(what, rows)
    return results


def recorded(pid: int, columns: str, budget: float, count: int) -> Run:
    """Record a process so often."""
    with tempfile.TemporaryDirectory() as directory:
        options = ["-o", directory, "--count", count, "--budget", budget, "--interval", INTERVAL]
        options += ["--columns", columns] if columns else []
        began = time.monotonic()
        command = list(map(str, [COMMAND, "record", pid, *options]))
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # its worker is no child that is waited for: rusage would lack it
        (cpu,) = re.findall(r"([\d.]+) s of a processor$", said.strip())
        return Run(time.monotonic() - began, float(cpu))


def main() -> None:
    """Note the system calls of what a recording's worker does."""
    from fastpagemap.cli.collect import read_mappings

    pid = int(sys.argv[1])
    fields = {
        name: ("size", *columns.split(",")) if columns else None
        for name, (columns, _) in RECORDED.items()
    }
    note({name: partial(read_mappings, pid, True, some) for name, some in fields.items()})


if __name__ == "__main__":
    main()
