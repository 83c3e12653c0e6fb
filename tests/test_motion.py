"""Questions about shared memory in motion: nothing crashes, and what is said was true at some time.

Another process goes on writing, dropping and swapping while it is looked at. Some pages are in swap
all the time, some never, and both have to be told so in every answer.
"""

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import resource
import time

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import oracle_files
import runas
import seccomp
import sharing
import swap
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

pytestmark = pytest.mark.root

SECONDS = 1.2
GROUPS = 50
#: Always in swap; never, for they are locked; now and then; a hole that is filled, with pages that
#: are locked, and made again.
ALWAYS, NEVER, CHURNED, HOLE = range(4)
GROUP = "SSSSCCSCSSSSSSSSS..."
KIND = [{"S": ALWAYS, "C": NEVER, ".": HOLE}[letter] for letter in GROUP]
KIND[8:14] = [CHURNED] * 6
KINDS = np.array(KIND * GROUPS)
LAYOUT = GROUP * GROUPS
PAGES = len(LAYOUT)
#: Of the other file, the page that is shown first.
SHIFT = 7


@pytest.fixture(autouse=True)
def _area():
    """Swap preferred to anyone else's: what lies in theirs comes back when they are done."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with swap.zram_swap(64 << 20, priority=32500):
        yield


def _spans(kind):
    """(first, last) of each run of pages of a kind."""
    edges = np.flatnonzero(np.diff(kind == KINDS, prepend=False, append=False))
    return edges.reshape(-1, 2).tolist()


def pinned(made, kind):
    """Map the pages of a kind once more, where they are locked as they come.

    A kernel may reclaim any page at any time, because it is idle or lies beside others that are.
    """
    pin = linux.call("mremap", made.start, 0, PAGES * PAGE, linux.MREMAP_MAYMOVE)
    for other in {ALWAYS, NEVER, CHURNED, HOLE} - {kind}:
        for first, last in _spans(other):
            linux.call("munmap", pin + first * PAGE, (last - first) * PAGE)
    for first, last in _spans(kind):
        start, size = pin + first * PAGE, (last - first) * PAGE
        linux.call("mlock2", start, size, linux.MLOCK_ONFAULT)
        made.undo.callback(linux.call, "munmap", start, size)
    return pin


def touch(pin, first, last):
    """Write to pages through the mapping that locks them."""
    for page in range(first, last):
        ctypes.memset(pin + page * PAGE, 1, 1)


def churn(made, pin):
    """Move all pages but those that are always in swap."""
    for first, last in _spans(CHURNED):
        made.write(first, last).advise(linux.MADV_PAGEOUT, first, last)
    rest(made, pin)


def rest(made, pin):
    """Move only what is never in swap: in and out of the page table, in and out of the file."""
    for first, last in _spans(NEVER):
        made.read(first, last)
    for first, last in _spans(HOLE):
        touch(pin, first, last)
        made.write(first, last)
    made.drop()
    for first, last in _spans(HOLE):
        made.advise(mmap.MADV_REMOVE, first, last)


def remap(other, made, pin):
    """Take the mapping away and put it back, whole and in pieces, with other memory in between.

    At the very same addresses stands another file at times, shown from its page SHIFT on.
    Holes are of a page: Python, or its C library, would map memory of its own into a larger one,
    and lose it when the file is mapped there again.
    """
    made.map(memory.PRIVATE)
    made.map(backed.FILE_SHARED, fd=made.fd)
    made.map(backed.FILE_SHARED, fd=other, offset=SHIFT)
    made.map(backed.FILE_SHARED, fd=made.fd)
    made.map(memory.SHARED, first=PAGES // 2)
    made.protect(memory.READ, 5, 20)
    made.map(memory.PRIVATE, memory.NONE, first=PAGES // 3)
    for page in range(0, PAGES, 40):
        made.unmap(page, page + 1)
    made.map(backed.FILE_SHARED, fd=made.fd)


def forever(motion, made, pins):
    while True:
        motion(made, *pins)


def watch(pid, start, end, rounds=10, seconds=SECONDS):
    """Ask in every way for a while; (in swap once, told once not to be in swap).

    For so many rounds at least, and so many seconds.
    """
    ever, once_not = np.zeros(PAGES, bool), np.zeros(PAGES, bool)
    calls, stop = 0, time.monotonic() + seconds
    with fpm.PageMap(pid) as pm:
        while calls < rounds or time.monotonic() < stop:
            pages, masks = pm.read(start, end), pm.masks(start, end)
            ever |= pm.swapped(start, end)
            pm.unknown(start, end)
            for answer in (masks, pages):
                ever |= answer.swapped
                once_not |= ~(answer.swapped | answer.unknown)
            # of everything it maps only now and then: that takes longer than all else
            mine = [m for m in pm.mappings() if start <= m.start < end]
            pm.usage(mine if calls % 10 else None)
            calls += 1
    return ever, once_not


def by_mincore(*arguments):
    seccomp.without_cachestat(errno.ENOSYS)
    return watch(*arguments)


def watched(made, motion, uid=None, watcher=watch):
    """What a watcher saw of a process in motion, and which pages were in swap all the time."""
    pins = []
    functions = {
        "pin": lambda: pins.append(pinned(made, HOLE)),
        "move": lambda: forever(motion, made, pins),
    }
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    need(limit == resource.RLIM_INFINITY or limit >= PAGES * PAGE, "memory to lock (ulimit -l)")
    with Sharer(functions, uid) as other:
        other.ask("pin")
        pin = pinned(made, NEVER)
        for first, last in _spans(NEVER):
            touch(pin, first, last)
        before = np.array(oracle_files.swapped(made.start, made.end))
        other.send("move")
        arguments = (watcher, other.pid, made.start, made.end)
        seen = runas.as_nobody(*arguments) if uid else runas.in_child(*arguments)
        other.still_busy()
    always = (KINDS == ALWAYS) & before & oracle_files.swapped(made.start, made.end)
    assert always.sum() > GROUPS
    return *seen, always


def check_watched(ever, once_not, always, never=(NEVER, HOLE)):
    """Of what is so all the time, nobody is told anything else."""
    assert not np.flatnonzero(ever & np.isin(KINDS, never)).tolist()
    assert not np.flatnonzero(once_not & always).tolist()
    return ever, always


@pytest.mark.parametrize("kind", ["memfd", "shared_anonymous"])
def test_pages_in_motion(kind):
    with sharing.KINDS[kind](PAGES) as made:
        sharing.paint(made, LAYOUT)
        ever, always = check_watched(*watched(made, churn))
        assert ever[always].all()
        assert ever[KINDS == CHURNED].any()


def test_pages_in_motion_without_cachestat():
    """A hole may be filled between SEEK_DATA and mincore: no order of the two rules that out."""
    with backed.memfd(PAGES) as made:
        sharing.paint(made, LAYOUT)
        ever, always = check_watched(*watched(made, churn, watcher=by_mincore), never=NEVER)
        assert ever[always].all()


@pytest.mark.parametrize("motion", [rest, churn])
def test_pages_in_motion_of_which_only_the_sum_is_told(motion):
    with backed.shared_anonymous(PAGES) as made:
        sharing.paint(made, LAYOUT)
        check_watched(*watched(made, motion, uid=runas.NOBODY))


def spin():
    """Keep a processor busy: who is interrupted in the middle of an answer goes on later."""
    while True:
        pass


def test_mappings_in_motion():
    """A mapping replaced between two looks of an answer is not answered for by the file it had.

    In either file those pages are never in swap that are never at these addresses; but other pages
    are, at the other file's offset.
    """
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(backed.memfd(PAGES))
        other = backed.sized_memfd(PAGES + SHIFT)
        stack.callback(os.close, other)
        sharing.send_to_swap(other, 0, "S" * SHIFT + LAYOUT.replace("C", "."))
        for _ in range(2):
            stack.enter_context(Sharer({"spin": spin})).send("spin")
        sharing.paint(made, LAYOUT)
        motion = functools.partial(remap, other)
        ever, _, always = watched(made, motion, watcher=functools.partial(watch, rounds=500))
        assert not (ever & np.isin(KINDS, (NEVER, HOLE))).any()
        assert ever[always].any()
