"""Screens of ``fastpagemap watch``, compared with pictures that somebody has looked at.

``make test ARGS="tests/test_watch_screens.py --snapshot-update"`` draws them anew, into
``__snapshots__``: look at each before it is committed.
"""

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import RUN_DTYPE, Category, Mapping, Snapshot, State

pytest.importorskip("textual")
pytest.importorskip("pytest_textual_snapshot")

from fastpagemap.cli.watch.app import Viewer
from fastpagemap.cli.watch.sampling import SnapshotSource
from fastpagemap.cli.watch.view import Watch

PAGE = 4096
#: Of each stretch: pages, and what they are.
PRESENT = State.PRESENT | State.EXCLUSIVE
SHARED = State.PRESENT | State.SHARED
IN_FILE = State.SWAPPED | State.SWAPPED_SHARED
MEMORY = {
    ("r-xp", "/usr/bin/program"): [(300, SHARED), (50, State(0))],
    ("rw-p", "[heap]"): [(400, PRESENT), (100, State.SWAPPED), (60, PRESENT | State.SOFT_DIRTY)],
    ("rw-p", ""): [(512, PRESENT | State.HUGE), (200, State(0)), (80, State.PRESENT | State.ZERO)],
    ("rw-s", "/dev/shm/a path that is so long that it has to be cut off"): [
        *((100, SHARED), (300, IN_FILE), (40, State.UNKNOWN), (60, IN_FILE))
    ],
    ("rw-p", "[stack]"): [(16, State.GUARD), (40, State(0)), (20, PRESENT)],
}


def snapshot(memory=MEMORY):
    """A snapshot of memory that is always the same."""
    at, mappings, runs = 0x550000000000, [], []
    for number, ((permissions, path), stretches) in enumerate(memory.items()):
        at += 1 << 36
        start = at
        for pages, state in stretches:
            if state:
                runs.append((at, at + pages * PAGE, state))
            at += pages * PAGE
        inode = number if path.startswith("/") else 0
        mappings.append(Mapping(start, at, permissions, 0, 0, inode, path))
    capabilities = fpm.Capabilities(PAGE, True, True, Category(0), True, True, True, True, True)
    return Snapshot(
        *(4321, "program", "program --option", 1.75e9, "6.18.0", "x86_64", PAGE, capabilities),
        *(True, mappings, np.array(runs, RUN_DTYPE)),
    )


SCREENS = {
    "narrow": ((80, 24), [], False),
    "wide": ((160, 36), ["down", "down", "down", "down"], False),
    "characters": ((80, 24), ["down", "down", "plus", "d"], True),
    "help": ((80, 30), ["question_mark"], False),
    "small": ((40, 10), [], False),
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(snap_compare, name):
    size, keys, characters = SCREENS[name]
    view = Watch(SnapshotSource(snapshot()), characters=characters)

    async def drawn(pilot):
        await seen(pilot)
        await pilot.press(*keys)
        await seen(pilot)

    async def seen(pilot):
        while name != "small" and (view.frame is None or view.frame.request != view._request()):
            await pilot.pause(0.02)
        await pilot.pause()

    assert snap_compare(Viewer(view), terminal_size=size, run_before=drawn)
