"""The system calls and loops below numpy: chunk borders, ends, signals, threads."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import linux
import memory
import oracle
from compare import while_still
from fastpagemap._kernel import reading
from linux import PAGE
from victim import Victim


@pytest.fixture
def pagemap():
    """The open entries of this process."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    yield fd
    os.close(fd)


def read(fd, start, count):
    entries = np.full(count, 0x5A5A, np.uint64)
    reading.read(fd, "pagemap", start, entries)
    return entries.tolist()


# Around the sizes that code may read or decode at a time: 4096 entries, 256 KiB of them.
@pytest.mark.parametrize("count", [0, 1, 2, 4095, 4096, 4097, 32767, 32768, 32769, 70001])
def test_read_gives_every_entry_its_place(pagemap, count):
    with memory.Memory(max(count, 1)) as made:
        made.write(step=7)
        for edge in (4095, 4096, 32767, 32768):
            if edge < count:
                made.write(edge, edge + 1)
        # root sees frames, and the kernel moves pages when it makes room for huge ones
        words, entries = while_still(
            lambda: read(pagemap, made.start, count),
            lambda: oracle.words(made.start, made.start + count * PAGE),
        )
        assert entries == words


def test_a_span_that_takes_several_slabs(pagemap):
    edges = [(1 << 21) - 1, 1 << 21, (1 << 22) - 1, 1 << 22]
    count = (1 << 22) + 5
    with memory.Memory(count, memory.PRIVATE | linux.MAP_NORESERVE) as made:
        for page in edges:
            made.write(page, page + 1)
        entries = np.full(count, 0x5A5A, np.uint64)
        reading.read(pagemap, "pagemap", made.start, entries)
        assert np.flatnonzero(entries >> np.uint64(63)).tolist() == edges


def test_the_end_of_the_address_space_reads_as_empty_pages(pagemap):
    top = max(line.end for line in oracle.maps() if line.start < 1 << 63)
    start = top - 2 * PAGE
    count = (2**64 - start) // PAGE
    entries = read(pagemap, start, min(count, 100_000))
    assert entries[:2] == oracle.words(start, top)
    last = read(pagemap, 2**64 - 3 * PAGE, 3)
    assert last == [0, 0, 0]


def test_errno_comes_with_its_class_and_what_was_asked():
    entries = np.zeros(4, np.uint64)
    with pytest.raises(OSError, match="the thing") as caught:
        reading.read(-1, "the thing", 0, entries)
    assert caught.value.errno == 9
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="the pipe") as caught:
        reading.read(reader, "the pipe", 0, entries)
    assert caught.value.errno == 29  # ESPIPE
    os.close(reader)
    os.close(writer)


def test_a_process_that_exited_is_no_process(pagemap):
    with Victim() as victim:
        span = victim.make("touched", 8)
        fd = os.open(f"/proc/{victim.pid}/pagemap", os.O_RDONLY)
        words, entries = while_still(
            lambda: read(fd, span.start, 8),
            lambda: oracle.words(span.start, span.end, victim.pid),
        )
        assert entries == words
        victim.kill()
        with pytest.raises(ProcessLookupError):
            read(fd, span.start, 8)
        os.close(fd)


def test_signals_interrupt_nothing_and_are_not_kept_waiting(pagemap):
    """Handlers run during a long read, and the read is whole all the same."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        with memory.Memory(1 << 15) as made:
            made.write(step=5)
            words = read(pagemap, made.start, made.pages)
            large = np.empty(1 << 24, np.uint64)  # 64 GiB of addresses, nearly all of them empty
            started = time.monotonic()
            reading.read(pagemap, "pagemap", made.start, large)
            ended = time.monotonic()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [word >> 63 for word in words] == [int(page % 5 == 0) for page in range(1 << 15)]
    assert large[: 1 << 15].tolist() == words
    assert sum(started < tick < ended for tick in ticks) >= 2


def test_an_exception_in_a_handler_ends_a_long_read(pagemap):
    def handler(*_):
        raise InterruptedError("enough")

    def read_long():
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        reading.read(pagemap, "pagemap", 0, np.empty(1 << 26, np.uint64))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(InterruptedError, match="enough"):
            read_long()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_other_threads_run_while_the_kernel_works(pagemap):
    entries = np.empty(1 << 24, np.uint64)
    going = threading.Event()
    steps = 0

    def count():
        nonlocal steps
        while going.is_set():
            steps += 1
            time.sleep(0.0001)

    going.set()
    thread = threading.Thread(target=count)
    thread.start()
    most = 0
    for _ in range(20):  # others may have the processors for as long as one read takes
        before = steps
        reading.read(pagemap, "pagemap", 1 << 30, entries)
        most = max(most, steps - before)
        if most > 10:
            break
    going.clear()
    thread.join()
    assert most > 10
