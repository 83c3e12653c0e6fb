"""Allocations fail, one at a time, in every public call: MemoryError or the right answer.

Python's own allocations, numpy's and the core's are the C library's here, so each can be made to
fail. A child process tries a few, so that a crash is a find and not the end.
"""

import contextlib
import ctypes
import errno
import gc
import mmap
import os
import re
import sys

import _torture  # isort: skip
import _shim

_shim.preloaded(PYTHONMALLOC="malloc")  # before anything else is loaded

import _calls  # noqa: E402
import _layouts  # noqa: E402

import runas  # noqa: E402
from linux import PAGE  # noqa: E402

#: Attempts in one child.
BATCH = 20
#: The command line reports what went wrong in words, and needs memory for them.
_LEFT_OUT = {"report", "report as JSON"}


#: What Python (locks) and numpy (minima, formats of buffers) say instead of MemoryError.
_OTHER_WORDS = re.compile("allocate|error return without exception set|invalid field name")


def is_out_of_memory(error):
    """Whether an exception says so, or was raised from one that does."""
    while error is not None:
        if isinstance(error, (MemoryError, ctypes.ArgumentError)) or _OTHER_WORDS.search(
            str(error)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_python(problem):
    """Whether it was raised in Python's own code, not in a compiled module of ours."""
    trace = problem.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return not trace.tb_frame.f_code.co_filename.endswith(".pyx")


def _is_of_others(problem):
    """Whether numpy or Python failed and did not say why; a function of ours would be named."""
    said = str(problem)
    if isinstance(problem, SystemError):
        return "cyfunction" not in said and "fastpagemap" not in said
    return said in ("invalid field name", "can't allocate lock")


def _tell_unraisable(unraisable):
    """Print what nobody can catch, but for the lack of memory: thousands of lines hide a find."""
    if not isinstance(unraisable.exc_value, MemoryError):
        sys.__unraisablehook__(unraisable)


class Allocations:
    """The target, the right answers, and how many allocations each call makes."""

    def __init__(self, stack):
        self.shim = _shim.Shim()
        self.target = _calls.Target(stack)
        self.calls = {n: call for n, call in _calls.CALLS.items() if n not in _LEFT_OUT}
        self.right, self.counts = {}, {}
        for name, call in self.calls.items():
            for _ in range(3):
                call(self.target)
            with self.shim.rule():
                told = call(self.target)
            self.counts[name] = self.shim.counts()
            self.right[name] = _calls.complete(self.target, told)
        self.progress = stack.enter_context(mmap.mmap(-1, PAGE))

    def one_round(self, chance, counts):
        """A few attempts in one child."""
        attempts = []
        for _ in range(BATCH):
            name = chance.choice(sorted(self.calls))
            kind = chance.choice([k for k in ("malloc", "realloc") if k in self.counts[name]])
            most = self.counts[name][kind]
            nth = chance.randint(1, most if chance.random() < 0.5 else min(most, 60))
            attempts.append((name, kind, nth))
        self.progress[0] = 0
        try:
            for what in runas.in_child(self.try_all, attempts):
                counts[what] += 1
        except RuntimeError as error:
            last = attempts[min(self.progress[0], BATCH - 1)]
            raise AssertionError(f"{error}: {last}") from None

    def try_all(self, attempts):
        """In the child: what came of each attempt."""
        sys.unraisablehook = _tell_unraisable
        found = []
        for number, attempt in enumerate(attempts):
            self.progress[0] = number
            found.append(self.attempt(*attempt))
        return found

    def attempt(self, name, kind, nth):
        """Have one allocation fail; judge the answer, and the next one."""
        before, call = len(os.listdir("/proc/self/fd")), self.calls[name]
        told, problem = None, None
        try:
            with self.shim.rule(kind, errno.ENOMEM, nth):
                told = call(self.target)
        except BaseException as error:
            problem = error
        what = f"{name}: {kind} {nth}"
        hit = self.shim.hits()
        in_python = problem is not None and _is_of_python(problem)
        if problem is not None:
            of_others = _is_of_others(problem)
            if not (of_others or is_out_of_memory(problem)):
                raise AssertionError(f"{what}: {problem!r}") from problem
            outcome = "numpy's or Python's own" if of_others else "MemoryError"
        else:
            assert self.is_right(name, told), f"{what}: another answer"
            outcome = "the same" if hit else "not reached"
        del told, problem
        gc.collect()  # tracebacks make cycles
        # Python 3.11 keeps the arguments of a call for ever for which it can make no frame. Where
        # the library does without what failed, nobody sees that: faults.py judges what stays open.
        left = len(os.listdir("/proc/self/fd")) - before
        excused = in_python or outcome == "the same"
        assert left <= 0 or excused, f"{what}: a descriptor stays open"
        assert self.is_right(name, call(self.target)), f"{what}: the next answer is another"
        return outcome

    def is_right(self, name, told):
        """Whether it is the right answer, or has become so since."""
        told = _calls.complete(self.target, told)
        if not _calls.same(told, self.right[name]):
            now = _calls.complete(self.target, self.calls[name](self.target))
            if _calls.same(now, self.right[name]):
                return False
            self.right[name] = now
        return True


if __name__ == "__main__":
    given = _torture.arguments()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_layouts.both_kinds_of_swap())
        allocations = Allocations(stack)
        status = _torture.run(allocations.one_round, given)
    sys.exit(status)
