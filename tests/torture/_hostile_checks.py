"""Every public call on a process that changes meanwhile, and what may never be in an answer."""

import io
import itertools
import mmap
import os
import subprocess
import sys
import tempfile

import numpy as np

import fastpagemap as fpm
from fastpagemap import State

PAGE = fpm.PAGE_SIZE
#: The addresses of the kernel's own half: nothing there can be asked for.
_KERNEL_HALF = 1 << 63
#: Pages that a question about one span is about, at most.
_MOST = 1 << 14


class Inconsistent(AssertionError):
    """An answer that contradicts itself."""


def holds(condition, what):
    """Raise Inconsistent unless an answer is as it must be."""
    if not condition:
        raise Inconsistent(what)


def mappings(pm, _chance, _mappings):
    found = pm.mappings()
    holds(all(m.start < m.end for m in found), "an empty mapping")
    holds(
        all(a.end <= b.start for a, b in itertools.pairwise(found)),
        "mappings overlap",
    )


def _span(chance, current):
    """A random part of a random mapping."""
    m = chance.choice([m for m in current if m.start < _KERNEL_HALF])
    first = m.start + chance.randrange(min(m.pages, 1 << 30)) * PAGE
    return first, min(m.end, first + chance.randrange(1, _MOST) * PAGE)


def read(pm, chance, current):
    pages = pm.read(*_span(chance, current))
    holds(not (pages.swapped & pages.present).any(), "read: swapped and present")
    holds(not (pages.unknown & (pages.swapped | pages.present)).any(), "read: unknown, yet known")
    holds(not (pages.exclusive & ~pages.present).any(), "read: exclusive, not present")
    holds(not (pages.shared & ~pages.present).any(), "read: shared, not present")
    holds((pages.pfn[~pages.present] == 0).all(), "read: a frame of no page")


def masks(pm, chance, current):
    found = pm.masks(*_span(chance, current))
    holds(not (found.swapped & found.shared).any(), "masks: swapped and shared")
    holds(not (found.unknown & (found.swapped | found.shared)).any(), "masks: unknown, yet known")


def one_mask(pm, chance, current):
    start, end = _span(chance, current)
    name = chance.choice(("present", "swapped", "shared", "exclusive", "unknown", "soft_dirty"))
    found = getattr(pm, name)(start, end)
    holds(len(found) == (end - start) // PAGE, f"{name}: its length")


def usage(pm, chance, current):
    some = chance.choice((None, [chance.choice(current)], current))
    rows = pm.usage(some)
    for name in rows.dtype.names[3:]:
        holds((rows[name] <= rows["size"]).all(), f"usage: {name} > size")
    holds((rows["present"] + rows["swapped"] <= rows["size"]).all(), "usage: present + swapped")
    holds((rows["swapped_shared"] <= rows["swapped"]).all(), "usage: swapped_shared > swapped")
    for name in ("shared", "exclusive", "huge", "zero"):
        holds((rows[name] <= rows["present"]).all(), f"usage: {name} > present")


def check_runs(runs, name):
    """What holds of runs of states, wherever they come from."""
    holds((runs["start"] < runs["end"]).all(), f"{name}: an empty run")
    holds((runs["start"][1:] >= runs["end"][:-1]).all(), f"{name}: not in order")
    state = runs["state"]
    holds(state.all(), f"{name}: a run of nothing")
    present, swapped = (state & State.PRESENT) != 0, (state & State.SWAPPED) != 0
    holds(not (present & swapped).any(), f"{name}: swapped and present")
    unknown = (state & State.UNKNOWN) != 0
    holds(not (unknown & (present | swapped)).any(), f"{name}: unknown, yet known")


def states(pm, _chance, _current):
    check_runs(pm.states(), "states")


def regions(pm, chance, current):
    if chance.randrange(2):
        found = pm.regions()
    else:
        start, end = _span(chance, current)
        found = pm.regions(start, end, mask=fpm.Category.PRESENT)
        if len(found):
            holds(found["start"][0] >= start and found["end"][-1] <= end, "regions: out of range")
    holds((found["start"] < found["end"]).all(), "regions: an empty one")
    holds((found["start"][1:] >= found["end"][:-1]).all(), "regions: not in order")
    same = found["categories"][1:] == found["categories"][:-1]
    holds(not (same & (found["start"][1:] == found["end"][:-1])).any(), "regions: not merged")


def residency(pm, chance, current):
    some = [m for m in current if m.start < _KERNEL_HALF]
    addresses = np.array([m.start + chance.randrange(PAGE) for m in some], np.uint64)
    sizes = np.array([chance.randrange(1 << 20) for _ in some], np.uint64)
    found = pm.residency(addresses, sizes)
    holds((found["present"] + found["swapped"] <= sizes).all(), "residency: more than its size")
    for name in ("shared", "exclusive"):
        holds((found[name] <= found["present"]).all(), f"residency: {name} > present")


def snapshot(pm, _chance, _current):
    taken = pm.snapshot()
    check_runs(taken.states, "snapshot")
    file = io.BytesIO()
    taken.save(file)
    file.seek(0)
    again = fpm.Snapshot.load(file)  # whatever the library takes it also loads
    holds(np.array_equal(taken.states, again.states), "snapshot: other states when loaded")
    holds(taken.mappings == again.mappings, "snapshot: other mappings when loaded")
    taken.usage()
    holds(not any(again.diff(taken).sums().values()), "snapshot: differs from itself")


def physical(pm, chance, current):
    start, end = _span(chance, current)
    name = chance.choice(("zero", "huge", "cached", "nodes", "mapcounts"))
    found = getattr(pm, name)(start, end)
    holds(len(found) == (end - start) // PAGE, f"{name}: its length")
    folios = pm.folios(start, end)
    holds((folios["start"] < folios["end"]).all(), "folios: an empty one")
    holds((folios["start"][1:] >= folios["end"][:-1]).all(), "folios: not in order")
    pages, order = (folios["end"] - folios["start"]) // PAGE, folios["order"]
    holds((pages <= np.uint64(1) << order).all(), "folios: more than its pages")


def group(pm, _chance, _current):
    """Alone and with this process: sums, and what is counted once."""
    with fpm.Group([pm.pid, os.getpid()]) as both:
        total = both.total()
        overlap = both.overlap() if len(both) == 2 else np.zeros((1, 1), np.uint64)
    holds(total["unique"] <= total["union"] <= total["rss"], "group: union and its parts")
    holds(total["swapped_union"] <= total["swapped"], "group: more swap once than in all")
    holds((overlap <= overlap.diagonal()).all(), "group: more in common than one has")


def capabilities(pm, _chance, _current):
    fpm.capabilities(pm.pid)


def tracker(_pm, chance, _current):
    """Not about the target: this process's own writes are told all and once, beside the rest."""
    pages = chance.randrange(1, 200)
    with mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        with fpm.WriteTracker(*fpm.span(memory)) as watch:
            some = sorted(chance.sample(range(pages), min(pages, 5)))
            for page in some:
                memory[page * PAGE] = 1
            holds(np.flatnonzero(watch.written()).tolist() == some, "tracker: other pages")
            holds(not len(watch.regions()), "tracker: told twice")


def command(pm, chance, _current):
    """The command line: an answer, or one line that says why not."""
    with tempfile.TemporaryDirectory(prefix="fastpagemap-hostile-") as place:
        arguments = chance.choice(
            (
                ["report", str(pm.pid)],
                ["report", str(pm.pid), "--json"],
                ["report", str(pm.pid), "--group", "kind"],
                ["report", "--all"],
                ["report", "--tree", str(pm.pid)],
                ["report", "--who", str(pm.pid)],
                ["map", str(pm.pid), "-o", f"{place}/map.png"],
                ["dump", str(pm.pid), "-o", f"{place}/dump.fpm"],
            )
        )
        done = subprocess.run(
            [sys.executable, "-m", "fastpagemap", *arguments],
            capture_output=True,
            timeout=90,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    said = done.stderr.decode(errors="replace")
    holds(done.returncode in (0, 1), f"{arguments}: exit code {done.returncode}: {said[-300:]}")
    holds("Traceback" not in said, f"{arguments}: {said[-600:]}")


#: Each call, and how often it is made in relation to the others.
CALLS = {
    mappings: 6, read: 10, masks: 10, one_mask: 10, usage: 6, states: 6, regions: 6, residency: 6,
    snapshot: 3, capabilities: 2, tracker: 4, command: 0.3, physical: 6, group: 2,
}  # fmt: skip
