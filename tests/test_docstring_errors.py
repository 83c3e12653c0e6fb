"""What a call raises is among the errors that its docstring, or its class's, names under Raises."""

import inspect
import os
import pathlib
import re

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap.metrics import Collector
from needs import refusal

NAMES = re.compile(r"\w+Error(?:, \w+Error)*")
ARRAY = np.ones(1 << 16)
START, END = fpm.span(ARRAY)
#: More pages than any machine has memory for.
TOO_LONG = 1 << 56
#: Spans that are none.
BAD_SPANS = [(START + 1, END), (END, START), (-fpm.PAGE_SIZE, END), (1.5, END), (START,), ([1],)]

MASKS = [
    "present",
    "swapped",
    "unknown",
    "shared",
    "exclusive",
    "soft_dirty",
    "huge",
    "zero",
    "cached",
]
SPANNED = [*MASKS, "read", "masks", "nodes", "mapcounts", "regions", "folios"]
WHOLE = ["mappings", "usage", "states", "snapshot", "clear_soft_dirty"]


def named(*objects):
    """The errors that docstrings name."""
    found = set()
    for each in objects:
        raises = inspect.cleandoc(each.__doc__ or "").partition("\nRaises\n------\n")[2]
        for line in re.split(r"\n\n\w[\w ]+\n-{3}", raises)[0].splitlines():
            if NAMES.fullmatch(line):
                found |= set(line.split(", "))
    return found


def raised(call, *arguments, **keywords):
    """The names of the error that a call raises, and of its bases."""
    try:
        call(*arguments, **keywords)
    except Exception as error:
        return {each.__name__ for each in type(error).__mro__} - {"Exception", "BaseException"}
    return set()


def check(allowed, call, *arguments, **keywords):
    """Check that a call raises, and only what is allowed."""
    found = raised(call, *arguments, **keywords)
    assert found, f"{arguments} {keywords}: nothing is raised"
    assert found & allowed, f"{arguments} {keywords}: {found}"


@pytest.mark.parametrize("name", SPANNED)
def test_methods_with_a_span(name, victim):
    method = getattr(fpm.PageMap, name)
    allowed = named(method, fpm.PageMap)
    closed, gone = fpm.PageMap(), fpm.PageMap(victim.pid)
    closed.close()
    with fpm.PageMap() as pm, fpm.PageMap(victim.pid) as other:
        for span in BAD_SPANS if name not in ("regions", "folios") else BAD_SPANS[:4]:
            check(allowed, method, pm, *span)
        check(allowed, method, other, ARRAY)
        check(allowed, method, closed, START, END)
        if name not in ("regions", "folios"):
            check(allowed, method, pm, 0, TOO_LONG)
        if "out" in inspect.signature(method).parameters:
            check(allowed, method, pm, START, END, out=np.zeros(3))
        victim.exit()
        check(allowed, method, gone, START, END)


@pytest.mark.parametrize("name", WHOLE)
def test_methods_without_a_span(name, victim):
    method = getattr(fpm.PageMap, name)
    allowed = named(method, fpm.PageMap)
    closed, gone = fpm.PageMap(), fpm.PageMap(victim.pid)
    closed.close()
    check(allowed, method, closed)
    victim.exit()
    check(allowed, method, gone)


@pytest.mark.parametrize("process", [-1, "x", 1.5, 1 << 70], ids=str)
def test_processes(process):
    check(named(fpm.PageMap), fpm.PageMap, process)
    check(named(fpm.Group), fpm.Group, [process])
    check(named(fpm.Group.tree, fpm.Group), fpm.Group.tree, process)
    check(named(fpm.usage_of), fpm.usage_of, [process])
    check(named(fpm.capabilities), fpm.capabilities, process)


def test_names_of_cgroups():
    for wrong in ("", 3, None, b"/not/there", pathlib.Path("/not/there")):
        check(named(fpm.Group.cgroup), fpm.Group.cgroup, wrong)


def test_members_of_a_group():
    with fpm.Group([os.getpid()]) as group:
        try:
            group.sharers(os.getpid(), START, END)
        except PermissionError as error:
            raise refusal(error, "frames") from error
        allowed = named(fpm.Group.sharers, fpm.Group)
        for span in [*BAD_SPANS, (0, TOO_LONG)]:
            check(allowed, group.sharers, os.getpid(), *span)
        check(allowed, group.sharers, "x", START, END)


@pytest.mark.parametrize("name", ["flags", "mapcounts", "cgroups", "nodes"])
def test_frames(name):
    method = getattr(fpm.Frames, name)
    allowed = named(method, fpm.Frames)
    try:
        frames = fpm.Frames()
    except OSError as error:
        raise refusal(error, "frames") from error
    with frames:
        for numbers in ([-1], [1.5], "x", np.broadcast_to(np.uint64(0), (1 << 45,))):
            check(allowed, method, frames, numbers)
        check(allowed, method, frames, [1], out=np.zeros(3))
    check(allowed, method, frames, [1])


@pytest.mark.parametrize("tracker", [fpm.WriteTracker, fpm.AccessTracker])
def test_trackers(tracker):
    for span in [*BAD_SPANS, (fpm.PAGE_SIZE, 2 * fpm.PAGE_SIZE)]:
        check(named(tracker), tracker, *span)


def test_snapshots():
    snapshot = fpm.PageMap().snapshot()
    for span in [*BAD_SPANS, (0, TOO_LONG)]:
        check(named(fpm.Snapshot.state), snapshot.state, *span)
    check(named(fpm.Snapshot.usage), snapshot.usage, 3)
    check(named(fpm.Snapshot.usage), snapshot.usage, fields=["nothing"])
    check(named(fpm.Snapshot.plot), snapshot.plot, 3)
    for wrong in (3, None):
        check(named(fpm.Snapshot.diff), snapshot.diff, wrong)
        check(named(fpm.Snapshot.load), fpm.Snapshot.load, wrong)
        check(named(fpm.Snapshot.save), snapshot.save, wrong)


@pytest.mark.parametrize("name", ["to_pandas", "to_polars", "to_arrow"])
def test_tables(name):
    function = getattr(fpm, name)
    for rows in (3, ARRAY, np.zeros((2, 2), [("a", int)])):
        check(named(function), function, rows)


def test_collector():
    for wrong in ({"budget": 3}, {"by": "nothing"}, {"top": -1}):
        check(named(Collector), Collector, **wrong)
