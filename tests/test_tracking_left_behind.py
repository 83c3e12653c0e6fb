"""Write-tracking that ends without being closed, and memory that moves away from it."""

import errno
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import linux
import memory
from linux import PAGE
from tracked import PAGES, numbers, protected, tracked

pytestmark = pytest.mark.usefixtures("_write_tracking")
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2


@pytest.mark.parametrize("way", ["cycle", "thread", "exception"])
def test_collected_wherever_it_is(way):
    with memory.touched(PAGES) as made:

        def cycle():
            held = [fpm.WriteTracker(made.start, made.end)]
            held.append(held)

        def raise_it():
            tracker = fpm.WriteTracker(made.start, made.end)
            raise ValueError(tracker)

        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        if way == "cycle":
            cycle()
        elif way == "thread":
            thread = threading.Thread(target=cycle)
            thread.start()
            thread.join()
        else:
            with pytest.raises(ValueError, match="WriteTracker"):
                raise_it()
        gc.collect()
        gc.collect()
        assert not protected(made)
        assert len(os.listdir("/proc/self/fd")) == descriptors


SHUTDOWN = """
import sys, threading, time, mmap
import fastpagemap as fpm
memory = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
span = fpm.span(memory)
way = sys.argv[1]
if way == "global":
    tracker = fpm.WriteTracker(*span)
elif way == "cycle":
    held = [fpm.WriteTracker(*span)]
    held.append(held)
elif way == "module":
    sys.tracker = fpm.WriteTracker(*span)
elif way == "daemon":
    tracker = fpm.WriteTracker(*span)
    def ask():
        while True:
            tracker.written()
    for _ in range(3):
        threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.1)
print("end")
"""


@pytest.mark.parametrize("way", ["global", "cycle", "module", "daemon"])
def test_left_to_the_end_of_the_interpreter(way):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SHUTDOWN, way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_closed_while_a_child_has_its_descriptor_and_part_was_mapped_anew():
    """Closing lets go of all that is still tracked, though the child keeps the memory's watcher."""
    with memory.touched(PAGES) as made, backed.file_shared(8) as file:
        tracker = fpm.WriteTracker(made.start, made.end)
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        try:
            made.map(backed.FILE_SHARED, fd=file.fd, first=100, last=108)
            made.unmap(50, 60)
            tracker.close()
            with fpm.PageMap() as pm:
                left = pm.regions(made.start, made.end, mask=fpm.Category.WPALLOWED, returns=0)
            assert not len(left)
            fpm.WriteTracker(made.start, made.at(50)).close()
        finally:
            os.close(writer)
            os.close(reader)
            os.waitpid(pid, 0)


def test_closed_after_all_of_it_was_unmapped():
    with memory.touched(PAGES) as made:
        tracker = fpm.WriteTracker(made.start, made.end)
        made.unmap()
        with pytest.raises(OSError, match="not tracked any more"):
            tracker.written()
        tracker.close()


def test_moved_memory_is_tracked_no_more():
    with tracked(memory.touched) as (made, tracker), memory.untouched(10) as other:
        made.write(100, 105, value=2)
        flags = MREMAP_MAYMOVE | MREMAP_FIXED
        linux.call("mremap", made.at(100), 10 * PAGE, 10 * PAGE, flags, other.start)
        with pytest.raises(OSError, match="nothing is mapped") as caught:
            tracker.written()
        assert caught.value.errno == errno.EFAULT
        with fpm.PageMap() as pm:
            assert not pm.read(other.start, other.end).uffd_wp.any()
        other.write(value=9)
        made.map(memory.PRIVATE, first=100, last=110)
        with pytest.raises(OSError, match="Operation not permitted"):
            tracker.written()


def test_memory_grown_behind_the_span_is_not_touched():
    with memory.touched(20) as made:
        made.unmap(10, 20)
        with fpm.WriteTracker(made.start, made.at(10)) as tracker:
            linux.call("mremap", made.start, 10 * PAGE, 20 * PAGE, 0)
            made.write(8, 20, value=3)
            assert numbers(tracker.written()) == [8, 9]
        with fpm.PageMap() as pm:
            assert not pm.read(made.start, made.end).uffd_wp.any()


def test_an_array_freed_and_its_memory_used_anew():
    """Either it is said, or what is there now is tracked: never a silent False."""
    data = np.ones(1 << 22, np.uint8)
    start, end = fpm.span(data)
    with fpm.WriteTracker(start, end) as tracker:
        del data
        other = np.ones(1 << 22, np.uint8)
        try:
            told = tracker.written()
        except OSError:
            return
        # In the heap, what was free before the array may be joined to it, and taken first.
        first, last = ((each - start) // PAGE for each in fpm.span(other))
        assert told[max(first, 0) : max(last, 0)].all()
