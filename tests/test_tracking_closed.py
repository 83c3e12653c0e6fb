"""A tracker that is closed, or could not be made: the memory is left as it was."""

import errno
import gc
import os
import resource

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import memory
import runas
from linux import PAGE
from tracked import ARMS_UNTOUCHED, KINDS, PAGES, mask, numbers, protected, tracked


@pytest.mark.parametrize("way", ["close", "collect", "error"])
@pytest.mark.parametrize("make", ["touched", "shared_anonymous", "untouched"])
def test_the_memory_is_left_as_it_was(kind, way, make):
    with KINDS[make](PAGES) as made, fpm.PageMap() as pm:
        before = pm.read(made.start, made.end).entries.copy()
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        tracker = kind(made.start, made.end)
        # of accesses, only what is populated
        untouched = kind is fpm.WriteTracker and ARMS_UNTOUCHED
        assert protected(made) == (make != "untouched" or untouched)
        if way == "close":
            tracker.close()
            tracker.close()
            with pytest.raises(ValueError, match="closed"):
                mask(tracker)
            with pytest.raises(ValueError, match="closed"):
                tracker.regions()
        elif way == "error":
            with pytest.raises(ZeroDivisionError), tracker:
                1 / 0  # noqa: B018
        else:
            del tracker
            gc.collect()
        assert not protected(made)
        after = pm.read(made.start, made.end).entries
        flags = np.uint16(fpm.Flag.PRESENT >> 48 | fpm.Flag.SWAP >> 48 | fpm.Flag.UFFD_WP >> 48)
        assert ((before["flags"] & flags) == (after["flags"] & flags)).all()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        kind(made.start, made.end).close()


def test_trackers_side_by_side_and_one_over_another(kind):
    with memory.touched(PAGES) as made:
        middle = made.at(100)
        with (
            kind(made.start, middle) as first,
            kind(middle, made.end) as second,
        ):
            made.write(99, 101, value=2)
            with pytest.raises(OSError, match="tracked already") as caught:
                kind(made.at(50), made.at(150))
            assert caught.value.errno == errno.EBUSY
            assert numbers(mask(first)) == [99]
            assert numbers(mask(second)) == [0]


@pytest.mark.usefixtures("_write_tracking")
def test_spans_that_cannot_be_tracked():
    with memory.touched(20) as made:
        made.unmap(8, 10)
        with pytest.raises(ValueError, match=f"nothing is mapped at {made.at(8):#x}"):
            fpm.WriteTracker(made.start, made.end)
        with pytest.raises(ValueError, match=r"may not be written \(---p\)"):
            fpm.WriteTracker(made.start - PAGE, made.at(4))
        with pytest.raises(ValueError, match="nothing is mapped"):
            fpm.WriteTracker(1 << 62, (1 << 62) + PAGE)
        with pytest.raises(ValueError, match="nothing is mapped"):
            fpm.WriteTracker((1 << 64) - PAGE, 1 << 64)
        made.protect(memory.READ, 2, 3)
        with pytest.raises(ValueError, match=r"may not be written \(r--p\)"):
            fpm.WriteTracker(made.start, made.at(4))
        with pytest.raises(ValueError, match="aligned"):
            fpm.WriteTracker(made.start + 1, made.end)
        assert not protected(made)
        for address in (made.start, 0, 1 << 64):
            with fpm.WriteTracker(address, address) as tracker:
                assert len(tracker.written()) == len(tracker.regions()) == 0
    with fpm.PageMap() as pm:
        (vdso,) = [m for m in pm.mappings() if m.path == "[vdso]"]
        with pytest.raises(ValueError, match="no one writes there"):
            fpm.WriteTracker(vdso.start, vdso.end)


@pytest.mark.parametrize("happen", ["unmap", "map"])
def test_memory_that_goes_away_is_said_to(kind, happen):
    with tracked(memory.touched, kind=kind) as (made, tracker):
        if happen == "unmap":
            made.unmap(100, 110)
        else:
            made.map(memory.PRIVATE, first=100, last=110)
        with pytest.raises(OSError, match="not tracked any more") as caught:
            mask(tracker)
        assert caught.value.errno == errno.EFAULT


def can_track(kind, made, descriptors):
    """Whether a tracker can be made with a limit of so many descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, 4096))
    try:
        kind(made.start, made.end).close()
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    return True


@pytest.mark.parametrize("make", [memory.touched, backed.memfd])
def test_no_descriptor_left(kind, make):
    """Nothing is held on to, whichever of the descriptors is the one too many."""

    def child():
        with make(PAGES) as made:
            gc.collect()
            gc.disable()  # nothing waits for it
            # so that no lower number is free
            highest = max(map(int, os.listdir("/proc/self/fd")))
            while (last := os.open("/dev/null", os.O_RDONLY)) <= highest:
                pass
            open_now = len(os.listdir("/proc/self/fd"))
            more = 1
            while not can_track(kind, made, last + more):
                assert len(os.listdir("/proc/self/fd")) == open_now
                more += 1
            assert 5 <= more < 12
            assert len(os.listdir("/proc/self/fd")) == open_now
            return True

    assert runas.in_child(child)


def test_no_descriptor_left_by_an_answer_that_was_refused(kind):
    """Though the tracker is not closed: it is gone at once, with what it held open."""

    def child():
        with memory.touched(PAGES) as made:
            gc.collect()
            gc.disable()
            open_now = len(os.listdir("/proc/self/fd"))
            tracker = kind(made.start, made.end)
            made.unmap(10, 11)
            with pytest.raises(OSError, match="nothing is mapped"):
                mask(tracker)
            del tracker
            assert len(os.listdir("/proc/self/fd")) == open_now
            return True

    assert runas.in_child(child)
