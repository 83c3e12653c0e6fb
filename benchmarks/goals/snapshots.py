"""Snapshots of very many runs: compared, and saved."""

import dataclasses
import io
import zipfile
from collections.abc import Iterator

import numpy as np

import fastpagemap as fpm
from goals.rows import Goal, duration, ratio
from lab import PAGE, Scale, Work, medians, timed

#: ms, of this many runs each, of which one in ten changed
DIFF, COMPARED = 40, 500_000
#: of what deflating the very bytes of the file at zlib's own level takes
SAVE, SAVED = 0.25, 1_000_000
#: where the runs begin; how many pages apart and how long they are, at most
START, APART, LENGTH = 1 << 40, 8, 64
_State = fpm.State
STATES = np.array(
    [
        _State.PRESENT | _State.EXCLUSIVE,
        _State.PRESENT | _State.SHARED,
        _State.PRESENT | _State.ZERO,
        _State.SWAPPED,
        _State.SWAPPED | _State.SWAPPED_SHARED,
    ],
    np.uint64,
)


def measured(scale: Scale) -> Iterator[Goal]:
    """Measure comparing, and saving."""
    # a tenth of the runs where the rest is little, too
    part = 10 if scale.rounds < 5 else 1
    yield compared(scale, COMPARED // part)
    yield from saved(scale, SAVED // part)


def random_snapshot(count: int) -> fpm.Snapshot:
    """Return a snapshot of one mapping with so many runs in it."""
    chance = np.random.default_rng(1)
    lengths = chance.integers(1, LENGTH, count, endpoint=True)
    ends = np.cumsum(chance.integers(1, APART, count, endpoint=True) + lengths)
    runs = np.empty(count, fpm.RUN_DTYPE)
    runs["start"], runs["end"] = (ends - lengths) * PAGE + START, ends * PAGE + START
    runs["state"] = chance.choice(STATES, count)
    mapping = fpm.Mapping(START, int(runs["end"][-1]), "rw-p", 0, 0, 0, "")
    with fpm.PageMap() as pm:
        return dataclasses.replace(pm.snapshot(), mappings=[mapping], states=runs)


def compared(scale: Scale, count: int) -> Goal:
    """Measure what changed between two, where one run in ten did."""
    before = random_snapshot(count)
    changed = before.states.copy()
    changed["state"][::10] ^= np.uint64(_State.HUGE)
    after = dataclasses.replace(before, states=changed)
    edges = [runs[name] for runs in (before.states, changed) for name in ("start", "end")]
    cost = medians(
        {
            "diff": timed(lambda: before.diff(after)),
            "sort": timed(lambda: np.sort(np.concatenate(edges), kind="stable")),
        },
        scale.rounds,
    )
    what = f"2 x {count:,} runs, 1 in 10 changed"
    floor = "numpy, the edges sorted", duration(cost["sort"])
    return Goal(
        "Snapshot.diff", what, duration(cost["diff"]), *floor, cost["diff"] * 1e3, DIFF, "ms"
    )


def saved(scale: Scale, count: int) -> Iterator[Goal]:
    """Measure saving, beside the bytes of the file deflated at two levels."""
    snapshot, file = random_snapshot(count), io.BytesIO()
    snapshot.save(file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    usual, quick = "zlib level 6, the same bytes", "zlib level 1, the same bytes"
    cost = medians(
        {
            "save": timed(lambda: snapshot.save(io.BytesIO())),
            usual: timed(deflated(members, None)),
            quick: timed(deflated(members, 1)),
        },
        scale.rounds,
    )
    what = f"{count:,} random runs"
    for floor, limit in {usual: SAVE, quick: None}.items():
        yield ratio("Snapshot.save", what, cost["save"], floor, cost[floor], limit)


def deflated(members: dict[str, bytes], level: int | None) -> Work:
    """Return what puts them into an archive in memory."""

    def work() -> None:
        with zipfile.ZipFile(
            io.BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=level
        ) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return work
