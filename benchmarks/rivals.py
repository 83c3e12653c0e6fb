"""The others: how else one can learn such things of a process."""

import contextlib
import io
import mmap
import subprocess

import numpy as np
import psutil
from pagemap.entry import show

import fastpagemap as fpm
from lab import CHUNK, PAGE, Floor, Target, Timer, timed
from page_types import page_types

PRESENT, SWAPPED, PFNZERO, HUGE = 8, 16, 32, 64
PREAD = "C, 256 KiB preads"
KEPT = "C, the same, entries kept"
IOCTL_PRESENT = "C, bare ioctl: present"
IOCTL_SWAPPED = "C, bare ioctl: swapped"
IOCTL_BOTH = "C, bare ioctl: both"
IOCTL_MASKS = "C, bare ioctl: as masks"
IOCTL_REGIONS = "C, bare ioctl: as regions()"
IOCTL_KEPT = "C, the same, in new memory"
FILLED = "one mask filled, no question"
NUMPY = "numpy: fromfile, two masks"
SMAPS = "smaps, only read"
ROLLUP = "smaps_rollup, only read"
FULL_INFO = "psutil memory_full_info"
MAPS = "psutil memory_maps"
PAGEMAP = "pagemap 0.1.1: show"
PAGE_TYPES = "page-types --pid"


def in_c(target: Target) -> dict[str, Timer]:
    """Return the C loops over the target's span."""
    floor = Floor(target.pid)
    span = target.span
    kept = np.ones(target.pages, np.uint64)

    def better(returns: int) -> tuple[int, ...]:
        """Ask for pages that are there, or for those not present: whichever costs less here."""
        direct, complement = (0, 0, returns, returns), (PRESENT, PRESENT, 0, returns)
        return min(direct, complement, key=lambda ask: min(floor.scan(*span, *ask) for _ in "123"))

    regions = 0, PRESENT, 0, PRESENT

    def kept_regions() -> float:
        """Keep the regions in memory that is new each time, as that of every result is."""
        with mmap.mmap(-1, 24 * target.pages + PAGE, flags=mmap.MAP_PRIVATE) as memory:
            return floor.scan(*span, *regions, keep=fpm.span(memory)[0])

    present, both = better(PRESENT), better(PRESENT | SWAPPED)
    return {
        PREAD: lambda: floor.read(*span),
        KEPT: lambda: floor.read(*span, keep=kept.ctypes.data),
        IOCTL_PRESENT: lambda: floor.scan(*span, *present),
        IOCTL_SWAPPED: lambda: floor.scan(*span, 0, 0, SWAPPED, SWAPPED),
        IOCTL_BOTH: lambda: floor.scan(*span, *both),
        # the huge zero page is the only one of private anonymous memory that looks shared
        IOCTL_MASKS: lambda: floor.scan(*span, 0, 0, SWAPPED | PFNZERO, SWAPPED | PFNZERO | HUGE),
        IOCTL_REGIONS: lambda: floor.scan(*span, *regions),
        IOCTL_KEPT: kept_regions,
    }


def of_span(target: Target) -> dict[str, Timer]:
    """Return what can be asked about a span alone."""
    path = f"/proc/{target.pid}/pagemap"
    first = target.start // PAGE

    def recipe() -> object:
        with open(path, "rb") as file:
            file.seek(first * 8)
            entries = np.fromfile(file, np.uint64, target.pages)
        return entries >> 63 & 1 == 1, entries >> 62 & 1 == 1

    mask = np.ones(target.pages, bool)
    found = {FILLED: timed(lambda: mask.fill(False)), NUMPY: timed(recipe)}
    program = page_types()
    if not isinstance(program, str):
        area = f"{first:#x},{target.end // PAGE:#x}"
        command = [program, "--pid", str(target.pid), "--addr", area]
        found[PAGE_TYPES] = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return found


def of_process(target: Target, *, one_by_one: bool = True) -> dict[str, Timer]:
    """Return what tells only of a whole process; `one_by_one`: and reads every page for itself."""

    def read(name: str) -> object:
        with open(f"/proc/{target.pid}/{name}", "rb", buffering=CHUNK) as file:
            return file.read()

    def each_page() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            show.callback(target.pid)

    process = psutil.Process(target.pid)
    found = {
        SMAPS: timed(lambda: read("smaps")),
        ROLLUP: timed(lambda: read("smaps_rollup")),
        FULL_INFO: timed(process.memory_full_info),
        MAPS: timed(process.memory_maps),
    }
    if one_by_one:
        found[PAGEMAP] = timed(each_page)
    return found
