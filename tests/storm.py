"""Signals at any moment, whose handler raises: what arrives, what is lost, what stays open."""

import contextlib
import gc
import os
import random
import signal
import sys
import warnings

#: Exceptions in one call, at most.
MAX_RAISED = 2


class Hit(TimeoutError):
    """What the handler raises: as many a program's does, an OSError, without a number."""


class Storm:
    """Calls functions under fire; collects what is wrong in `wrong`, and counts in `hits`."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.hits = self.whole = 0
        self._raising = False
        self.wrong = []
        self._raised = []
        self._lost = []

    @contextlib.contextmanager
    def weather(self):
        """Install the handler, and note what Python itself can only print."""
        # Python ignores what is raised in such a callback, and hypothesis has one.
        callbacks, gc.callbacks[:] = list(gc.callbacks), []
        before = signal.signal(signal.SIGALRM, self._handle)
        hook, sys.unraisablehook = sys.unraisablehook, self._lost.append
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # a file closed by its end
                yield
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGALRM, before)
            gc.callbacks[:] = callbacks

    def _handle(self, number, frame):
        # In the middle of this, another one would raise in place of it.
        if self._raising:
            return
        self._raising = True
        try:
            while frame is not None and frame.f_code is not Storm._under_fire.__code__:
                frame = frame.f_back
            # It has begun, is not over, and has not had enough.
            if frame is not None and len(self._raised) < MAX_RAISED:
                self._raised.append(Hit())
                raise self._raised[-1]
        finally:
            self._raising = False

    def _under_fire(self, function, delay, interval):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, delay, interval)
                function()
                self.whole += 1
            finally:
                _evaluate()
        finally:
            _evaluate(MAX_RAISED)

    def call(self, name, function, delay, interval=0.0):
        """Call a function with a signal after `delay` seconds, and perhaps more of them."""
        before = open_files()
        arrived = set()
        try:
            self._under_fire(function, delay, interval)
        except BaseException as error:
            arrived = {id(each) for each in _chain(error)}
            if not isinstance(error, Hit):
                self.wrong.append(f"{name}: {error!r} in place of what the handler raised")
        signal.setitimer(signal.ITIMER_REAL, 0)
        arrived |= _late()
        self.hits += len(self._raised)
        # Of several, Python may keep only the last: one that is raised again forgets in whose
        # handling it was raised first.
        if self._raised and not any(id(each) in arrived for each in self._raised):
            self.wrong.append(f"{name}: an exception was lost")
        self._raised.clear()
        self.wrong += [
            f"{name}: {each.exc_value!r} ignored in {each.object!r}" for each in self._lost
        ]
        self._lost.clear()
        if open_files() != before:
            gc.collect()
            if left := open_files() - before:
                self.wrong.append(f"{name}: left open {left}")


def _evaluate(more=0):
    """Have the interpreter raise what waits to be raised, one exception at a time."""
    try:
        pass
    finally:
        if more:
            _evaluate(more - 1)


def _late():
    """What waits to be raised all the same; as much as the interpreter can keep."""
    found = set()
    for _ in range(40):
        try:
            _evaluate()
        except Hit as error:
            found |= {id(each) for each in _chain(error)}
    return found


def _chain(error):
    """An exception and those in whose handling it was raised."""
    found, waiting = [], [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in found:
            found.append(each)
            waiting += [each.__context__, each.__cause__]
    return found


def open_files():
    """What is open in this process: numbers and files."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of this very listing
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
    return found
