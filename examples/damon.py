"""Which memory of another process is accessed: an estimate, by the kernel's DAMON (root).

DAMON divides the memory of a process into regions. Twenty times an interval it looks whether one
page of each region, chosen at random, was accessed, and takes that for the whole region. It splits
and merges regions as it learns. The process runs on undisturbed.

It needs Linux 6.2 with CONFIG_DAMON_VADDR and CONFIG_DAMON_SYSFS. There is one DAMON for all of the
machine: if somebody else uses it, this refuses, and leaves it as it is.

Source: Documentation/admin-guide/mm/damon/usage.rst.
"""

import contextlib
import errno
import time
from pathlib import Path
from typing import Self

KDAMONDS = Path("/sys/kernel/mm/damon/admin/kdamonds")
#: modules of the kernel that use DAMON for themselves, and let nobody else
USERS = ("damon_stat", "damon_reclaim", "damon_lru_sort")
SAMPLES = 20
#: how many regions there are, at least and at most: a region may be a page
REGIONS = (100, 5000)
#: more than any number of samples or intervals
ANY = 0xFFFFFFFF

Spans = list[tuple[int, int]]


class Refused(Exception):
    """DAMON cannot be used here; the message says why."""


class Damon:
    """Watches a process while the context lasts; leaves no trace in /sys, unless it is killed."""

    NAME = "DAMON"
    HOW = (
        f"an estimate, {SAMPLES} looks at one page of each of {REGIONS[0]} to {REGIONS[1]} regions"
    )

    def __init__(self, pid: int, interval: float) -> None:
        self._pid, self._interval = pid, interval
        self._context = KDAMONDS / "0/contexts/0"

    def __enter__(self) -> Self:
        try:
            others = (KDAMONDS / "nr_kdamonds").read_text().strip()
        except FileNotFoundError:
            raise Refused("this kernel has no CONFIG_DAMON_SYSFS") from None
        except PermissionError:
            raise Refused("it takes root") from None
        if others != "0":
            raise Refused("another program has set DAMON up, and is left alone")
        ours = True
        try:
            try:
                put(KDAMONDS / "nr_kdamonds", 1)
            except OSError as error:  # another program was quicker
                ours = False
                raise Refused(f"DAMON cannot be set up: {error.strerror}") from None
            self._start()
        except BaseException:
            if ours:
                self._take_away()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._take_away()

    def _start(self) -> None:
        put(KDAMONDS / "0/contexts/nr_contexts", 1)
        if "vaddr" not in (self._context / "avail_operations").read_text().split():
            raise Refused("this kernel has no CONFIG_DAMON_VADDR")
        put(self._context / "operations", "vaddr")
        put(self._context / "targets/nr_targets", 1)
        put(self._context / "targets/0/pid_target", self._pid)
        microseconds = int(self._interval * 1e6)
        intervals = {"sample": SAMPLES, "aggr": 1, "update": 1}  # "update": what is mapped
        for name, parts in intervals.items():
            put(self._context / f"monitoring_attrs/intervals/{name}_us", microseconds // parts)
        put(self._context / "monitoring_attrs/nr_regions/max", REGIONS[1])
        put(self._context / "monitoring_attrs/nr_regions/min", REGIONS[0])
        # a scheme that does nothing to regions in which any access was seen, but tells them
        put(self._context / "schemes/nr_schemes", 1)
        put(self._context / "schemes/0/action", "stat")
        pattern = {"sz": (0, 2**64 - 1), "nr_accesses": (1, ANY), "age": (0, ANY)}
        for name, (least, most) in pattern.items():
            put(self._context / f"schemes/0/access_pattern/{name}/min", least)
            put(self._context / f"schemes/0/access_pattern/{name}/max", most)
        try:
            put(KDAMONDS / "0/state", "on")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise Refused(f"the kernel uses it itself{remedy()}") from None

    def _take_away(self) -> None:
        with contextlib.suppress(OSError):  # it was not on, or stopped when the process ended
            put(KDAMONDS / "0/state", "off")
        put(KDAMONDS / "nr_kdamonds", 0)

    def accessed(self) -> Spans:
        """Wait for the end of an interval, and return the regions that were accessed in it."""
        if (KDAMONDS / "0/state").read_text().strip() != "on":
            raise ProcessLookupError(errno.ESRCH, "DAMON has stopped: the process has ended")
        put(KDAMONDS / "0/state", "update_schemes_tried_regions")
        regions = (self._context / "schemes/0/tried_regions").glob("*/start")
        return sorted((number(file), number(file.with_name("end"))) for file in regions)


def put(file: Path, value: int | str) -> None:
    """Write a value, again for as long as the kernel itself is busy with these files."""
    for pause in (0.01, 0.1, 0.5, None):
        try:
            file.write_text(str(value))
            return
        except OSError as error:
            if error.errno != errno.EBUSY or pause is None:
                raise
            time.sleep(pause)


def number(file: Path) -> int:
    """Return the number in a file."""
    return int(file.read_text())


def remedy() -> str:
    """Return how to stop the modules of the kernel that use DAMON."""
    files = [f"/sys/module/{name}/parameters/enabled" for name in USERS]
    busy = [file for file in files if Path(file).exists() and Path(file).read_text()[0] == "Y"]
    return "".join(f"; 'echo N >{file}' stops that" for file in busy)
