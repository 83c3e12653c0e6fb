"""What do the states of all pages cost, and a snapshot, its file and a comparison?"""

import dataclasses
import functools
import io
import zipfile

import numpy as np

import fastpagemap as fpm
import rivals
from bench_layouts import NAMES
from fastpagemap.model.runs import edges_of, states_at
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
    return [*results, reserved(scale), *compared(scale), *saved(scale)]


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


# ---- many runs, invented -----------------------------------------------------------------------

#: runs of each of two snapshots that are compared, and of one that is saved
COMPARED, SAVED = 500_000, 1_000_000
#: seconds for a comparison; the part of the time that zlib's default level takes
DIFF_SECONDS, SAVE_PART = 0.040, 0.25
STATES = [1, 2, 9, 17, 65]


def invented(gaps: np.ndarray, lengths: np.ndarray, states: np.ndarray) -> fpm.Snapshot:
    """Return a snapshot of 100 mappings with runs of such gaps, lengths and states."""
    runs = np.empty(len(gaps), fpm.RUN_DTYPE)
    ends = np.cumsum(gaps + lengths)
    runs["start"], runs["end"] = (ends - lengths) * fpm.PAGE_SIZE, ends * fpm.PAGE_SIZE
    runs["state"] = states
    parts = np.array_split(runs, 100)
    spans = [(int(part["start"][0]), int(part["end"][-1])) for part in parts]
    mappings = [fpm.Mapping(*span, "rw-p", 0, 0, 0, "") for span in spans]
    with fpm.PageMap() as pm:
        return dataclasses.replace(pm.snapshot(), mappings=mappings, states=runs)


def by_sorting(one: fpm.Snapshot, two: fpm.Snapshot) -> int:
    """Count the changes the obvious way: all edges sorted, each one looked up in both."""
    edges = [runs[name] for runs in (one.states, two.states) for name in ("start", "end")]
    lows = edges_of(*edges)
    return int(np.count_nonzero(states_at(one.states, lows) != states_at(two.states, lows)))


def compared(scale: Scale) -> list[Result]:
    """Compare snapshots of many runs: all different, mostly equal, equal."""
    count = COMPARED * scale.size // (4 * GIB)
    rng = np.random.default_rng(1)
    gaps, lengths = rng.integers(1, 8, (2, count))
    states = rng.choice(STATES, count)
    one = invented(gaps, lengths, states)
    few = np.where(rng.random(count) < 0.01, states ^ 4, states)
    others = {
        "other runs": invented(*rng.integers(1, 8, (2, count)), rng.choice(STATES, count)),
        "other states": invented(gaps, lengths, rng.choice(STATES, count)),
        "1 % other states": invented(gaps, lengths, few),
        "the same": one,
    }
    rows: Rows = [("", "changes", "ms", "of sorting")]
    results = []
    for name, two in others.items():
        work = functools.partial(one.diff, two), functools.partial(by_sorting, one, two)
        cost = medians(dict(zip(("diff", "sorting"), map(timed, work), strict=True)), scale.rounds)
        part = cost["diff"] / cost["sorting"]
        changes = len(one.diff(two).runs)
        rows.append((name, str(changes), f"{cost['diff'] * 1e3:.2f}", f"{part:.2f}"))
        results.append(Result(name, "diff", "seconds", cost["diff"], DIFF_SECONDS))
    table(f"comparing {count} runs with as many; medians of {scale.rounds}", rows)
    return results


def saved(scale: Scale) -> list[Result]:
    """Save and load many random runs, next to a file that is packed as well as zlib does."""
    count = SAVED * scale.size // (4 * GIB)
    rng = np.random.default_rng(1)
    snapshot = invented(*rng.integers(1, 300, (2, count)), rng.choice(STATES, count))
    file = io.BytesIO()
    snapshot.save(file)
    packed = repacked(file.getvalue())
    contents = {"": file.getvalue(), " at the default level": packed}
    cost = {"save": timed(lambda: snapshot.save(io.BytesIO()))}
    cost["save at the default level"] = timed(lambda: repacked(file.getvalue()))
    for name, content in contents.items():
        cost[f"load{name}"] = timed(lambda content=content: fpm.Snapshot.load(io.BytesIO(content)))
    found = medians(cost, scale.rounds)
    rows: Rows = [("", "ms"), *((name, f"{value * 1e3:.2f}") for name, value in found.items())]
    sizes = " and ".join(readable(len(content)) for content in contents.values())
    table(f"a file of {count} random runs, {sizes}; medians of {scale.rounds}", rows)
    part = found["save"] / found["save at the default level"]
    return [Result("random runs", "save", "the default level", part, SAVE_PART)]


def repacked(content: bytes) -> bytes:
    """Return the same archive, packed at zlib's default level."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return packed.getvalue()
