"""Tracking interrupted: by memory mapped anew, and by signals. Nothing is lost."""

import errno
import gc
import os
import signal
import time

import pytest

import fastpagemap as fpm
import memory
from linux import PAGE
from tracked import LARGE, USED, mask, numbers, pages_of, reservation


@pytest.mark.parametrize("pages", [300, 40_000])
@pytest.mark.parametrize("ask", ["mask", "regions"])
def test_what_was_written_beside_memory_mapped_anew_is_not_lost(kind, ask, pages):
    """The kernel refuses only once it is there: what it protected again before counts again."""
    some = [1, 2, 7, pages // 2, pages - 40]
    with memory.touched(pages) as made, kind(made.start, made.end) as tracker:
        for page in some:
            made.write(page, page + 1, value=2)
        made.map(memory.PRIVATE, first=pages - 30, last=pages - 20)
        made.write(pages - 10, pages - 9, value=2)
        for _ in range(2):
            with pytest.raises(OSError, match="not tracked any more") as caught:
                mask(tracker) if ask == "mask" else tracker.regions(reset=True)
            assert caught.value.errno == errno.EFAULT
        with fpm.PageMap() as pm:
            found = pm.regions(made.start, made.end, mask=USED[kind], returns=USED[kind])
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
def large(kind):
    with reservation(kind) as made:
        yield made


@pytest.mark.parametrize("ask", ["mask", "regions"])
def test_a_signal_in_the_middle(kind, large, alarm, ask):
    def stop(*_):
        raise Stop

    some = [0, 1, 5000, 1 << 20, (LARGE >> 12) // 2, LARGE // PAGE - 1]
    with kind(*fpm.span(large)) as tracker:

        def asking():
            return mask(tracker) if ask == "mask" else tracker.regions(reset=True)

        for turn in range(3):
            for page in some:
                large[page * PAGE] = turn + 1
            with pytest.raises(Stop):
                alarm(0.0015, stop, asking)
            found = tracker.regions(reset=True)
            start = tracker.start
            assert [(int(s) - start) // PAGE for s in found["start"]] == [0, *some[2:]]
        assert not len(tracker.regions())


def test_a_signal_while_arming_leaves_nothing(kind, large, alarm):
    def stop(*_):
        raise Stop

    start, end = fpm.span(large)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Stop):
        alarm(0.005, stop, lambda: kind(start, end))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    kind(start, start + PAGE).close()
    with fpm.PageMap() as pm:
        assert not len(pm.regions(start, end, mask=USED[kind], returns=0))


def test_a_handler_that_asks_or_closes(kind, large, alarm):
    told = []
    with kind(*fpm.span(large)) as tracker:
        for page in range(0, 4_000_000, 40_000):
            large[page * PAGE] = 1
        told.append(alarm(0.002, lambda *_: told.append(mask(tracker)), lambda: mask(tracker)))
        while len(told) < 2:  # not in a pause: the signal may come just before it
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0)

        def asks_on():
            while True:
                mask(tracker)

        assert numbers(told[0].astype(int) + told[1] == 1) == list(range(0, 4_000_000, 40_000))
        with pytest.raises(ValueError, match="closed"):
            alarm(0.002, lambda *_: tracker.close(), asks_on)


def test_a_child_that_a_handler_forks_takes_nothing(kind, large, alarm):
    """It does not go on with the answer, which is about its parent's memory."""
    parent, children, asking = os.getpid(), [], False

    def fork(*_):
        if asking and not children:
            children.append(os.fork())
            if children[0]:
                os.waitpid(children[0], 0)  # so that it would be the first to go on

    def answer():
        nonlocal asking
        asking = True
        try:
            return numbers(mask(tracker))
        finally:
            asking = False
            if os.getpid() != parent:
                os._exit(0)

    some = list(range(0, LARGE // PAGE, LARGE // PAGE // 64))
    with kind(*fpm.span(large)) as tracker:
        for seconds in (0.0015, 0.001, 0.0005, 0.0002):
            if not children:
                for page in some:
                    large[page * PAGE] = 1
                assert alarm(seconds, fork, answer) == some
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert children
        assert answer() == []
