"""usage_of(): one row a process, next to smaps_rollup, and to the sums of usage()."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import linux
import runas
from compare import TRIES, while_still
from compare_usage import as_dict, check_sums, sums, tasks_of
from linux import PAGE
from needs import Absent, need
from victim import Victim, parted

PAGES = 37
#: No process has such a pid.
NOBODYS = 1 << 30


@pytest.fixture
def victim():
    """Another process, which maps nothing that anybody else maps."""
    with parted() as victim:
        yield victim


def rollup(pid):
    """The kernel's own sums of a process, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        words = [line.split() for line in file if line.endswith(" kB\n")]
    return {name.removesuffix(":"): int(size) * 1024 for name, size, _ in words}


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.ROOTS))
def test_every_kind(kind, victim):
    victim.make(kind, PAGES)
    check_sums([victim.pid])


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(kinds.ROOTS))
def test_every_kind_of_root(kind, victim):
    victim.make(kind, PAGES)
    check_sums([victim.pid])


def test_large_memory_of_every_sort(victim):
    """More pages than are read with their neighbours."""
    for kind in ("touched", "sparse", "file_shared", "file_copied", "memfd", "shared_anonymous"):
        victim.make(kind, 2000)
    check_sums([victim.pid])
    check_sums([victim.pid], ["present", "swapped"])


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.STAYING))
def test_every_kind_in_swap(kind, swap_area, victim):
    victim.pageout(victim.make(kind, PAGES))
    check_sums([victim.pid])
    check_sums([victim.pid], ["present", "swapped"])


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.STAYING - kinds.ROOTS))
def test_every_kind_in_swap_as_nobody(kind, any_swap):
    def ask():
        with parted() as victim:
            victim.pageout(victim.make(kind, PAGES))
            check_sums([victim.pid])

    runas.as_nobody(ask)


def test_the_kernels_sum(victim):
    """Rss counts all that is present but hugetlb and the zero page."""
    for kind in ("touched", "sparse", "zero", "file_shared", "file_copied", "memfd", "guarded"):
        victim.make(kind, PAGES)

    def rss():
        return rollup(victim.pid)["Rss"]

    fields = ["present", "swapped", *(["zero"] if fpm.capabilities().scan else [])]
    expected, (row,) = while_still(lambda: fpm.usage_of([victim.pid], fields=fields), rss)
    zero = row["zero"] if "zero" in row.dtype.names else PAGES * PAGE
    assert row["present"] - zero == expected
    assert zero >= PAGES * PAGE


def test_the_kernels_sum_of_swap(any_swap, victim):
    for kind in ("touched", "shared_anonymous", "memfd_private"):
        victim.pageout(victim.make(kind, PAGES))

    def swap():
        return rollup(victim.pid)["Swap"]

    fields = ["swapped", "unknown"]
    expected, (row,) = while_still(lambda: fpm.usage_of(victim.pid, fields=fields), swap)
    assert PAGES * PAGE <= row["swapped"] <= expected <= row["swapped"] + row["unknown"]
    if not os.geteuid():  # an ordinary user cannot open the file of shared anonymous memory
        assert row["unknown"] == 0


def test_shares(victim):
    victim.fork()  # which maps all that there is by now, too
    victim.make("touched", PAGES)
    expected, (row,) = while_still(
        lambda: fpm.usage_of([victim.pid], fields=["uss", "pss"]),
        lambda: sums(victim.pid, ["uss", "pss"]),
    )
    assert as_dict(row) == {"pid": victim.pid, **expected}
    assert row["pss"] > row["uss"] >= PAGES * PAGE


# ---- who has a row ------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_processes(victim):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with sleeper:
        whose = [sleeper, victim.pid, os.getpid(), victim, sleeper.pid]
        table = fpm.usage_of(iter(whose), fields=["size"])
        sleeper.communicate()
    assert table["pid"].tolist() == [sleeper.pid, victim.pid, os.getpid()]
    assert table.dtype == [("pid", np.int64), ("size", np.uint64)]
    assert (table["size"] > 0).all()


def test_one_process(victim):
    with fpm.PageMap(victim.pid) as pm:
        for one in (victim.pid, np.int64(victim.pid), victim, pm):
            assert fpm.usage_of(one)["pid"].tolist() == [victim.pid]


def test_no_process():
    table = fpm.usage_of([], fields=["present"])
    assert (table.shape, table.dtype.names) == ((0,), ("pid", "present"))


def test_those_that_have_ended_are_left_out_and_named(victim):
    with Victim() as ended, Victim() as zombie:
        ended.kill()
        zombie.exit()
        left_out = {}
        table = fpm.usage_of([ended, victim, NOBODYS, zombie], left_out=left_out)
        assert table["pid"].tolist() == [victim.pid]
        assert fpm.usage_of([zombie, victim])["pid"].tolist() == [victim.pid]
    assert list(left_out) == [ended.pid, NOBODYS, zombie.pid]
    assert {type(error) for error in left_out.values()} == {ProcessLookupError}


def test_an_object_that_knows_its_end(victim):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left_out = {}
    assert fpm.usage_of([ended, victim], left_out=left_out)["pid"].tolist() == [victim.pid]
    assert list(left_out) == [ended.pid]


@pytest.mark.root
def test_those_that_may_not_be_read_are_left_out_and_named(victim):
    def ask():
        left_out = {}
        table = fpm.usage_of([NOBODYS, victim, os.getpid()], left_out=left_out)
        assert table["pid"].tolist() == [os.getpid()]
        return {pid: type(error) for pid, error in left_out.items()}

    assert runas.as_nobody(ask) == {NOBODYS: ProcessLookupError, victim.pid: PermissionError}


@pytest.mark.root
def test_threads_of_the_kernel(victim):
    threads = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    threads = [pid for pid in threads if linux.is_kernel_thread(pid)]
    need(threads, "threads of the kernel", Absent)
    assert fpm.usage_of([*threads, victim])["pid"].tolist() == [victim.pid]


def test_nobody_has_a_row():
    with pytest.raises(ProcessLookupError, match=str(NOBODYS)):
        fpm.usage_of([NOBODYS])
    left_out = {}
    assert len(fpm.usage_of([NOBODYS], left_out=left_out)) == 0
    assert list(left_out) == [NOBODYS]


@pytest.mark.root
def test_why_nobody_has_a_row(victim):
    """What is running tells more than what is not there."""
    with pytest.raises(PermissionError, match=f"/proc/{victim.pid}"):
        runas.as_nobody(fpm.usage_of, [NOBODYS, victim.pid, NOBODYS + 1])


def test_after_exec_it_is_another_process(victim):
    made = victim.make("touched", 5000)
    (before,) = fpm.usage_of([victim])
    victim.exec()
    (after,) = fpm.usage_of([victim])
    assert before["present"] - after["present"] > (made.end - made.start) // 2


# ---- columns ------------------------------------------------------------------------------------


def test_columns_are_those_of_usage():
    names = fpm.PageMap().usage([]).dtype.names
    assert fpm.usage_of([]).dtype.names == ("pid", *names[2:])


@pytest.mark.parametrize("fields", [("zero", "size"), ["swapped", "unknown"], "present", []])
def test_fields_asked_for_come_in_their_order(fields, victim):
    need("zero" not in fields or fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    table = fpm.usage_of([victim], fields=fields)
    names = [fields] if isinstance(fields, str) else fields
    assert table.dtype.names == ("pid", *names)
    assert table["pid"].tolist() == [victim.pid]


@pytest.mark.parametrize("name", ["rss", "start", "path"])
def test_what_has_no_sum(name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        fpm.usage_of([], fields=["present", name])


def test_a_column_that_this_kernel_cannot_fill():
    for name in {"soft_dirty", "zero", "huge"} - set(fpm.usage_of([]).dtype.names):
        with pytest.raises(fpm.UnsupportedError):
            fpm.usage_of([], fields=[name])


def test_memory_counts_once_for_each_mapping(victim):
    made = victim.make("memfd", PAGES)
    (before,) = fpm.usage_of([victim], fields=["present"])
    victim.ask("again", made.number, 2)
    (after,) = fpm.usage_of([victim], fields=["present"])
    assert after["present"] - before["present"] >= 2 * PAGES * PAGE


@pytest.mark.root
def test_every_process_that_holds_still():
    """Present, less hugetlb and the zero page, is Rss."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    still, others = compared(pids)
    assert still > 0
    tries = 1
    while others and tries < TRIES:  # a page that the kernel moves is not present for a moment
        _, others = compared(others)
        tries += 1
    assert not others


def compared(pids):
    """How many of these processes held still, and those of them that are told otherwise."""
    before = {pid: of for pid in pids if (of := moment(pid))}
    table = fpm.usage_of(list(before), fields=["present", "zero"], left_out={})
    still, others = 0, []
    for row in table:
        pid, (sizes, tasks) = int(row["pid"]), before[row["pid"]]
        if moment(pid) == (sizes, tasks) and "R (running)" not in str(tasks):
            hugetlb = sizes["Private_Hugetlb"] + sizes["Shared_Hugetlb"]
            still += 1
            if row["present"] - row["zero"] - hugetlb != sizes["Rss"]:
                others.append(pid)
    return still, others


def moment(pid):
    """The sums of a process, and how often its threads have run; None if it has ended."""
    try:
        return rollup(pid), tasks_of(pid)
    except OSError:
        return None
