"""Write-tracking where things happen in the middle of it: nothing may be lost, or left behind."""

import contextlib
import ctypes
import errno
import gc
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import runas
from linux import PAGE
from needs import Absent, need
from test_tracking import KINDS, PAGES, array, numbers, protected, tracked

WRITTEN = fpm.Category.WPALLOWED | fpm.Category.WRITTEN
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
PROCESS_VM_WRITEV = {"x86_64": 311, "aarch64": 271}


@pytest.fixture(autouse=True)
def _needs():
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)


def pages_of(found, made):
    """The pages of regions."""
    spans = [((start - made.start) // PAGE, (end - made.start) // PAGE) for start, end, _ in found]
    return [page for first, last in spans for page in range(first, last)]


# ---- exactly what was written ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["touched", "untouched", "memfd", "file_shared", "file_private"])
def test_rounds_of_threads_against_a_twin_that_compares(kind, tmp_path):
    """Three threads write, one of them by read(2); whole rounds are compared with the contents."""
    source = tmp_path / "bytes"
    source.write_bytes(random.Random(1).randbytes(1 << 16))
    with tracked(KINDS[kind]) as (made, tracker), open(source, "rb", buffering=0) as file:
        data = array(made).reshape(PAGES, PAGE)

        def assign(chance):
            for _ in range(chance.randrange(30)):
                data[chance.randrange(PAGES), chance.randrange(PAGE)] += 1

        def read(chance):
            for _ in range(chance.randrange(5)):
                at, size = chance.randrange((PAGES - 3) * PAGE), chance.randrange(1, 2 * PAGE)
                os.preadv(file.fileno(), [data.reshape(-1)[at : at + size]], chance.randrange(999))

        for turn in range(40):
            before = data.copy()
            works = [(work, random.Random(10 * turn + i)) for i, work in enumerate((assign, read))]
            threads = [threading.Thread(target=work, args=(chance,)) for work, chance in works]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            changed = np.flatnonzero((data != before).any(axis=1)).tolist()
            if turn % 2:
                assert pages_of(tracker.regions(reset=True), made) == changed
            else:
                assert numbers(tracker.written()) == changed


def test_another_process_writes():
    with tracked(memory.touched) as (made, tracker):
        parent = os.getpid()

        def child():
            content = ctypes.create_string_buffer(b"x" * (PAGE + 1))
            local = (ctypes.c_size_t * 2)(ctypes.addressof(content), PAGE + 1)
            remote = (ctypes.c_size_t * 2)(made.at(9), PAGE + 1)
            number = PROCESS_VM_WRITEV[os.uname().machine]
            return linux.syscall(number, parent, local, 1, remote, 1, 0)

        need(os.geteuid() == 0, "root")
        assert runas.in_child(child) == PAGE + 1
        assert numbers(tracker.written()) == [9, 10]


def test_huge_pages_collapsed_again_are_exact():
    each = memory.huge_page_pages()
    with memory.huge(2 * each) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.write(5, 6, value=2)
        made.write(each, 2 * each, value=2)
        for part in (0, each):  # refused for one, part of which is protected
            with contextlib.suppress(OSError):
                made.advise(linux.MADV_COLLAPSE, part, part + each)
        assert numbers(tracker.written()) == [5, *range(each, 2 * each)]
        assert not tracker.written().any()


@pytest.mark.root
def test_merged_pages_are_written_one_by_one():
    with memory.merged(64) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        made.read()
        assert numbers(tracker.written()) == []
        made.write(7, 9, value=5)
        assert numbers(tracker.written()) == [7, 8]


def test_freed_protected_and_its_mapping_split():
    with tracked(memory.touched) as (made, tracker):
        made.advise(linux.MADV_FREE, 20, 30)
        made.read()
        assert set(numbers(tracker.written())) <= set(range(20, 30))
        made.protect(memory.READ, 100, 110)
        made.write(99, 100, value=2).write(110, 111, value=2)
        assert numbers(tracker.written()) == [99, 110]
        made.protect(memory.READ_WRITE, 100, 110)
        assert numbers(tracker.written()) == []
        made.write(99, 111, value=3)
        assert numbers(tracker.written()) == list(range(99, 111))


def test_a_mask_given_is_filled_in_whole():
    """What was in it before does not shine through, in ranges with and without writes."""
    with tracked(memory.untouched, 40_000) as (made, tracker):
        made.write(39_999, 40_000)
        out = np.ones(40_000, bool)
        assert numbers(tracker.written(out=out)) == [39_999]


# ---- nothing is lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [300, 40_000])
@pytest.mark.parametrize("ask", ["written", "regions"])
def test_what_was_written_beside_memory_mapped_anew_is_not_lost(ask, pages):
    """The kernel refuses only once it is there: what it protected again before counts again."""
    some = [1, 2, 7, pages // 2, pages - 40]
    with memory.touched(pages) as made, fpm.WriteTracker(made.start, made.end) as tracker:
        for page in some:
            made.write(page, page + 1, value=2)
        made.map(memory.PRIVATE, first=pages - 30, last=pages - 20)
        made.write(pages - 10, pages - 9, value=2)
        for _ in range(2):
            with pytest.raises(OSError, match="not tracked any more") as caught:
                tracker.written() if ask == "written" else tracker.regions(reset=True)
            assert caught.value.errno == errno.EFAULT
        with fpm.PageMap() as pm:
            found = pm.regions(made.start, made.end, mask=WRITTEN, returns=WRITTEN)
        assert pages_of(found, made) == [*some, pages - 10]


class Stop(Exception):
    """What the signal's handler raises."""


@pytest.fixture
def alarm():
    """Call a function, and have a handler called by a signal after so many seconds."""

    def after(seconds, handler, function):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return function()

    before = signal.getsignal(signal.SIGALRM)
    try:
        yield after
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


LARGE = 16 << 30


@pytest.fixture
def large():
    """A reservation so large that an answer takes longer than a signal."""
    with mmap.mmap(-1, LARGE, flags=memory.PRIVATE | linux.MAP_NORESERVE) as made:
        made.madvise(linux.MADV_NOHUGEPAGE)
        yield made


@pytest.mark.parametrize("ask", ["written", "regions"])
def test_a_signal_in_the_middle(large, alarm, ask):
    def stop(*_):
        raise Stop

    some = [0, 1, 5000, 1 << 20, (LARGE >> 12) // 2, LARGE // PAGE - 1]
    with fpm.WriteTracker(*fpm.span(large)) as tracker:

        def asking():
            return tracker.written() if ask == "written" else tracker.regions(reset=True)

        for turn in range(3):
            for page in some:
                large[page * PAGE] = turn + 1
            with pytest.raises(Stop):
                alarm(0.0015, stop, asking)
            found = tracker.regions(reset=True)
            start = tracker.start
            assert [(int(s) - start) // PAGE for s in found["start"]] == [0, *some[2:]]
        assert not len(tracker.regions())


def test_a_signal_while_arming_leaves_nothing(large, alarm):
    def stop(*_):
        raise Stop

    start, end = fpm.span(large)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Stop):
        alarm(0.005, stop, lambda: fpm.WriteTracker(start, end))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    fpm.WriteTracker(start, start + PAGE).close()
    with fpm.PageMap() as pm:
        assert not len(pm.regions(start, end, mask=fpm.Category.WPALLOWED, returns=0))


def test_a_handler_that_asks_or_closes(large, alarm):
    told = []
    with fpm.WriteTracker(*fpm.span(large)) as tracker:
        for page in range(0, 4_000_000, 40_000):
            large[page * PAGE] = 1
        told.append(alarm(0.002, lambda *_: told.append(tracker.written()), tracker.written))
        while len(told) < 2:  # not in a pause: the signal may come just before it
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0)

        def asks_on():
            while True:
                tracker.written()

        assert numbers(told[0].astype(int) + told[1] == 1) == list(range(0, 4_000_000, 40_000))
        with pytest.raises(ValueError, match="closed"):
            alarm(0.002, lambda *_: tracker.close(), asks_on)


# ---- nothing is left behind --------------------------------------------------------------------


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


# ---- memory that moves -------------------------------------------------------------------------


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
        assert fpm.span(other) == (start, end)
        assert told.all()


# ---- spans the kernel does not take ------------------------------------------------------------


def test_special_memory():
    with fpm.PageMap() as pm:
        for mapping in pm.mappings():
            if mapping.path.startswith(("[vdso]", "[vvar", "[vsyscall]")):
                with pytest.raises(ValueError, match=r"no one writes there|nothing is mapped"):
                    fpm.WriteTracker(mapping.start, mapping.end)
        (stack,) = [m for m in pm.mappings() if m.path == "[stack]"]
    with fpm.WriteTracker(stack.start, stack.end) as tracker:
        assert tracker.written().any() in (True, False)
        assert tracker.written(reset=False).shape == (stack.pages,)


@pytest.mark.root
def test_the_memory_of_devices():
    """A ring of perf's: no struct page is behind it, and the kernel passes over it."""
    attributes = bytearray(128)
    # PERF_TYPE_SOFTWARE, PERF_ATTR_SIZE, PERF_COUNT_SW_DUMMY
    attributes[:12] = b"\1\0\0\0\x80\0\0\0\x09\0\0\0"
    try:
        number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
        fd = linux.syscall(number, (ctypes.c_char * 128).from_buffer(attributes), 0, -1, -1, 0)
        ring = mmap.mmap(fd, 2 * PAGE)
    except OSError as error:
        raise Absent("perf events") from error
    finally:
        if "fd" in locals():
            os.close(fd)
    with ring:
        start, end = fpm.span(ring)
        with fpm.PageMap() as pm:
            walked = len(pm.regions(start, end, returns=0))
        if walked:
            fpm.WriteTracker(start, end).close()
        else:
            with pytest.raises(fpm.UnsupportedError, match="does not look at such pages"):
                fpm.WriteTracker(start, end)


def test_more_page_tables_than_memory():
    size = 1 << 46
    try:
        made = mmap.mmap(-1, size, flags=memory.PRIVATE | linux.MAP_NORESERVE)
    except OSError as error:
        raise Absent("64 TiB to reserve") from error
    with made, pytest.raises(MemoryError, match=r"MiB are available"):
        fpm.WriteTracker(*fpm.span(made))


def test_too_many_mappings():
    def child():
        limit = linux.read_int("/proc/sys/vm/max_map_count")
        need(limit <= 1 << 17, "a limit of mappings that can be reached")
        with memory.touched(64) as made:
            pages = limit
            base = linux.call(
                "mmap", 0, pages * PAGE, memory.READ, memory.PRIVATE | linux.MAP_NORESERVE, -1, 0
            )
            with contextlib.suppress(OSError):
                for at in range(base, base + pages * PAGE, 2 * PAGE):
                    linux.call("mprotect", at, PAGE, memory.NONE)
            with pytest.raises(OSError, match="max_map_count") as caught:
                fpm.WriteTracker(made.at(1), made.at(2))
            assert caught.value.errno == errno.ENOMEM
            linux.call("munmap", base, pages * PAGE)
            assert not protected(made)
            fpm.WriteTracker(made.at(1), made.at(2)).close()
        return True

    assert runas.in_child(child)


# ---- threads and children ----------------------------------------------------------------------


def test_eight_threads_ask_while_two_write():
    """Every page written is told, and no other.

    Some more than once for a write: between its fault and the write itself a page may be told, and
    protected again.
    """
    with tracked(memory.touched, 4096) as (made, tracker):
        data = array(made).reshape(-1, PAGE)
        told, lock, stop = np.zeros(4096, int), threading.Lock(), threading.Event()

        def ask():
            while not stop.is_set():
                got = tracker.written()
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
        told += tracker.written()
        assert (told[:2048] >= 1).all()
        assert not told[2048:].any()


def made_write(data, pages):
    for page in pages:
        data[page, 0] += 1


def test_closing_races_asking():
    for _ in range(50):
        with memory.touched(4096) as made:
            tracker = fpm.WriteTracker(made.start, made.end)
            odd = []

            def ask(tracker=tracker, odd=odd):
                try:
                    while True:
                        tracker.written()
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


def test_forked_while_another_thread_asks():
    """The child has the lock as it was; closing, collecting and ending do not wait for it."""
    with tracked(memory.touched, 4096) as (made, tracker):
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                tracker.written()

        thread = threading.Thread(target=ask)
        thread.start()

        def child():
            with pytest.raises(ValueError, match="make another here"):
                tracker.regions()
            made.write(value=4)
            tracker.close()
            with fpm.WriteTracker(made.start, made.end) as own:
                made.write(3, 4, value=5)
                return numbers(own.written())

        try:
            for _ in range(20):
                assert runas.in_child(child) == [3]
        finally:
            stop.set()
            thread.join()
        made.write(8, 9, value=5)
        assert numbers(tracker.written()) == [8]


# ---- regions, and large spans ------------------------------------------------------------------


def test_regions_are_the_written_ones_and_reset_on_request():
    with tracked(memory.touched) as (made, tracker):
        made.write(7, 9, value=2).write(20, 21, value=2)
        for _ in range(2):
            assert pages_of(tracker.regions(), made) == [7, 8, 20]
        everything = tracker.regions(mask=0, returns=None)
        assert everything["start"][0] == made.start
        assert everything["end"][-1] == made.end
        for wrong in ({"mask": 0}, {"returns": 0}, {"inverted": fpm.Category.WRITTEN}):
            with pytest.raises(ValueError, match="would lose writes"):
                tracker.regions(reset=True, **wrong)
        found = tracker.regions(reset=True, returns=None)
        assert pages_of(found, made) == [7, 8, 20]
        assert all(int(c) & fpm.Category.PRESENT for c in found["categories"])
        assert not len(tracker.regions())
        with pytest.raises(fpm.UnsupportedError):
            tracker.regions(mask=1 << 40)
    with memory.touched(4) as made, fpm.WriteTracker(made.start, made.start) as tracker:
        assert len(tracker.regions()) == 0


def test_many_regions_reset_are_all_told():
    pages = 40_000
    with tracked(memory.touched, pages) as (made, tracker):
        array(made)[:: 2 * PAGE] = 9
        assert pages_of(tracker.regions(reset=True), made) == list(range(0, pages, 2))
        assert not len(tracker.regions())


def test_a_reservation_costs_page_tables_only(large):
    """2 MiB of them for each GiB of 4 KiB pages never touched; and regions allocate nothing."""
    with fpm.WriteTracker(*fpm.span(large)) as tracker:
        large[5 * PAGE] = 1
        large[LARGE // 2] = 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = tracker.regions(reset=True)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096
        assert ((found["start"] - tracker.start) // PAGE).tolist() == [5, LARGE // 2 // PAGE]


@pytest.mark.root
def test_forbidden_to_the_unprivileged_for_faults_of_the_kernel_only():
    """vm.unprivileged_userfaultfd = 0, which most machines have, does not forbid it."""
    name = "/proc/sys/vm/unprivileged_userfaultfd"
    before = linux.read_int(name)

    def mine():
        with tracked(memory.touched) as (made, tracker), open("/dev/zero", "rb") as zero:
            zero.readinto(memoryview(array(made))[PAGE : 2 * PAGE])
            return numbers(tracker.written())

    if before:
        linux.write_text(name, 0)
    try:
        assert runas.as_nobody(mine) == [1]
    finally:
        if before:
            linux.write_text(name, before)
