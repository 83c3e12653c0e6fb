"""Write-tracking where a filter of system calls refuses one of those it makes."""

import errno
import os
import sys

import pytest

import fastpagemap as fpm
import linux
import memory
import runas
import seccomp
from tracked import KINDS, PAGES, numbers, pages_of, protected, tracked

pytestmark = pytest.mark.usefixtures("_write_tracking")

NUMBERS = {
    "x86_64": {"ioctl": 16, "msync": 26, "userfaultfd": 323, "lseek": 8, "statx": 332},
    "aarch64": {"ioctl": 29, "msync": 227, "userfaultfd": 282, "lseek": 62, "statx": 291},
}[os.uname().machine]
API, REGISTER, UNREGISTER, WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC018AA06
SCAN = 0xC0606610
ERRORS = [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL]


def forbid(what, error):
    if isinstance(what, str):
        seccomp.refuse(NUMBERS[what], error)
    else:
        seccomp.refuse(NUMBERS["ioctl"], error, what)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["userfaultfd", API, REGISTER, SCAN])
def test_refused_before(what, error):
    def child():
        with memory.touched(PAGES) as made:
            forbid(what, error)
            descriptors = len(os.listdir("/proc/self/fd"))
            with pytest.raises(fpm.UnsupportedError):
                fpm.WriteTracker(made.start, made.end)
            return len(os.listdir("/proc/self/fd")) == descriptors

    assert runas.in_child(child)


# EINVAL is how the kernel itself answers REGISTER for memory that was mapped anew.
@pytest.mark.parametrize(
    ("what", "error"),
    [
        (what, error)
        for what in (REGISTER, SCAN)
        for error in ERRORS
        if what == SCAN or error != errno.EINVAL
    ],
)
@pytest.mark.parametrize("kind", ["touched", "memfd"])
def test_refused_while_it_tracks(kind, what, error):
    """The memory is still mapped and tracked, and nothing else is said of it."""

    def child():
        with tracked(KINDS[kind]) as (made, tracker):
            made.write(3, 5, value=2)
            forbid(what, error)
            for ask in (tracker.written, tracker.regions, lambda: tracker.regions(reset=True)):
                with pytest.raises(fpm.UnsupportedError, match="seccomp"):
                    ask()
        return True

    assert runas.in_child(child)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["lseek", "statx"])
def test_what_asks_a_file_refused_while_it_tracks(what, error):
    """Then it is not known which pages were emptied: that is said, and not left out."""

    def child():
        with tracked(KINDS["memfd"]) as (made, tracker):
            forbid(what, error)
            made.advise(linux.MADV_REMOVE, 3, 5)
            for ask in (tracker.written, tracker.regions, lambda: tracker.regions(reset=True)):
                with pytest.raises(fpm.UnsupportedError, match=what):
                    ask()
        return True

    assert runas.in_child(child)


@pytest.mark.parametrize("error", ERRORS)
def test_msync_refused(error):
    """Gaps are looked for by another way."""

    def child():
        with tracked(memory.touched) as (made, tracker):
            forbid("msync", error)
            made.write(3, 5, value=2)
            assert numbers(tracker.written()) == [3, 4]
            made.unmap(8, 9)
            with pytest.raises(OSError, match=f"nothing is mapped at {made.at(8):#x}"):
                tracker.written()
        return True

    assert runas.in_child(child)


@pytest.mark.parametrize("error", ERRORS)
def test_unregistering_refused(error):
    """The end of the descriptor ends the tracking all the same."""

    def child():
        with tracked(memory.touched) as (made, tracker):
            forbid(UNREGISTER, error)
            tracker.close()
            return protected(made)

    assert not runas.in_child(child)


class Stop(Exception):
    """What comes after an answer was complete."""


def broken_off(function):
    """Call it and have an exception come as soon as the mask is filled."""

    def trace(_frame, event, _):
        if event == "return":
            sys.settrace(None)
            raise Stop
        return trace

    code = fpm.WriteTracker._mask.__code__
    before = sys.gettrace()
    sys.settrace(lambda frame, *_: trace if frame.f_code is code else None)
    try:
        with pytest.raises(Stop):
            function()
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("error", ERRORS)
def test_what_cannot_be_given_back_is_remembered(error):
    """Where the kernel may not be told that pages count as written again."""

    def child():
        with tracked(memory.touched) as (made, tracker):
            made.write(3, 5, value=2)
            made.write(100, 101, value=2)
            forbid(WRITEPROTECT, error)
            broken_off(tracker.written)
            made.write(200, 201, value=2)
            with pytest.raises(fpm.UnsupportedError, match="alone can tell"):
                tracker.regions(reset=True)
            assert numbers(tracker.written(reset=False)) == [3, 4, 100, 200]
            broken_off(tracker.written)
            assert numbers(tracker.written()) == [3, 4, 100, 200]
            made.write(7, 8, value=2)
            found = tracker.regions(reset=True)
            return pages_of(found, made)

    assert runas.in_child(child) == [7]


def test_what_was_mapped_anew_is_told_from_what_is_refused():
    def child():
        with tracked(memory.touched) as (made, tracker):
            made.map(memory.PRIVATE, first=3, last=4)
            with pytest.raises(OSError, match="not tracked any more"):
                tracker.written()
            forbid(SCAN, errno.EPERM)
            with pytest.raises(fpm.UnsupportedError, match="seccomp"):
                tracker.written()
        return True

    assert runas.in_child(child)
