"""What `fastpagemap run` takes to be alive, next to a slow twin."""

import random

import numpy as np
import pytest

from linux import PAGE


@pytest.fixture(scope="module")
def replay():
    """What finds out what is alive."""
    return pytest.importorskip("fastpagemap.engine.memray_capture", exc_type=ImportError)


def slow_alive(replay, events):
    """(stack, bytes) of what is alive, one event and one page after the other."""
    heap, pages = {}, {}
    for number, (start, size, allocator, stack) in enumerate(events.tolist()):
        whole = range(start // PAGE, -(-(start + size) // PAGE))
        if allocator in replay.FREES:
            heap.pop(start, None)
        elif allocator == replay.Allocator.MUNMAP:
            for page in whole:
                pages.pop(page, None)
        elif allocator == replay.Allocator.MMAP:
            for page in whole:
                length = min(start + size - page * PAGE, PAGE)
                pages[page] = (stack, number, length)
        else:
            heap[start] = (stack, size)
    sums = {}
    for stack, size in [*heap.values(), *((stack, size) for stack, _, size in pages.values())]:
        sums[stack] = sums.get(stack, 0) + size
    return sums


def random_events(replay, randomness, count):
    kinds = [kind.value for kind in replay.Allocator]
    events = []
    for number in range(count):
        kind = randomness.choice(kinds)
        in_pages = kind in (replay.Allocator.MMAP, replay.Allocator.MUNMAP)
        start = randomness.randrange(1, 40) * (PAGE if in_pages else 16)
        size = randomness.randrange(1, 12 * PAGE) if in_pages else randomness.randrange(1, 500)
        events.append((start, size, kind, number % 7))
    return np.array(events, replay.EVENT)


@pytest.mark.parametrize("seed", range(200))
def test_what_is_alive(replay, seed):
    randomness = random.Random(seed)
    events = random_events(replay, randomness, randomness.choice([0, 1, 5, 60, 300]))
    live = replay.alive(events)
    sums = {}
    for stack, size in zip(live["stack"].tolist(), live["size"].tolist(), strict=True):
        sums[stack] = sums.get(stack, 0) + size
    assert sums == slow_alive(replay, events)


@pytest.mark.parametrize(
    "library",
    [
        "/venv/lib/python3.12/site-packages/numpy/numeric.py",
        "/usr/lib/python3/dist-packages/numpy/numeric.py",
        "/opt/python/lib/python3.13t/json/decoder.py",
        "/usr/lib64/python3.9/json/decoder.py",
    ],
)
def test_libraries_of_other_environments(replay, library):
    """The line of the program is the call site, whichever Python runs the program."""
    inner, caller = replay.Site("f", library, 1), replay.Site("g", "/home/lib/python/program.py", 2)
    assert replay.call_site((inner, caller)) == caller
    assert replay.call_site((inner,)) == inner
