"""A main thread that has ended: its /proc/PID shows no memory, and the other threads go on."""

import os
import threading

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import linux
import oracle
import runas
from compare import while_still
from fastpagemap.cli import collect, processes
from fastpagemap.process import backing, cgroups, environment, live_file, mounts, namespaces, probes
from fastpagemap.process.process import Process
from leaderless import PAGES, Leaderless, without_main_thread
from linux import PAGE

pytestmark = pytest.mark.usefixtures("_nothing_stays_open")

SIZE = PAGES * PAGE
_CLONE_FILES = 0x400


def overlapping(pm, target):
    """The mappings with any of the target's memory."""
    return [m for m in pm.mappings() if m.start < target.end and target.start < m.end]


def present_in(runs, target):
    """How many bytes of the target's memory are in runs of present pages."""
    there = runs[(runs["state"] & np.uint64(fpm.State.PRESENT)) != 0]
    lows = np.maximum(there["start"], np.uint64(target.start)).astype(np.int64)
    highs = np.minimum(there["end"], np.uint64(target.end)).astype(np.int64)
    return int(np.maximum(highs - lows, 0).sum())


#: How many bytes of the target's memory are present, asked in every way.
QUESTIONS = {
    "present": lambda pm, t: int(pm.present(t.start, t.end).sum()) * PAGE,
    "read": lambda pm, t: int(pm.read(t.start, t.end).present.sum()) * PAGE,
    "masks": lambda pm, t: SIZE - int(pm.masks(t.start, t.end).swapped.sum()) * PAGE,
    "mappings": lambda pm, t: sum(
        min(m.end, t.end) - max(m.start, t.start) for m in overlapping(pm, t)
    ),
    "usage": lambda pm, t: min(SIZE, int(pm.usage()["present"].sum())),
    "states": lambda pm, t: present_in(pm.states(), t),
    "regions": lambda pm, t: int(
        sum(
            min(int(r["end"]), t.end) - max(int(r["start"]), t.start)
            for r in pm.regions(mask=fpm.Category.PRESENT)
            if r["start"] < t.end and t.start < r["end"]
        )
    ),
    "residency": lambda pm, t: int(pm.residency([t.start], [SIZE])["present"][0]),
    "snapshot": lambda pm, t: present_in(pm.snapshot().states, t),
}


@pytest.fixture
def target():
    with Leaderless() as target:
        yield target


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("opened", ["before", "after"])
def test_every_question(name, opened, target):
    ask = QUESTIONS[name]
    pm = fpm.PageMap(target.pid)
    target.end_main_thread()
    if opened == "after":
        pm = fpm.PageMap(target.pid)
    assert ask(pm, target) == SIZE
    target.kill()
    with pytest.raises(ProcessLookupError):
        ask(pm, target)


def test_what_it_is(target):
    with fpm.PageMap(target.pid) as pm:
        before = pm.snapshot()
        target.end_main_thread()
        after = pm.snapshot()
        assert pm.uid == before.uid
    assert (after.pid, after.name, after.command) == (target.pid, before.name, before.command)
    assert before.command
    assert set(before.mappings) & set(after.mappings)


def test_the_thread_it_is_read_through_ends():
    """One after the other: each time another one is found."""
    with Leaderless(threads=3) as target:
        target.end_main_thread()
        process = Process(target.pid)
        first = process.where("maps")
        lines = process.read_own("maps")
        process._thread = "task/1/"  # as if that one had ended
        assert process.read_own("maps") == lines
        assert process.where("maps") == first
    with pytest.raises(ProcessLookupError):
        process.read_own("maps")


def test_references_are_cleared(target):
    """Written through a thread that has ended, the kernel takes it and does nothing."""
    process = Process(target.pid)
    assert referenced(process, target) >= SIZE
    target.end_main_thread()
    process.write_own("clear_refs", b"1")
    assert referenced(process, target) < SIZE


def referenced(process, target):
    """How many bytes of the target's memory have been looked at, as smaps says."""
    process.read("maps")  # and find a thread that shows it
    rows = oracle.smaps(f"{target.pid}/{process.where('')}")
    return sum(
        row["Referenced"]
        for (start, end), row in rows.items()
        if start < target.end and target.start < end
    )


def test_it_is_listed(target):
    command = processes.command_of(target.pid)
    target.end_main_thread()
    assert processes.has_memory(target.pid)
    assert processes.command_of(target.pid) == command != ""
    report = collect.collect_all([target.pid])
    assert report.labels["pid"] == [target.pid]
    assert report.usage["present"][0] >= SIZE
    target.kill()
    assert not processes.has_memory(target.pid)


@pytest.mark.root
def test_another_users_is_not_permitted(target):
    target.end_main_thread()
    with pytest.raises(PermissionError, match=f"/proc/{target.pid}"):
        runas.as_nobody(fpm.PageMap, target.pid)


@pytest.mark.parametrize("name", ["mappings", "usage", "states", "residency"])
def test_while_a_process_of_many_threads_exits(name):
    """Its main thread may lose its memory first: every answer is a whole one, until there is none.

    Memory that is being torn down may be missing from an answer only if an exception follows.
    """
    wrong = []

    def ask_on(pm, target):
        while True:
            found = QUESTIONS[name](pm, target)
            if found == 0:
                wrong.append(found)

    for delay in np.linspace(0, 0.01, 10):
        with Leaderless(threads=30) as target, fpm.PageMap(target.pid) as pm:
            timer = threading.Timer(delay, target.kill_soon)
            timer.start()
            with pytest.raises(ProcessLookupError):
                ask_on(pm, target)
            timer.join()
    assert not wrong


def own_memory():
    """Of this process: a store, and what only its file tells, in each case once."""
    with backed.memfd(16) as made, fpm.PageMap() as pm:
        found = [fpm.capabilities().categories, len(pm.regions(made.start, made.end))]
        with fpm.WriteTracker(made.start, made.end) as tracker:
            made.write(3, 4, value=5)
            found += [int(tracker.written().sum()), len(tracker.regions())]
            os.pwrite(made.fd, b"new", 7 * PAGE)
            return [*found, int(tracker.written().sum())]


@pytest.mark.usefixtures("_write_tracking")
def test_ones_own():
    here = own_memory()
    probes._categories.cache_clear()
    probes._soft_dirty.cache_clear()
    backing.kernel_tmpfs.cache_clear()
    assert without_main_thread(own_memory) == here
    assert here[1:] == [1, 1, 0, 16]


def own_files(path):
    """Of this process: its mounts, limits and namespaces, and files that it writes and reads."""
    with fpm.PageMap() as pm:
        snapshot = pm.snapshot()
    snapshot.save(path)
    with open(path, "r+b") as file:
        snapshot.save(f"/dev/fd/{file.fileno()}")
    with open("/proc/thread-self/pagemap", "rb") as file:
        found = live_file.live_file(file.fileno())
    return [
        fpm.Snapshot.load(path).mappings == snapshot.mappings,
        path.stat().st_mode,
        found.pid == os.getpid(),
        mounts.own_mounts(),
        [whose for _, whose in cgroups.left_in_cgroups()],
        cgroups.mount_points(),
        namespaces.shows_all(),
        environment.environment(),
    ]


def test_ones_own_files(tmp_path):
    # others on the machine mount, and make cgroups
    here, there = while_still(
        lambda: without_main_thread(lambda: own_files(tmp_path / "there.fpm")),
        lambda: own_files(tmp_path / "here.fpm"),
    )
    assert here[0]
    assert there == here


def test_descriptors_of_a_threads_own(tmp_path):
    """Under the same number the main thread may have another file."""
    path, other = tmp_path / "path.fpm", tmp_path / "other.fpm"
    with fpm.PageMap() as pm:
        pm.snapshot().save(path)
    other.write_bytes(b"no snapshot")

    def child():
        loaded, apart, taken = [], threading.Event(), threading.Event()

        def load():
            linux.call("unshare", _CLONE_FILES)
            apart.set()
            taken.wait()
            loaded.append(fpm.Snapshot.load(path))

        thread = threading.Thread(target=load)
        thread.start()
        apart.wait()
        for _ in range(8):
            os.open(other, os.O_RDONLY)
        taken.set()
        thread.join()
        return len(loaded[0].mappings)

    assert runas.in_child(child) == len(fpm.Snapshot.load(path).mappings)
