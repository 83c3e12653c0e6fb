"""A signal handler that raises, at any moment of every call: Ctrl-C and time limits are that.

No exception is lost, no descriptor stays open, and the next answer is the same as before.
"""

import gc
import os

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
from seccomp import forget
from storm import Storm
from victim import Victim

PAGES = 3000
ROUNDS = 60


def questions(pm, own, start, end):
    """Every public call about a process, by name; each answer can be compared."""
    addresses = np.arange(start, end, 8192, dtype=np.uint64)
    sizes = np.full(len(addresses), 5000, np.uint64)

    def tracked():
        with fpm.WriteTracker(*own) as tracker:
            return tracker.written().any(), len(tracker.regions())

    return {
        "PageMap": lambda: fpm.PageMap(pm.pid).pid,
        "own": lambda: fpm.PageMap().present(*own).tobytes(),
        "mappings": pm.mappings,
        "read": lambda: pm.read(start, end).swapped.tobytes(),
        "masks": lambda: pm.masks(start, end).swapped.tobytes(),
        "present": lambda: pm.present(start, end).tobytes(),
        "swapped": lambda: pm.swapped(start, end).tobytes(),
        "unknown": lambda: pm.unknown(start, end).tobytes(),
        "shared": lambda: pm.shared(start, end).tobytes(),
        "exclusive": lambda: pm.exclusive(start, end).tobytes(),
        "usage": lambda: pm.usage().tobytes(),
        "states": lambda: pm.states().tobytes(),
        "regions": lambda: pm.regions().tobytes(),
        "residency": lambda: pm.residency(addresses, sizes).tobytes(),
        "snapshot": lambda: pm.snapshot().states.tobytes(),
        "capabilities": lambda: fpm.capabilities(pm.pid),
        "uid": lambda: pm.uid,
        "html": pm._repr_html_,
        "tracker": tracked,
    }


def is_right(ask, patience=10):
    """Whether an answer is that without what was probed under fire; memory may change meanwhile."""
    for _ in range(patience):
        answer = ask()
        forget()
        if ask() == answer:
            return True
    return False


def weather(pid, start, end, seed):
    """Ask everything again and again under fire; return what was wrong."""
    storm = Storm(seed)
    with memory.touched(64) as made, fpm.PageMap(pid) as pm:
        asked = questions(pm, (made.start, made.end), start, end)
        for ask in asked.values():
            ask()  # and import what it needs: Python's own import drops exceptions
        gc.collect()  # what other tests have left: its destructors would run under fire
        with storm.weather():
            for number in range(ROUNDS):
                for name, ask in asked.items():
                    if number % 4 == 0:
                        forget()
                    delay = 10 ** storm.random.uniform(-5, -2.7)
                    storm.call(name, ask, delay, 0 if number % 3 else 3e-5)
        storm.wrong += [f"{name} afterwards" for name in asked if not is_right(asked[name])]
    return storm.hits, storm.whole, sorted(set(storm.wrong))


@pytest.mark.usefixtures("_write_tracking", "any_swap")
@pytest.mark.parametrize("uid", [None, pytest.param(runas.NOBODY, marks=pytest.mark.root)])
def test_every_call(uid):
    become = runas.in_child if uid is None else runas.as_nobody
    with Victim(uid) as victim:
        span = victim.make("shared_anonymous", PAGES)
        victim.pageout(span)
        hits, whole, wrong = become(weather, victim.pid, span.start, span.end, 1)
    assert wrong == []
    assert hits > ROUNDS
    assert whole > 0


def saving(path):
    """Save a snapshot again and again under fire; return what stayed open."""
    storm = Storm(2)
    with fpm.PageMap() as pm:
        snapshot = pm.snapshot()
    snapshot.save(path)
    gc.collect()
    with storm.weather():
        for _ in range(4 * ROUNDS):
            storm.call("save", lambda: snapshot.save(path), 10 ** storm.random.uniform(-5, -2.3))
    # Python's zipfile may lose an exception in its destructor, or replace it.
    left = [each for each in storm.wrong if "left open" in each]
    again = fpm.Snapshot.load(path)
    return storm.hits, left, again.states.tobytes() == snapshot.states.tobytes()


def test_saving(tmp_path):
    hits, left, same = runas.in_child(saving, str(tmp_path / "one.fpm"))
    assert left == []
    assert hits > ROUNDS
    assert same
    assert os.listdir(tmp_path) == ["one.fpm"]
