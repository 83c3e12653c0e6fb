"""Memory of each layout: usage, states, masks and regions beside preads, smaps and a bare ioctl."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import fastpagemap as fpm
import rivals
from bench_layouts import LAYOUTS, NAMES
from goals.rows import Goal, more, ratio, unmeasured
from lab import (
    Scale,
    Target,
    Timer,
    affordable,
    kernel_sums,
    medians,
    read_file,
    swap_in_use,
    target,
    timed,
)

SMAPS = "C, smaps read"


class Wanted(NamedTuple):
    """A question, its floor, and the most that it may be, by layout."""

    question: str
    floor: str
    limits: dict[str, float | None]
    # microseconds more than the floor, in place of a ratio
    microseconds: bool = False


_SCAN = {"dense": 1.10, "every 2": 1.15, "every 8": 1.15, "every 512": 1.15}
_EMPTY = {"huge": 60, "untouched": 60}
_PRESENT, _SWAPPED, _MASKS = "present(out=)", "swapped(out=)", "masks"
_REGIONS = "regions(present)"
WANTED = (
    Wanted(
        "usage()",
        rivals.PREAD,
        {"dense": 1.10, "every 8": 1.2, "every 512": 1.2, "huge": 0.35},
    ),
    Wanted("usage()", SMAPS, {"dense": 1, "every 8": 1, "every 512": 1}),
    Wanted("exclusive(out=)", rivals.PREAD, {"huge": 0.35}),
    Wanted(
        "states()",
        rivals.PREAD,
        {"dense": 1.15, "every 2": 1.5, "every 512": 1.2, "huge": 0.4},
    ),
    Wanted(_PRESENT, rivals.IOCTL_PRESENT, _SCAN),
    Wanted(_PRESENT, rivals.IOCTL_PRESENT, _EMPTY, microseconds=True),
    Wanted(_SWAPPED, rivals.IOCTL_SWAPPED, _SCAN),
    Wanted(_SWAPPED, rivals.IOCTL_SWAPPED, _EMPTY, microseconds=True),
    Wanted(_SWAPPED, rivals.PREAD, {"swapped 16": 1.05, "swapped 1": 1.05}),
    Wanted(_MASKS, rivals.IOCTL_MASKS, _SCAN),
    Wanted(_MASKS, rivals.IOCTL_MASKS, _EMPTY, microseconds=True),
    Wanted(_REGIONS, rivals.IOCTL_REGIONS, dict.fromkeys(LAYOUTS, 1.15)),
    # no goal, but a reason: regions() must return them in new memory
    Wanted(_REGIONS, rivals.IOCTL_KEPT, dict.fromkeys(("every 2", "every 8", "swapped 1"))),
)
#: layouts that are nothing without swap
_OF_SWAP = ("swapped 16", "swapped 1")
#: compared with smaps, which tells of the whole process
_WHOLE = "usage() of the process"


def measured(scale: Scale) -> Iterator[Goal]:
    """Measure every layout."""
    for layout in LAYOUTS:
        wanted = [want for want in WANTED if layout in want.limits]
        try:
            cost = costs(layout, wanted, scale)
        except RuntimeError as error:
            for want in wanted:
                yield unmeasured(want.question, NAMES[layout], str(error))
        else:
            for want in wanted:
                yield _row(layout, want, cost)


def costs(layout: str, wanted: list[Wanted], scale: Scale) -> dict[str, float]:
    """Return the medians of all that is asked of a layout, and of the floors."""
    if layout in _OF_SWAP and not swap_in_use():
        raise RuntimeError("there is no swap in use")
    if not affordable(scale.size):
        raise RuntimeError("there is not so much memory")
    with target(layout, scale.size) as memory, fpm.PageMap(memory.pid) as pm:
        if layout == "huge" and kernel_sums(memory.pid)["AnonHugePages"] < scale.size * 0.9:
            raise RuntimeError("the kernel gave no huge pages")
        floors, ours = rivals.in_c(memory) | {SMAPS: _smaps(memory)}, questions(memory, pm)
        names = {_name(want) for want in wanted}
        contenders = {want.floor: floors[want.floor] for want in wanted}
        contenders |= {name: ours[name] for name in ours if name in names}
        return medians(contenders, scale.rounds)


def _name(want: Wanted) -> str:
    return _WHOLE if want.floor == SMAPS else want.question


def _row(layout: str, want: Wanted, cost: dict[str, float]) -> Goal:
    took, floor, limit = cost[_name(want)], cost[want.floor], want.limits[layout]
    if want.microseconds and limit is not None:
        return more(want.question, NAMES[layout], took, want.floor, floor, limit, "us")
    return ratio(want.question, NAMES[layout], took, want.floor, floor, limit)


def _smaps(memory: Target) -> Timer:
    return lambda: read_file(f"/proc/{memory.pid}/smaps")


def questions(memory: Target, pm: fpm.PageMap) -> dict[str, Timer]:
    """Return the library's ways: about the span that the C loops read, but for smaps' rival."""
    span = start, end = memory.span
    mask = np.ones(memory.pages, bool)
    mappings = [m for m in pm.mappings() if m.start < end and m.end > start]
    present = fpm.Category.PRESENT
    return {
        "usage()": timed(lambda: pm.usage(mappings)),
        _WHOLE: timed(pm.usage),
        "states()": timed(lambda: pm.states(mappings)),
        "exclusive(out=)": timed(lambda: pm.exclusive(*span, out=mask)),
        _PRESENT: timed(lambda: pm.present(*span, out=mask)),
        _SWAPPED: timed(lambda: pm.swapped(*span, out=mask)),
        _MASKS: timed(lambda: pm.masks(*span)),
        _REGIONS: timed(lambda: pm.regions(*span, mask=present, returns=present)),
    }
