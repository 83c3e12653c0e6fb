"""Eight threads look at processes that map, unmap, fork, exit and swap meanwhile.

What moves cannot be compared, but no answer may contradict itself, and no descriptor stay open.
"""

import contextlib
import gc
import io
import os
import random
import sys
import threading
import time

import _torture  # isort: skip
import _layouts
import numpy as np

import fastpagemap as fpm
import steps
from fastpagemap import State
from linux import PAGE
from needs import Missing
from victim import Victim, VictimError

THREADS, TARGETS = 8, 3
#: Seconds of one round.
ROUND = 8
COLUMNS = ("present", "swapped", "shared", "exclusive", "unknown")
_KINDS = ("sparse", "memfd", "shared_anonymous", "touched", "memfd_private", "huge")


def disturb(targets, stop, chance):
    """Keep the targets busy; now and then replace one."""
    while not stop.is_set():
        number = chance.randrange(TARGETS)
        with contextlib.suppress(VictimError, Missing, OSError):
            victim, spans = targets[number]
            what = chance.random()
            if what < 0.05 or not spans:
                fresh = Victim()
                targets[number] = fresh, [fresh.make(chance.choice(_KINDS), 600) for _ in range(2)]
                victim.close()
            elif what < 0.1:
                victim.fork()
            elif what < 0.12:
                victim.exec()
                spans.clear()
            else:
                first, last = sorted((chance.randint(0, 600), chance.randint(0, 600)))
                name = chance.choice(sorted(set(steps.STEPS) - {"guard"}))
                victim.ask("step", chance.choice(spans).number, name, first, last)


def _masks(pm, start, end):
    found = pm.masks(start, end)
    assert not (found.swapped & found.unknown).any(), "swapped and unknown"


def _usage(pm, *_):
    table = pm.usage()
    for name in COLUMNS:
        assert (table[name] <= table["size"]).all(), f"more {name} than there is"


def _states(pm, *_):
    runs = pm.states()
    assert (runs["start"] < runs["end"]).all(), "an empty run"
    assert (runs["start"][1:] >= runs["end"][:-1]).all(), "runs overlap"
    assert runs["state"].all(), "a run of nothing"
    both = np.uint64(State.SWAPPED | State.UNKNOWN)
    assert ((runs["state"] & both) != both).all(), "swapped and unknown"


def _snapshot(pm, *_):
    file = io.BytesIO()
    pm.snapshot().save(file)
    file.seek(0)
    fpm.Snapshot.load(file)  # what was taken can be loaded


def _read(pm, start, end):
    pages = pm.read(start, end)
    assert not (pages.present & pages.swapped).any(), "present and swapped"


def _residency(pm, start, end):
    row = pm.residency([start + 1], [end - start - 2])[0]
    assert row["present"] + row["swapped"] <= end - start, "more than there is"


def _mask(pm, start, end):
    pm.present(start, end)
    pm.swapped(start, end)


def _physical(pm, start, end):
    pm.mapcounts(start, end)
    pm.nodes(start, end)
    folios = pm.folios(start, end)
    assert (folios["start"] < folios["end"]).all(), "an empty folio"


def _group(pm, *_):
    with fpm.Group([pm.pid]) as group:
        total = group.total()
    assert total["unique"] <= total["union"] <= total["rss"], "more once than in all"


LOOKS = (_masks, _usage, _states, _snapshot, _read, _residency, _mask, _physical, _group)


def look(targets, until, chance, counts, problems):
    """Ask one thing after the other."""
    pm = mappings = None
    while time.monotonic() < until:
        victim, _ = targets[chance.randrange(TARGETS)]
        try:
            if pm is None or chance.random() < 0.2:
                pm = fpm.PageMap(victim.pid)
                mappings = [m for m in pm.mappings() if m.start < 1 << 63]
            chosen = chance.choice(mappings)
            end = min(chosen.end, chosen.start + 4096 * PAGE)
            chance.choice(LOOKS)(pm, chosen.start, end)
            counts["answers"] += 1
        except ProcessLookupError:
            counts["processes gone"] += 1
            pm = None
        except Exception as error:
            problems.append(error)
            return


def one_round(chance, counts):
    """A few seconds of it."""
    before = len(os.listdir("/proc/self/fd"))
    targets, problems, stop = [], [], threading.Event()
    try:
        for _ in range(TARGETS):
            victim = Victim()
            targets.append((victim, [victim.make(chance.choice(_KINDS), 600)]))
        until = time.monotonic() + ROUND
        lookers = [
            threading.Thread(
                target=look,
                args=(targets, until, random.Random(chance.random()), counts, problems),
            )
            for _ in range(THREADS)
        ]
        disturber = threading.Thread(
            target=disturb, args=(targets, stop, random.Random(chance.random()))
        )
        for thread in (*lookers, disturber):
            thread.start()
        for thread in lookers:
            thread.join()
        stop.set()
        disturber.join()
    finally:
        for victim, _ in targets:
            victim.close()
    if problems:
        raise problems[0]
    del targets, lookers
    gc.collect()
    left = len(os.listdir("/proc/self/fd")) - before
    assert left <= 0, f"{left} descriptors stay open"


if __name__ == "__main__":
    given = _torture.arguments()
    with _layouts.both_kinds_of_swap():
        status = _torture.run(one_round, given)
    sys.exit(status)
