"""Tracking that is broken off: what an answer had taken is told by the next one."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import memory
from interruption import Stop, interrupted
from linux import PAGE
from tracked import USED, codes, mask, numbers, reservation, tracked

ASK = {
    "mask": mask,
    "regions": lambda tracker: tracker.regions(reset=True),
}


@pytest.mark.parametrize("ask", ASK)
def test_an_exception_wherever_a_handler_may_run(kind, ask):
    some = [1, 2, 7, 200]
    with tracked(memory.touched, kind=kind) as (made, tracker):
        points = 0
        while True:
            for page in some:
                made.write(page, page + 1, value=points)
            if not interrupted(lambda: ASK[ask](tracker), codes(ask, kind), points):
                break
            assert numbers(mask(tracker)) == some
            points += 1
        assert points > 5
        assert numbers(mask(tracker)) == []


@contextlib.contextmanager
def alarm(kind, handler):
    """Have a function called once, by a signal that comes while an answer is under way."""
    answering = codes("mask", kind) | codes("regions", kind)
    done = False

    def act(_, frame):
        nonlocal done
        if not done and frame.f_code in answering:
            done = True
            handler()

    before = signal.signal(signal.SIGALRM, act)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0015, 0.0015)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def map_anew(start, pages):
    for page in pages:
        flags = memory.PRIVATE | linux.MAP_FIXED
        linux.call("mmap", start + page * PAGE, PAGE, memory.READ_WRITE, flags, -1, 0)


@pytest.mark.parametrize("ask", ASK)
def test_a_handler_that_maps_thousands_of_pages_anew(kind, ask):
    """However many parts of what was taken are gone, the rest counts as written again."""
    pages = 30_000
    holes = sorted(np.random.default_rng(1).permutation(pages)[:4000].tolist())
    with reservation(kind) as large, kind(*fpm.span(large)) as tracker:
        start = tracker.start
        for page in range(pages):
            large[page * PAGE] = 1

        def stop():
            map_anew(start, holes)
            raise Stop

        with alarm(kind, stop), pytest.raises(Stop):
            ASK[ask](tracker)
        with fpm.PageMap() as pm:
            found = pm.regions(start, start + pages * PAGE, mask=USED[kind], returns=USED[kind])
        told = np.zeros(pages, bool)
        for first, last, _ in found.tolist():
            told[(first - start) // PAGE : (last - start) // PAGE] = True
        assert numbers(~told) == holes


@pytest.mark.parametrize("happen", ["unmapped", "mapped anew", "tracked by another"])
@pytest.mark.parametrize("ask", ASK)
def test_what_happens_behind_an_answer_that_is_under_way(kind, ask, happen):
    """It is seen at the end, not only before; what was taken from the rest is given back."""
    with reservation(kind) as large, kind(*fpm.span(large)) as tracker:
        start = tracker.start
        for page in range(4):
            large[page * PAGE] = 1
        others = []

        def change():
            if happen == "unmapped":
                linux.call("munmap", start + PAGE, PAGE)
                return
            map_anew(start, [1])
            if happen == "tracked by another":
                others.append(kind(start + PAGE, start + 2 * PAGE))
                large[PAGE] = 1

        with alarm(kind, change), pytest.raises(OSError, match="not tracked any more") as caught:
            ASK[ask](tracker)
        assert caught.value.errno == errno.EFAULT
        with fpm.PageMap() as pm:
            found = pm.regions(start, tracker.end, mask=USED[kind], returns=0)
        told = {(at - start) // PAGE for first, last, _ in found for at in range(first, last, PAGE)}
        assert told - {1} == {0, 2, 3}
        if others:
            assert numbers(mask(others[0])) == [0]
            others[0].close()


def test_an_error_that_a_handler_raises_is_not_taken_for_the_kernels(kind):
    def stop():
        raise PermissionError(errno.EPERM, "from a handler")

    with reservation(kind) as large, kind(*fpm.span(large)) as tracker:
        with alarm(kind, stop), pytest.raises(PermissionError, match="from a handler"):
            mask(tracker)
        assert numbers(mask(tracker)) == []


NO_MEMORY = """
import contextlib, mmap, resource
import numpy as np
import fastpagemap as fpm
import linux

pages, failed = 60_000, 0
linux.call("mallopt", -3, 1 << 16)  # M_MMAP_THRESHOLD: no memory that is free serves the answer
memory = mmap.mmap(-1, pages * linux.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(linux.MADV_NOHUGEPAGE)
data = np.frombuffer(memory, np.uint8)
tracker = fpm.WriteTracker(*fpm.span(memory))
tracker.regions(reset=True)
unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
for spare in range(0, 4 << 20, 1 << 17):
    data[:: 2 * linux.PAGE] += 1
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * linux.PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    told = None
    with contextlib.suppress(MemoryError):
        told = tracker.regions(reset=True)
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    if told is None:
        failed += 1
        told = tracker.regions(reset=True)
    assert ((told["start"] - tracker.start) // linux.PAGE).tolist() == list(range(0, pages, 2))
assert 3 < failed < 32, failed
"""


@pytest.mark.usefixtures("_write_tracking")
def test_no_memory_for_the_regions():
    """Neither for those that are collected, nor for the array that is returned."""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(linux.__file__)}
    subprocess.run([sys.executable, "-c", NO_MEMORY], env=environment, check=True, timeout=60)
