"""Tracking by several threads at once, and across fork."""

import threading

import numpy as np
import pytest

import memory
import runas
from linux import PAGE
from tracked import array, mask, numbers, protected, tracked


def test_eight_threads_ask_while_two_write(kind):
    """Every page written is told, and no other.

    Some more than once for a write: between its fault and the write itself a page may be told, and
    protected again.
    """
    with tracked(memory.touched, 4096, kind) as (made, tracker):
        data = array(made).reshape(-1, PAGE)
        told, lock, stop = np.zeros(4096, int), threading.Lock(), threading.Event()

        def ask():
            while not stop.is_set():
                got = mask(tracker)
                with lock:
                    told[:] += got

        askers = [threading.Thread(target=ask) for _ in range(8)]
        for thread in askers:
            thread.start()
        order = np.random.default_rng(2).permutation(2048)
        halves = [threading.Thread(target=made_write, args=(data, half)) for half in (order, order)]
        for thread in halves:
            thread.start()
        for thread in halves:
            thread.join()
        stop.set()
        for thread in askers:
            thread.join()
        told += mask(tracker)
        assert (told[:2048] >= 1).all()
        assert not told[2048:].any()


def made_write(data, pages):
    for page in pages:
        data[page, 0] += 1


def test_closing_races_asking(kind):
    for _ in range(50):
        with memory.touched(4096) as made:
            tracker = kind(made.start, made.end)
            odd = []

            def ask(tracker=tracker, odd=odd):
                try:
                    while True:
                        mask(tracker)
                        tracker.regions()
                except ValueError as error:
                    if "closed" not in str(error):
                        odd.append(error)
                except BaseException as error:
                    odd.append(error)

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            tracker.close()
            for thread in threads:
                thread.join()
            assert not odd
            assert not protected(made)


def test_forked_while_another_thread_asks(kind):
    """The child has the lock as it was; closing, collecting and ending do not wait for it."""
    with tracked(memory.touched, 4096, kind) as (made, tracker):
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                mask(tracker)

        thread = threading.Thread(target=ask)
        thread.start()

        def child():
            with pytest.raises(ValueError, match="make another here"):
                tracker.regions()
            made.write(value=4)
            tracker.close()
            with kind(made.start, made.end) as own:
                made.write(3, 4, value=5)
                return numbers(mask(own))

        try:
            for _ in range(20):
                assert runas.in_child(child) == [3]
        finally:
            stop.set()
            thread.join()
        made.write(8, 9, value=5)
        assert numbers(mask(tracker)) == [8]
