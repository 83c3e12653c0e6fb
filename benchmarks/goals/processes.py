"""Whole processes: many mappings, few, and much address space with little in it."""

import contextlib
import math
import signal
import subprocess
import time
from collections.abc import Iterator

import bench_mappings
import bench_sparse
import fastpagemap as fpm
from fastpagemap.process.namespaces import pids
from goals.rows import Goal, duration, more, ratio, unmeasured
from lab import (
    GIB,
    MIB,
    PAGE,
    TIB,
    Scale,
    Timer,
    Work,
    medians,
    read_file,
    readable,
    swap_in_use,
    target,
    timed,
)

BOTH = ("present", "swapped")
#: of smaps, of two columns
MANY_BOTH = 0.4
#: of smaps_rollup
SMALL = 1.5
#: of smaps_rollup, of many processes
MANY_PROCESSES, OF_ROLLUPS = 60, 2.0
#: some with memory that takes a question to its file, of smaps_rollup
SHARING, SHARED, OF_FILES = 20, MIB, 5.0
#: as much as AddressSanitizer's shadow; ms; seconds after which it is given up
SHADOW, SHADOW_TOUCHED, SHADOW_TIME, PATIENCE = 14 * TIB, 8 * MIB, 100, 3.0


def measured(scale: Scale) -> Iterator[Goal]:
    """Measure each kind of process."""
    yield from many_mappings(scale)
    yield from small(scale)
    yield from several(scale)
    yield from reserved(scale)
    yield from shadow(scale)


def _file(pid: int, name: str) -> Timer:
    return lambda: read_file(f"/proc/{pid}/{name}")


def many_mappings(scale: Scale) -> Iterator[Goal]:
    """Measure mappings of a page each."""
    with (
        target("small mappings", scale.small_mappings * PAGE) as memory,
        fpm.PageMap(memory.pid) as pm,
    ):
        cost = medians(
            {
                "smaps": _file(memory.pid, "smaps"),
                "all": timed(pm.usage),
                "both": timed(lambda: pm.usage(fields=BOTH)),
            },
            scale.rounds,
        )
    what = f"{scale.small_mappings:,} mappings of a page"
    floor = "C, smaps read", cost["smaps"]
    yield ratio("usage()", what, cost["all"], *floor, bench_mappings.OF_SMAPS)
    yield ratio("usage(present, swapped)", what, cost["both"], *floor, MANY_BOTH)


def small(scale: Scale) -> Iterator[Goal]:
    """Measure processes of a few dozen mappings and a few MiB."""
    with (
        target("dense", PAGE) as memory,
        subprocess.Popen(["sleep", "infinity"]) as sleeper,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(sleeper.kill)
        for what, pid in {"a bare Python": memory.pid, "sleep": sleeper.pid}.items():
            pm = stack.enter_context(fpm.PageMap(pid))
            cost = medians(
                {"rollup": _file(pid, "smaps_rollup"), "usage": timed(pm.usage)}, scale.rounds
            )
            floor = "C, smaps_rollup read", cost["rollup"]
            yield ratio("usage()", what, cost["usage"], *floor, SMALL)


def several(scale: Scale) -> Iterator[Goal]:
    """Measure many processes at once: small ones, those that share, and all of this machine."""
    with contextlib.ExitStack() as stack:
        sleepers = []
        for _ in range(MANY_PROCESSES):
            sleeper = stack.enter_context(subprocess.Popen(["sleep", "infinity"]))
            stack.callback(sleeper.kill)
            sleepers.append(sleeper.pid)
        everyone = [pid for pid in pids() if _is_readable(pid)]
        kinds = {"sleep": (sleepers, OF_ROLLUPS), "all of this machine": (everyone, OF_ROLLUPS)}
        if swap_in_use():
            what = f"{readable(SHARED)} of shared memory, half swapped"
            made = [
                stack.enter_context(target("swapped 16 shared", SHARED)) for _ in range(SHARING)
            ]
            kinds[what] = [each.pid for each in made], OF_FILES
        for what, (chosen, limit) in kinds.items():
            cost = medians(
                {
                    "rollup": lambda chosen=chosen: _rollups(chosen),
                    "both": timed(lambda chosen=chosen: fpm.usage_of(chosen, fields=BOTH)),
                    "all": timed(lambda chosen=chosen: fpm.usage_of(chosen)),
                },
                scale.rounds,
            )
            memory = f"{len(chosen)} processes, {what}"
            floor = "C, smaps_rollup read", cost["rollup"]
            yield ratio("usage_of(present, swapped)", memory, cost["both"], *floor, limit)
            yield ratio("usage_of()", memory, cost["all"], *floor, None)


def _is_readable(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return _file(pid, "smaps_rollup")() > 0
    return False


def _rollups(chosen: list[int]) -> float:
    """Return the seconds it takes in C to read smaps_rollup of some processes."""
    took = 0.0
    for pid in chosen:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            took += _file(pid, "smaps_rollup")()
    return took


def reserved(scale: Scale) -> Iterator[Goal]:
    """Measure 1 GiB in terabytes of address space, next to the 1 GiB alone."""
    resident = min(GIB, scale.size)
    with (
        target("reserved", scale.reserved, resident) as large,
        target("reserved", resident, resident) as little,
        fpm.PageMap(large.pid) as in_large,
        fpm.PageMap(little.pid) as in_little,
    ):
        asks = {
            f"{name} {size}": timed(getattr(pm, name))
            for name in ("usage", "regions", "states")
            for size, pm in (("large", in_large), ("little", in_little))
        }
        cost = medians(asks, scale.rounds)
    what = f"{readable(scale.reserved)} reserved, {readable(resident)} touched"
    for name in ("usage", "regions", "states"):
        times = cost[f"{name} large"], f"the {readable(resident)} alone", cost[f"{name} little"]
        yield more(f"{name}()", what, *times, bench_sparse.MORE * 1e3, "ms")


# ---- what may take too long to wait for --------------------------------------------------------


def shadow(scale: Scale) -> Iterator[Goal]:
    """Measure a private mapping of a sparse file of shared memory: far more than is touched."""
    what = f"{readable(SHADOW)} of a sparse tmpfs file, private, {readable(SHADOW_TOUCHED)} touched"
    if not swap_in_use():
        yield unmeasured("usage()", what, "there is no swap in use")
        return
    with target("shadow", SHADOW, SHADOW_TOUCHED) as memory, fpm.PageMap(memory.pid) as pm:
        took = patient(pm.usage, scale.rounds)
    told = f"over {PATIENCE:g} s" if math.isinf(took) else duration(took)
    yield Goal("usage()", what, told, "", "", took * 1e3, SHADOW_TIME, "ms")


def patient(work: Work, rounds: int) -> float:
    """Return the median seconds of some work, infinite if it was given up."""
    times: list[float] = []
    for _ in range(rounds):
        times.append(limited(work))
        if math.isinf(times[-1]) or sum(times) > PATIENCE:
            break
    return sorted(times)[len(times) // 2]


def limited(work: Work) -> float:
    """Return the seconds of some work, infinite if it took more than PATIENCE."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        work()
    except TimeoutError:
        return math.inf
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.perf_counter() - began
