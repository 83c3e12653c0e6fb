"""Write-tracking interrupted: by memory mapped anew, and by signals. No write is lost."""

import errno
import gc
import os
import signal
import time

import pytest

import fastpagemap as fpm
import memory
from linux import PAGE
from tracked import LARGE, numbers, pages_of, reservation

pytestmark = pytest.mark.usefixtures("_write_tracking")
WRITTEN = fpm.Category.WPALLOWED | fpm.Category.WRITTEN


@pytest.mark.parametrize("pages", [300, 40_000])
@pytest.mark.parametrize("ask", ["written", "regions"])
def test_what_was_written_beside_memory_mapped_anew_is_not_lost(ask, pages):
    """The kernel refuses only once it is there: what it protected again before counts again."""
    some = [1, 2, 7, pages // 2, pages - 40]
    with memory.touched(pages) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        for page in some:
            made.write(page, page + 1, value=2)
        made.map(memory.PRIVATE, first=pages - 30, last=pages - 20)
        made.write(pages - 10, pages - 9, value=2)
        for _ in range(2):
            with pytest.raises(OSError, match="not tracked any more") as caught:
                tracker.written() if ask == "written" else tracker.regions(reset=True)
            assert caught.value.errno == errno.EFAULT
        with fpm.PageMap() as pm:
            found = pm.regions(made.start, made.end, mask=WRITTEN, returns=WRITTEN)
        assert pages_of(found, made) == [*some, pages - 10]


class Stop(Exception):
    """What the signal's handler raises."""


@pytest.fixture
def alarm():
    """Call a function, and have a handler called by a signal after so many seconds."""

    def after(seconds, handler, function):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return function()

    before = signal.getsignal(signal.SIGALRM)
    try:
        yield after
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def large():
    with reservation() as made:
        yield made


@pytest.mark.parametrize("ask", ["written", "regions"])
def test_a_signal_in_the_middle(large, alarm, ask):
    def stop(*_):
        raise Stop

    some = [0, 1, 5000, 1 << 20, (LARGE >> 12) // 2, LARGE // PAGE - 1]
    with fpm.WriteTracker(*fpm.span(large)) as tracker:

        def asking():
            return tracker.written() if ask == "written" else tracker.regions(reset=True)

        for turn in range(3):
            for page in some:
                large[page * PAGE] = turn + 1
            with pytest.raises(Stop):
                alarm(0.0015, stop, asking)
            found = tracker.regions(reset=True)
            start = tracker.start
            assert [(int(s) - start) // PAGE for s in found["start"]] == [0, *some[2:]]
        assert not len(tracker.regions())


def test_a_signal_while_arming_leaves_nothing(large, alarm):
    def stop(*_):
        raise Stop

    start, end = fpm.span(large)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Stop):
        alarm(0.005, stop, lambda: fpm.WriteTracker(start, end))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    fpm.WriteTracker(start, start + PAGE).close()
    with fpm.PageMap() as pm:
        assert not len(pm.regions(start, end, mask=fpm.Category.WPALLOWED, returns=0))


def test_a_handler_that_asks_or_closes(large, alarm):
    told = []
    with fpm.WriteTracker(*fpm.span(large)) as tracker:
        for page in range(0, 4_000_000, 40_000):
            large[page * PAGE] = 1
        told.append(alarm(0.002, lambda *_: told.append(tracker.written()), tracker.written))
        while len(told) < 2:  # not in a pause: the signal may come just before it
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0)

        def asks_on():
            while True:
                tracker.written()

        assert numbers(told[0].astype(int) + told[1] == 1) == list(range(0, 4_000_000, 40_000))
        with pytest.raises(ValueError, match="closed"):
            alarm(0.002, lambda *_: tracker.close(), asks_on)
