"""Every system call that the library makes fails, in every way it may: is each answer still right?

One call of one kind fails with one errno (or transfers less), once or from then on, with what was
found out about the kernel forgotten before or not. The answer is then the same, `unknown` in part,
or an exception of a documented kind; no descriptor stays open; the next answer is right.
"""

import contextlib
import errno
import gc
import os
import random
import sys

import _torture  # isort: skip
import _shim

import seccomp

_shim.preloaded()  # before anything else is loaded

import _calls  # noqa: E402
import _layouts  # noqa: E402

import fastpagemap as fpm  # noqa: E402

#: What may happen once, to any call.
PASSING = "EINTR ENOMEM EIO"
#: More of that by kind of call, then what a kernel or a sandbox may say each time.
ERRNOS = {
    "open": ("EMFILE ENFILE ESRCH ENOENT", "EPERM EACCES ENOENT"),
    "read": ("", "EACCES EPERM"),
    "pread": ("EAGAIN ESRCH EFAULT", "EPERM"),
    "scan": ("EFAULT EBUSY ESRCH", "EPERM EACCES ENOTTY ENOSYS EINVAL"),
    "procmap": ("ESRCH", "EPERM EACCES ENOTTY ENOSYS EINVAL"),
    "uffdio": ("EAGAIN", "EINVAL EPERM"),
    "lseek": ("", "EINVAL"),
    "mmap": ("EAGAIN ENODEV", "EPERM EACCES"),
    "mincore": ("EAGAIN", "EPERM EINVAL ENOSYS"),
    "fstat": ("", "EACCES EPERM"),
    "fstatfs": ("", "ENOSYS EPERM EACCES"),
    "stat": ("ENOENT ESTALE ELOOP", "EACCES EPERM"),
    "readlink": ("ENOENT", "EACCES EPERM"),
    "listing": ("EMFILE ENOENT", "EACCES EPERM"),
    "memfd": ("EMFILE ENFILE", "EPERM EACCES ENOSYS"),
    "cachestat": ("", "EPERM EACCES ENOSYS EOPNOTSUPP"),
    "userfaultfd": ("EMFILE ENFILE", "EPERM EACCES ENOSYS EINVAL"),
    "openat2": ("EMFILE ENFILE ENOENT ESRCH EAGAIN", "EPERM EACCES ENOSYS"),
    "sysinfo": ("", "EPERM ENOSYS"),
    "movepages": ("ESRCH EFAULT", "EPERM EACCES ENOSYS"),
    "write": ("ENOSPC EAGAIN", "EPERM"),
    "fsync": ("ENOSPC", "EINVAL"),
    "rename": ("EXDEV", "EACCES"),
    "chmod": ("", "EPERM"),
    "dup": ("EMFILE", ""),
    "close": ("", ""),
}
#: Endless by nature: who asks again is right.
_ENDLESS = {"EINTR", "EAGAIN"}
_SHORTENED = ("read", "pread", "write")
EXPECTED = (OSError, MemoryError, fpm.SnapshotError)


def failures(counts):
    """(kind, errno or 0, which call, whether all from there on) for the calls that were counted."""
    for kind, count in counts.items():
        if kind not in ERRNOS:
            continue
        passing, refusals = ERRNOS[kind]
        which = sorted({1, 2, 3, (count + 1) // 2, count - 1, count} & set(range(1, count + 1)))
        for name in [*PASSING.split(), *passing.split()]:
            number = getattr(errno, name)
            yield from ((kind, number, nth, False) for nth in which)
            if name not in _ENDLESS:
                yield from ((kind, number, nth, True) for nth in which[:2])
        yield from ((kind, getattr(errno, name), 1, True) for name in refusals.split())
        if kind in _SHORTENED:
            yield from ((kind, 0, nth, False) for nth in which)


def open_descriptors():
    """How many there are, after what nobody holds any more is closed."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Faults:
    """The target, the right answers, and every combination in an order made from the seed."""

    def __init__(self, stack, seed):
        self.shim = _shim.Shim()
        self.target = _calls.Target(stack)
        self.right = {}
        self.combinations = []
        for name, call in _calls.CALLS.items():
            for cold in (True, False):
                self.right[name] = self.clean(call, cold)
                with self.shim.rule():
                    self.clean(call, cold)
                found = failures(self.shim.counts())
                self.combinations += [(name, cold, *failure) for failure in found]
        random.Random(seed).shuffle(self.combinations)

    def clean(self, call, cold=False):
        """The answer of one call to which nothing happens."""
        if cold:
            seccomp.forget()
        return _calls.complete(self.target, call(self.target))

    def one_round(self, chance, counts):
        """Try one combination."""
        name, cold, kind, number, nth, forever = self.combinations[
            chance.number % len(self.combinations)
        ]
        call, before = _calls.CALLS[name], open_descriptors()
        if cold:
            seccomp.forget()
        told, problem = None, None
        with self.shim.rule(kind, number, nth, forever):
            try:
                told = call(self.target)
            except EXPECTED as error:
                problem = error
        told = told and _calls.complete(self.target, told)
        what = f"{name}, {'cold' if cold else 'warm'}: call {nth}{' and later' * forever} of {kind}"
        what += f" said {errno.errorcode.get(number, 'less')}"
        counts[self.outcome(call, told, problem, name, forever, what)] += 1
        counts["that failed"] += self.shim.hits() > 0
        del told, problem
        if number and errno.errorcode[number] in ERRNOS[kind][1].split():
            seccomp.forget()  # a refusal may be remembered
        assert open_descriptors() == before, f"a descriptor stays open: {what}"
        self.still_right(name, call, what)

    def outcome(self, call, told, problem, name, forever, what):
        """Judge one answer."""
        if problem is not None:
            return f"answers {type(problem).__name__}"
        if _calls.same(told, self.right[name]):
            return "answers the same"
        # without cachestat a page with a copy in RAM is taken for not swapped, as documented
        copies = "of cachestat" in what and forever
        # a file that is not there tells of a capability for good, as a refused call does
        absent = forever or what.endswith("said ENOENT")
        if _calls.honest(told, self.right[name], absent, copies):
            return "answers with unknown"
        seccomp.forget()
        assert not _calls.same(self.clean(call), self.right[name]), f"another answer: {what}"
        self.right[name] = self.clean(call)  # the kernel moved the target's pages
        return "answers to memory that moved"

    def still_right(self, name, call, what):
        """The next call, to which nothing happens, has the right answer."""
        try:
            told = self.clean(call)
        except EXPECTED as error:
            seccomp.forget()
            raise AssertionError(f"the next call fails: {what}: {error!r}") from None
        if not _calls.same(told, self.right[name]):
            seccomp.forget()
            now = self.clean(call)
            moved = not _calls.same(now, self.right[name])
            self.right[name] = now
            assert moved, f"the next answer is another: {what}"


if __name__ == "__main__":
    given = _torture.arguments()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_layouts.both_kinds_of_swap())
        faults = Faults(stack, given.seed)
        print(f"faults: {len(faults.combinations)} combinations")
        status = _torture.run(faults.one_round, given)
    sys.exit(status)
