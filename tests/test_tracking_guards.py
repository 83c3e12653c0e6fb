"""MADV_GUARD_INSTALL on tracked shared memory: the kernel tries for ever, until tracking ends."""

import threading

import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import runas
from needs import Absent, need
from tracked import numbers

pytestmark = pytest.mark.usefixtures("_write_tracking")
PAGES = 16


def installing(made):
    """A thread that installs guards, once it is known to be at it."""
    thread = threading.Thread(target=made.advise, args=(linux.MADV_GUARD_INSTALL, 4, 8))
    thread.start()
    tries = 0
    while thread.is_alive() and tries < 200:  # each is a turn of the kernel's, at least
        tries += 1
        thread.join(0.005)
    return thread


def need_guards(make):
    with make(PAGES) as made:
        try:
            made.advise(linux.MADV_GUARD_INSTALL, 4, 8)
        except OSError as error:
            raise Absent("guard regions in shared memory (Linux 6.15)") from error


@pytest.mark.parametrize("kind", [backed.memfd, backed.shared_anonymous])
def test_closing_ends_it(kind):
    need_guards(kind)

    def child():
        with kind(PAGES) as made:
            tracker = fpm.WriteTracker(made.start, made.end)
            made.write(1, 2, value=4)
            thread = installing(made)
            hung = thread.is_alive()
            told = numbers(tracker.written())
            tracker.close()
            thread.join(60)
            with fpm.PageMap() as pm:
                guards = numbers(pm.read(made.start, made.end).guard)
            return hung, told, thread.is_alive(), guards

    hung, told, alive, guards = runas.in_child(child)
    assert (told, alive, guards) == ([1], False, [4, 5, 6, 7])
    need(hung, "a kernel that tries for ever to install guards", Absent)


def test_anonymous_memory():
    need_guards(memory.touched)
    with memory.touched(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.advise(linux.MADV_GUARD_INSTALL, 4, 8)
        made.advise(linux.MADV_GUARD_REMOVE, 4, 8)
        assert numbers(tracker.written()) == [4, 5, 6, 7]
