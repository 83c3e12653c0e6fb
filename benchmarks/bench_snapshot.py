"""What do the states of all pages cost, and a snapshot, its file and a comparison?"""

import io

import fastpagemap as fpm
import rivals
from bench_layouts import NAMES
from lab import GIB, Result, Rows, Scale, Target, Timer, medians, readable, table, target, timed

LAYOUTS = ("dense", "every 2", "every 512", "huge")
#: of one snapshot's file, in bytes
LARGEST = 4 << 20
#: seconds for 100 GiB of which little is touched
MOSTLY_UNTOUCHED = 0.2


def contenders(memory: Target, pm: fpm.PageMap) -> dict[str, Timer]:
    """Return the C loop, what the masks cost, and each step of a snapshot's life."""
    taken = pm.snapshot()
    file, saved = io.BytesIO(), io.BytesIO()
    taken.save(saved)

    def save() -> None:
        file.seek(0)
        taken.save(file)

    def load() -> None:
        saved.seek(0)
        fpm.Snapshot.load(saved)

    return {
        rivals.PREAD: rivals.in_c(memory)[rivals.PREAD],
        "masks": timed(lambda: pm.masks(*memory.span)),
        "exclusive": timed(lambda: pm.exclusive(*memory.span)),
        "states": timed(pm.states),
        "snapshot": timed(pm.snapshot),
        "save": timed(save),
        "load": timed(load),
        "diff": timed(lambda: taken.diff(taken)),
        "usage of it": timed(taken.usage),
    }


def run(scale: Scale) -> list[Result]:
    """Measure each layout, and a reservation."""
    results = []
    for layout in LAYOUTS:
        with target(layout, scale.size) as memory, fpm.PageMap(memory.pid) as pm:
            taken, file = pm.snapshot(), io.BytesIO()
            taken.save(file)
            size = len(file.getvalue())
            cost = medians(contenders(memory, pm), scale.rounds)
        about = f"{readable(scale.size)}, {NAMES[layout]}: {len(taken.states)} runs"
        rows: Rows = [("", "ms", "of preads", "of masks + exclusive")]
        masks = cost["masks"] + cost["exclusive"]
        for name, seconds in cost.items():
            of_preads = f"{seconds / cost[rivals.PREAD]:.2f}"
            rows.append((name, f"{seconds * 1e3:.2f}", of_preads, f"{seconds / masks:.2f}"))
        table(f"{about}, {readable(size)} in a file; medians of {scale.rounds}", rows)
        results.append(Result(layout, "snapshot", "bytes in a file", size, LARGEST))
    return [*results, reserved(scale)]


def reserved(scale: Scale) -> Result:
    """Measure a hundred times as much address space as memory."""
    resident = min(GIB, scale.size)
    with (
        target("reserved", 100 * resident, resident) as memory,
        fpm.PageMap(memory.pid) as pm,
    ):
        cost = medians({"states": timed(pm.states), "usage": timed(pm.usage)}, scale.rounds)
    what = f"{readable(100 * resident)} reserved, {readable(resident)} touched"
    rows: Rows = [("", "ms"), *((name, f"{value * 1e3:.2f}") for name, value in cost.items())]
    table(f"{what}; medians of {scale.rounds}", rows)
    return Result(what, "states", "seconds", cost["states"], MOSTLY_UNTOUCHED)
