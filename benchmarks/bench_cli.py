"""What does the command line cost, from its start to its last line?"""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fastpagemap as fpm
from lab import GIB, MIB, Result, Rows, Scale, Timer, medians, readable, table, target, timed

COMMAND = str(Path(sys.executable).with_name("fastpagemap"))
#: seconds that a report of 4 GiB, and a picture of 100 GiB, may take
REPORT, PICTURE = 0.150, 2.0
#: what a report of a small process may take, in times of what the import of numpy takes
SMALL = 1.6
#: seconds that `import fastpagemap` may take beyond numpy's, and that --version may take
IMPORT, VERSION = 0.010, 0.060
RESERVED = 100 * GIB
#: processes of this size, for --all
EACH, COUNT = 256 * MIB, 8
#: what --all may take, in times of what the kernel works for it
ALL = 1.2


def timer(*words: object) -> Timer:
    """Return a timer of a program, its output thrown away."""
    # an installed package has its modules compiled: so are they here, by the first round
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    texts = list(map(str, words))
    return timed(
        lambda: subprocess.run(texts, stdout=subprocess.DEVNULL, env=environment, check=True)
    )


def command(*arguments: object) -> Timer:
    """Return a timer of the whole command."""
    return timer(COMMAND, *arguments)


def python(program: str) -> Timer:
    """Return a timer of a Python that does that alone."""
    return timer(sys.executable, "-c", program)


def run(scale: Scale) -> list[Result]:
    """Measure its start, a report, a picture, a dump, and a report of all processes."""
    what, ratio = everyone(scale)
    table(f"report --all; {what}", [("", "of its kernel time"), ("", f"{ratio:.2f}")])
    return [*start(scale), *one(scale), Result(what, "report --all", "its kernel time", ratio, ALL)]


def start(scale: Scale) -> list[Result]:
    """Measure what it takes to be imported, and to say little."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        contenders = {
            "python -c pass": python("pass"),
            "import numpy": python("import numpy"),
            "import numpy, fastpagemap": python("import numpy, fastpagemap"),
            "import fastpagemap; fastpagemap.PageMap": python("import fastpagemap as f; f.PageMap"),
            "fastpagemap --version": command("--version"),
            "fastpagemap report PID, of cat": command("report", cat.pid),
            "python -m fastpagemap report PID, of cat": timer(
                sys.executable, "-m", "fastpagemap", "report", cat.pid
            ),
        }
        cost = medians(contenders, scale.rounds)
    rows: Rows = [("", "ms")]
    rows += [(name, f"{seconds * 1e3:.0f}") for name, seconds in cost.items()]
    table(f"its start; medians of {scale.rounds}", rows)
    numpy, version = cost["import numpy"], cost["fastpagemap --version"]
    beyond = cost["import numpy, fastpagemap"] - numpy
    report = cost["fastpagemap report PID, of cat"]
    return [
        Result("", "import, seconds beyond numpy", "10 ms", beyond, IMPORT),
        Result("", "--version, seconds", "60 ms", version, VERSION),
        Result("cat", "report PID", "import numpy", report / numpy, SMALL),
    ]


def one(scale: Scale) -> list[Result]:
    """Measure commands on one process, beside what is only their start."""
    with (
        target("every 1", scale.size) as memory,
        target("reserved", RESERVED, min(GIB, scale.size)) as reserved,
        tempfile.TemporaryDirectory() as directory,
    ):
        file = os.path.join(directory, "a")
        with fpm.PageMap(memory.pid) as pagemap:
            contenders = {
                "usage(), called in a process that is there": timed(pagemap.usage),
                "report PID": command("report", memory.pid),
                "report PID --json": command("report", memory.pid, "--json"),
                "dump PID": command("dump", memory.pid, "-o", file),
                f"map PID, {readable(RESERVED)} reserved": command(
                    "map", reserved.pid, "-o", file + ".png"
                ),
            }
            cost = medians(contenders, scale.rounds)
    whole = f"{readable(scale.size)} process"
    rows: Rows = [("", "ms")]
    rows += [(name, f"{seconds * 1e3:.0f}") for name, seconds in cost.items()]
    table(f"the command, all told; {whole}; medians of {scale.rounds}", rows)
    picture = next(seconds for name, seconds in cost.items() if name.startswith("map"))
    return [
        Result(whole, "report PID, seconds", "150 ms", cost["report PID"], REPORT),
        Result(f"{readable(RESERVED)} reserved", "map, seconds", "2 s", picture, PICTURE),
    ]


def everyone(scale: Scale) -> tuple[str, float]:
    """Measure --all: all the time it works, by the time that the kernel works for it.

    Returns of whom it tells, and the median.
    """
    size = min(EACH, scale.size // COUNT)
    with contextlib.ExitStack() as stack:
        for _ in range(COUNT):
            stack.enter_context(target("every 1", size))
        ratios = sorted(_ratio() for _ in range(scale.rounds))
    what = f"{COUNT} processes of {readable(size)}, and whatever else runs here"
    return what, ratios[len(ratios) // 2]


def _ratio() -> float:
    """Return the processor time of one report --all, start-up left out, by its kernel time."""
    program = (
        "import resource as r; from fastpagemap.cli.collect import collect_all;"
        "from fastpagemap.cli.processes import processes;"
        "collect_all(processes()); a = r.getrusage(r.RUSAGE_SELF); collect_all(processes());"
        "b = r.getrusage(r.RUSAGE_SELF); s = b.ru_stime - a.ru_stime;"
        "print((b.ru_utime - a.ru_utime + s) / s)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return float(done.stdout)
