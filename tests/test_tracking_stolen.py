"""A tracker whose addresses others have got: it neither answers for them nor takes theirs."""

import ctypes
import errno
import threading

import pytest

import fastpagemap as fpm
import linux
import memory
import uffd
from linux import PAGE
from tracked import PAGES, USED, mask, numbers, pages_of, tracked

MREMAP_FIXED = 2
ASK = {
    "mask": mask,
    "looking": lambda tracker: mask(tracker, reset=False),
    "regions": lambda tracker: tracker.regions(reset=True),
    "regions looking": lambda tracker: tracker.regions(),
}


def mapped_anew(made, first, last):
    made.map(memory.PRIVATE, first=first, last=last)


def moved_there(made, first, last):
    """Other memory takes the place."""
    size = (last - first) * PAGE
    other = linux.call("mmap", 0, size, memory.READ_WRITE, memory.PRIVATE, -1, 0)
    flags = linux.MREMAP_MAYMOVE | MREMAP_FIXED
    linux.call("mremap", other, size, size, flags, made.at(first))


def unmapped_and_mapped(made, first, last):
    made.unmap(first, last)
    mapped_anew(made, first, last)


HAPPEN = [mapped_anew, moved_there, unmapped_and_mapped]


def refused(ask, tracker):
    with pytest.raises(OSError, match="not tracked any more") as caught:
        ask(tracker)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("part", [(0, PAGES), (100, 110), (PAGES - 1, PAGES)], ids=str)
@pytest.mark.parametrize("happen", HAPPEN)
@pytest.mark.parametrize("ask", ASK)
def test_memory_that_another_tracker_has_got(kind, ask, happen, part):
    first, last = part
    with tracked(memory.touched, kind=kind) as (made, old):
        happen(made, first, last)
        made.write(first, last)
        with kind(made.at(first), made.at(last)) as new:
            made.write(last - 1, last, value=5)
            refused(ASK[ask], old)
            assert numbers(mask(new, reset=False)) == [last - 1 - first]
            old.close()
            assert numbers(mask(new)) == [last - 1 - first]
            made.write(first, first + 1, value=6)
            assert numbers(mask(new)) == [0]


@pytest.mark.parametrize("ask", ASK)
def test_memory_that_another_user_of_userfaultfd_has_got(kind, ask):
    with tracked(memory.touched, kind=kind) as (made, old):
        made.map(memory.PRIVATE)
        made.write()
        uffd.track_writes(made)
        made.write(7, 9, value=2)
        refused(ASK[ask], old)
        with fpm.PageMap() as pm:
            found = pm.regions(made.start, made.end, mask=USED[fpm.WriteTracker])
        assert pages_of(found, made) == list(range(PAGES))


def test_what_an_old_tracker_asks_for_while_the_memory_is_given_to_a_new_one(kind):
    """Over many rounds, in another thread: the new one is told each of its writes."""
    refusals = more = 0
    for turn in range(60):
        with memory.touched(4096) as made:
            old = kind(made.start, made.end)
            stop, odd = threading.Event(), []

            def ask(old=old, stop=stop, odd=odd):
                while not stop.is_set():
                    try:
                        mask(old)
                    except OSError as error:
                        if error.errno != errno.EFAULT:
                            odd.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            try:
                made.map(memory.PRIVATE)
                made.write(step=3)
                try:
                    new = kind(made.start, made.end)
                except OSError:
                    # The old one was just asking, and tracks what is there now: it says all of it.
                    refusals += 1
                    continue
                some = range(turn, 4096, 97)
                for page in some:
                    ctypes.memset(made.at(page), 7, 1)
            finally:
                stop.set()
                thread.join()
                old.close()
            assert not odd
            told = numbers(mask(new))
            assert set(some) <= set(told)
            # What the old one has just taken from the new one, it gives back: as used.
            more += told != list(some)
            new.close()
    assert refusals + more < 30
