"""What is taken is also loaded: snapshots of processes that map, grow and unmap meanwhile."""

import dataclasses
import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
from compare import check_runs
from fastpagemap import Mapping, SnapshotError
from fastpagemap.model.runs import clipped
from linux import PAGE
from snapshots import check_same, content_of, load, small

# Maps, unmaps and protects pieces of 64 MiB, private and of a memfd, over each other.
RESTLESS = """
import ctypes, mmap, os, random
libc = ctypes.CDLL(None)
pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
libc.mmap.restype = pointer
libc.mmap.argtypes = pointer, size, number, number, number, ctypes.c_long
libc.mprotect.argtypes = pointer, size, number
libc.munmap.argtypes = pointer, size
SIZE, PAGE = 1 << 20, mmap.PAGESIZE
FIXED, PRIVATE, SHARED = 0x10, 0x22, 0x01
base = libc.mmap(None, 64 * SIZE, 3, PRIVATE, -1, 0)
fd = os.memfd_create("x")
os.ftruncate(fd, 4 * SIZE)
print("made", flush=True)
chance = random.Random(1)
while True:
    at = base + chance.randrange(63) * SIZE + chance.randrange(SIZE // PAGE) * PAGE
    how = chance.randrange(4)
    if how == 0:
        libc.munmap(at, SIZE)
    elif how == 1:
        libc.mprotect(at, SIZE, chance.choice([1, 3]))
    else:
        flags, file, offset = chance.choice([(PRIVATE, -1, 0), (SHARED, fd, PAGE)])
        if libc.mmap(at, SIZE, 3, FIXED | flags, file, offset) == at:
            ctypes.memset(at, 1, SIZE)
"""


def test_a_process_that_never_holds_still():
    with subprocess.Popen([sys.executable, "-c", RESTLESS], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            with fpm.PageMap(process.pid) as pagemap:
                for _ in range(60):
                    taken = pagemap.snapshot()
                    check_runs(taken.states, taken.mappings)
                    check_same(taken, load(content_of(taken)))
        finally:
            process.kill()


def pages_of(runs):
    """The state of each page, and where a run begins."""
    states, firsts = {}, set()
    for start, end, state in runs.tolist():
        firsts.add(start)
        for at in range(start, end, PAGE):
            assert at not in states
            states[at] = state
    return states, firsts


def random_spans(chance, most):
    """Numbers of pages, sorted: a start and an end in turn; some spans touch."""
    edges = sorted(chance.sample(range(40), 2 * chance.randrange(most)))
    pairs = [[a, b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    for one, two in itertools.pairwise(pairs):
        if chance.random() < 0.5:
            one[1] = two[0]
    return pairs


def test_runs_are_clipped_as_a_slow_twin_does():
    chance = random.Random(3)
    for _ in range(2000):
        spans = np.array(random_spans(chance, 6), np.uint64).reshape(-1, 2) * np.uint64(PAGE)
        rows = [(a * PAGE, b * PAGE, chance.choice([1, 2])) for a, b in random_spans(chance, 9)]
        runs = np.array(rows, fpm.RUN_DTYPE)
        found, firsts = pages_of(clipped(runs, spans[:, 0], spans[:, 1]))
        starts, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
        inside = {at for a, b in zip(starts, ends, strict=True) for at in range(a, b, PAGE)}
        expected = {at: state for at, state in pages_of(runs)[0].items() if at in inside}
        assert found == expected
        assert firsts == {
            at
            for at, state in expected.items()
            if at in starts or at in ends or expected.get(at - PAGE) != state
        }


def test_what_contradicts_itself_is_not_saved(tmp_path):
    good = small()
    runs, spans = good.states, good.mappings
    outside, upside_down, odd, two = runs.copy(), runs.copy(), runs.copy(), runs.copy()
    outside["end"][-1] += 5 * PAGE
    upside_down["end"][0] = 0
    odd["start"][0] += 1
    two["state"][0] = 1 | 256
    path = tmp_path / "kept"
    good.save(path)
    for changes in (
        {"states": outside},
        {"states": upside_down},
        {"states": odd},
        {"states": two},
        {"states": runs[::-1]},
        {"mappings": spans[::-1]},
        {"mappings": [spans[0]._replace(path="/a\0b"), spans[1]]},
        {"mappings": [spans[0]._replace(permissions="rw"), spans[1]]},
        {"mappings": [spans[0], Mapping(6 * PAGE, (1 << 63) + PAGE, "rw-p", 0, 0, 0, "")]},
        {"pid": -1},
        {"name": "\ud800"},
        {"mappings": [spans[0]._replace(path="/\ud800"), spans[1]]},
        {"name": "x" * 20_000},
    ):
        with pytest.raises(SnapshotError, match="not saved"):
            dataclasses.replace(good, **changes).save(path)
        check_same(fpm.Snapshot.load(path), good)


def test_paths_that_are_too_much_are_not_put_together():
    path = "/" + "d" * (1 << 20)
    spans = [Mapping(2 * i * PAGE, 2 * i * PAGE + PAGE, "rw-p", 0, 0, 0, path) for i in range(2000)]
    with pytest.raises(SnapshotError, match=r"2000 MiB of paths, at most 256"):
        content_of(small(mappings=spans, states=np.empty(0, fpm.RUN_DTYPE)))
