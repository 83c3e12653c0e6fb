"""What do page frames cost? Beside a C loop of the same reads, and the ways of tools."""

import ctypes
import os
import subprocess

import numpy as np

import fastpagemap as fpm
import rivals
from bench_layouts import ANYTHING
from lab import (
    CHUNK,
    PAGE,
    Result,
    Rows,
    Scale,
    Target,
    Timer,
    library,
    medians,
    table,
    target,
    timed,
)
from page_types import page_types

FLOOR = "C, 256 KiB preads: as many frames"
EACH = "Python, 8 bytes a read"
#: frames that are read one by one: more would take too long
MAX_SINGLE_READS = 1 << 14
#: in times of one long read of as many frames
OF_FLOOR = 2.0


def run(scale: Scale) -> list[Result]:
    """Measure questions about the frames of a process's memory."""
    if os.geteuid() != 0:
        print("\nframes are left out: they take root")
        return []
    with target("dense", min(scale.size, 1 << 30)) as memory, fpm.PageMap(memory.pid) as pm:
        pfns = np.ascontiguousarray(pm.read(*memory.span).pfn)
        cost = medians(contenders(pm, memory.span, pfns) | others(pfns), scale.rounds)
        cost |= medians(of_tools(memory), scale.rounds)
    floor = cost[FLOOR]
    rows: Rows = [("", "ns a page", "of the C loop")]
    for name, seconds in cost.items():
        pages = MAX_SINGLE_READS if name == EACH else len(pfns)
        each = seconds / min(pages, len(pfns))
        rows.append((name, f"{each * 1e9:.1f}", f"{each * len(pfns) / floor:.2f}"))
    title = f"the frames of {len(pfns):,} pages"
    table(f"{title}; medians of {scale.rounds}", rows)
    return [
        Result(title, "Frames.mapcounts", FLOOR, cost["Frames.mapcounts"] / floor, OF_FLOOR),
        Result(title, "Frames.flags", FLOOR, cost["Frames.flags"] / floor, ANYTHING),
        Result(title, "PageMap.folios", FLOOR, cost["PageMap.folios"] / floor, ANYTHING),
    ]


def contenders(pm: fpm.PageMap, span: tuple[int, int], pfns: np.ndarray) -> dict[str, Timer]:
    """Return this library's questions."""
    frames = fpm.Frames()
    mixed = np.random.default_rng(0).permutation(pfns)
    return {
        "Frames.flags": timed(lambda: frames.flags(pfns)),
        "Frames.mapcounts": timed(lambda: frames.mapcounts(pfns)),
        "Frames.mapcounts, shuffled": timed(lambda: frames.mapcounts(mixed)),
        "PageMap.mapcounts": timed(lambda: pm.mapcounts(*span)),
        "PageMap.folios": timed(lambda: pm.folios(*span)),
        "PageMap.nodes": timed(lambda: pm.nodes(*span)),
    }


def others(pfns: np.ndarray) -> dict[str, Timer]:
    """Return one long read of as many frames, and a read for each frame."""
    counts = os.open("/proc/kpagecount", os.O_RDONLY)
    read = library("floor.so").floor_read
    read.argtypes = [ctypes.c_int, *[ctypes.c_uint64] * 3, ctypes.c_void_p]
    read.restype = ctypes.c_double
    # The frames below the highest one: there are as many.
    first = max(int(pfns.max()) - len(pfns), 0)

    def one_by_one() -> None:
        for pfn in pfns[:MAX_SINGLE_READS].tolist():
            os.pread(counts, 8, 8 * pfn)

    return {
        FLOOR: lambda: read(counts, first * PAGE, len(pfns), CHUNK, None),
        EACH: timed(one_by_one),
    }


def of_tools(memory: Target) -> dict[str, Timer]:
    """Return page-types, which reads flags alone."""
    program = page_types()
    if isinstance(program, str):
        return {}
    area = f"{memory.start // PAGE:#x},{memory.end // PAGE:#x}"
    command = [program, "--pid", str(memory.pid), "--addr", area]
    return {
        rivals.PAGE_TYPES: timed(lambda: subprocess.run(command, check=True, capture_output=True))
    }
