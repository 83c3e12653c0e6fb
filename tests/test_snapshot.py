"""Snapshots of processes: what is in them, and as Arrow tables."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
from compare import by_page, check_runs
from fastpagemap import State
from linux import PAGE
from snapshots import check_same, content_of, load, small
from victim import Victim, parted

PAGES = 37


# What is in it.


def test_of_a_process():
    with parted() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("sparse", PAGES)
        taken = pm.snapshot()
        assert (taken.pid, taken.page_size) == (victim.pid, PAGE)
        with open(f"/proc/{victim.pid}/comm") as file:
            assert taken.name == file.read().strip()
        with open(f"/proc/{victim.pid}/cmdline") as file:
            assert taken.command == file.read().strip("\0").replace("\0", " ")
        assert (taken.kernel, taken.machine) == (os.uname().release, os.uname().machine)
        assert taken.capabilities == fpm.capabilities(victim.pid)
        assert taken.soft_dirty == taken.capabilities.soft_dirty
        assert taken.mappings == pm.mappings()
        assert taken.states.tolist() == pm.states().tolist()
        told = taken.state(span.start - 4 * PAGE, span.end + 4 * PAGE)
        assert told.dtype == np.uint64
        assert told.tolist() == by_page(pm.states(), span.start - 4 * PAGE, span.end + 4 * PAGE)
        assert np.count_nonzero(told & State.PRESENT) == -(-PAGES // 3)
        check_same(taken, load(content_of(taken)))
        with pytest.raises(dataclasses.FrozenInstanceError):
            taken.pid = 1


def test_state_of_any_span():
    snapshot = small()
    whole = by_page(snapshot.states, 0, 12 * PAGE)
    for first in range(12):
        for last in range(first, 13):
            told = snapshot.state(first * PAGE, last * PAGE)
            assert told.tolist() == whole[first:last]
    out = np.full(3, 77, np.uint64)
    assert snapshot.state(3 * PAGE, 6 * PAGE, out) is out
    assert out.tolist() == [2, 2, 2]
    assert snapshot.state(2**64 - PAGE, 2**64).tolist() == [0]
    with pytest.raises(ValueError, match="aligned"):
        snapshot.state(1, PAGE)
    with pytest.raises(ValueError, match="out is"):
        snapshot.state(0, PAGE, out)
    with pytest.raises(MemoryError):
        snapshot.state(0, 1 << 60)


def test_usage_of_what_could_not_be_known():
    able = dataclasses.replace(small().capabilities, scan=False, soft_dirty=False)
    snapshot = small(capabilities=able, soft_dirty=False)
    table = snapshot.usage()
    assert {"huge", "zero", "soft_dirty"}.isdisjoint(table.dtype.names)
    assert table["swapped"].tolist() == [3 * PAGE, PAGE]
    assert snapshot.usage(fields=["size", "shared"]).tolist() == [(4 * PAGE, 0), (3 * PAGE, PAGE)]
    for name in ("huge", "zero", "soft_dirty"):
        with pytest.raises(fpm.UnsupportedError, match=name):
            snapshot.usage(fields=[name])
    with pytest.raises(ValueError, match="rss"):
        snapshot.usage(fields=["rss"])
    assert len(small(mappings=[], states=snapshot.states[:0]).usage()) == 0


def test_as_nobody():
    def take():
        with memory.sparse(PAGES) as made, fpm.PageMap() as pm:
            taken = load(content_of(pm.snapshot()))
            check_runs(taken.states, taken.mappings)
            return np.count_nonzero(taken.state(made.start, made.end) & State.PRESENT)

    assert runas.as_nobody(take) == -(-PAGES // 3)


def test_while_the_process_maps_and_unmaps():
    """Whatever happens meanwhile, what comes of it can be saved and loaded."""
    done = threading.Event()

    def work():
        while not done.is_set():
            with memory.touched(PAGES, step=2) as made:
                made.protect(memory.READ, 10, 20)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with fpm.PageMap() as pm:
            for _ in range(60):
                taken = pm.snapshot()
                check_same(taken, load(content_of(taken)))
    finally:
        done.set()
        worker.join()


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.01, 0.1])
def test_a_process_that_dies_meanwhile(moment):
    """Either all of it, or ProcessLookupError."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("touched", 5000)
        killer = threading.Timer(moment, os.kill, (victim.pid, signal.SIGKILL))
        killer.start()

        def look():
            while True:
                state = pm.snapshot().state(span.start, span.end)
                assert np.count_nonzero(state & State.PRESENT) == 5000

        with pytest.raises(ProcessLookupError):
            look()
        killer.join()


# Arrow.


def test_arrow():
    pytest.importorskip("pyarrow")
    snapshot = small()
    table = snapshot.to_arrow()
    rows = table.to_pylist()
    assert [row["start"] for row in rows] == snapshot.states["start"].tolist()
    assert [row["state"] for row in rows] == snapshot.states["state"].tolist()
    assert [row["mapping_start"] for row in rows] == [2 * PAGE, 2 * PAGE, 6 * PAGE, 6 * PAGE]
    assert rows[3]["mapping_permissions"] == "r--s"
    assert rows[3]["mapping_path"] == "/odd \\xff\\xc3\n\x1b[2J\\"
    assert small(states=snapshot.states[:0]).to_arrow().num_rows == 0


def test_arrow_without_pyarrow():
    def convert():
        sys.modules["pyarrow"] = None  # as if it were not installed
        small().to_arrow()

    with pytest.raises(ImportError, match=r"pip install 'fastpagemap\[arrow\]'"):
        runas.in_child(convert)


def test_the_import_stays_small():
    program = "import sys, fastpagemap; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"pyarrow", "fastpagemap.snapshot.file_format"}.isdisjoint(modules)
