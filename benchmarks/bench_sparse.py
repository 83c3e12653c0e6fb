"""What does a reservation cost, beyond what is in it?"""

import fastpagemap as fpm
import rivals
from lab import GIB, Result, Rows, Scale, Timer, medians, readable, table, target, timed

#: seconds that the reservation may cost
MORE = 0.012


def contenders(pm: fpm.PageMap) -> dict[str, Timer]:
    """Return questions about the whole process."""
    present = fpm.Category.PRESENT
    return {
        "usage(present, swapped)": timed(lambda: pm.usage(fields=("present", "swapped"))),
        "usage()": timed(pm.usage),
        "regions(present)": timed(lambda: pm.regions(mask=present, returns=present)),
        "regions()": timed(pm.regions),
    }


def run(scale: Scale) -> list[Result]:
    """Measure 1 GiB in a reservation of terabytes, next to 1 GiB alone."""
    resident = min(GIB, scale.size)
    with (
        target("reserved", scale.reserved, resident) as large,
        target("reserved", resident, resident) as small,
        fpm.PageMap(large.pid) as in_large,
        fpm.PageMap(small.pid) as in_small,
    ):
        alone = rivals.of_process(small, one_by_one=False)
        within = rivals.of_process(large, one_by_one=False)
        alone |= contenders(in_small)
        within |= contenders(in_large)
        cost = medians(
            {f"{name}|alone": timer for name, timer in alone.items()}
            | {f"{name}|within": timer for name, timer in within.items()},
            scale.rounds,
        )
    reserved = f"{readable(scale.reserved)} reserved"
    rows: Rows = [("", "alone, ms", "within, ms", "more, ms", "target", "")]
    results = []
    for name in alone:
        both = cost[f"{name}|alone"], cost[f"{name}|within"]
        more = both[1] - both[0]
        cells = [name, *(f"{value * 1e3:.2f}" for value in (*both, more)), "", ""]
        if name.startswith(("usage", "regions")):
            result = Result(reserved, name, "ms more", more * 1e3, MORE * 1e3)
            results.append(result)
            cells[4:] = [f"{result.target:g}", result.verdict]
        rows.append(tuple(cells))
    print(f"\na C loop of preads over {readable(scale.reserved)} takes {preads(scale):.0f} s")
    table(
        f"{reserved}, {readable(resident)} of it touched, in 16 parts; medians of {scale.rounds}",
        rows,
    )
    return results


def preads(scale: Scale) -> float:
    """Return how long preads would take over the reservation, from a part never touched."""
    with target("untouched", scale.size) as memory:
        timer = rivals.in_c(memory)[rivals.PREAD]
        return medians({"": timer}, scale.rounds)[""] * scale.reserved / scale.size
