"""Write-tracking in unusual conditions: exactly what was written is told."""

import contextlib
import ctypes
import os
import random
import threading

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import memory
import runas
from linux import PAGE
from needs import need
from tracked import KINDS, PAGES, array, numbers, pages_of, tracked

pytestmark = pytest.mark.usefixtures("_write_tracking")
PROCESS_VM_WRITEV = {"x86_64": 311, "aarch64": 271}


@pytest.mark.parametrize("kind", ["touched", "untouched", "memfd", "posix"])
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
        made.advise(linux.MADV_HUGEPAGE)
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
