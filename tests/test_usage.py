"""usage() next to the kernel's own sums, smaps, for every process that holds still."""

import os

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import memory
import oracle
import runas
import swap
from compare import while_still
from compare_usage import check_usage, usage_rows
from features import keeps_soft_dirty
from linux import PAGE
from needs import Absent, Missing, need
from victim import parted

PAGES = 37
COLUMNS = ["start", "end", "size", "present", "swapped", "swapped_shared", "unknown", "shared"]
COLUMNS += ["exclusive", "soft_dirty", "huge", "zero"]


@pytest.fixture(scope="module")
def zero_frames(zero_pfn):
    """The frames that smaps counts nowhere: the zero page's and the huge zero page's."""
    frames = {zero_pfn}
    try:
        with memory.huge_zero(1) as made:
            frames |= {oracle.decode(w).pfn for w in oracle.words(made.start, made.end)}
    except Missing:
        pass
    return frames


@pytest.mark.root
def test_every_process_that_holds_still(any_swap, zero_frames):
    with parted() as victim:
        for kind in sorted(kinds.ALL):
            if kind != "merged":  # its frames are not always what they were
                victim.make(kind, PAGES)
        half = victim.make("touched", 100)
        victim.pageout(half)
        half.do("read", 0, 50)
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        others = {pid: check_or_gone(pid, zero_frames) for pid in pids if pid != os.getpid()}
        assert others.pop(victim.pid) > len(kinds.ALL)
        assert check_usage(victim.pid, zero_frames, alone=True) > len(kinds.ALL)
    assert sum(others.values()) > 0


def check_or_gone(pid, zero_frames):
    try:
        return check_usage(pid, zero_frames)
    except (ProcessLookupError, FileNotFoundError, PermissionError):  # gone, or out of reach
        return 0


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.STAYING))
def test_every_kind_in_swap(kind, swap_area, zero_frames):
    with parted() as victim:
        span = victim.make(kind, PAGES)
        victim.pageout(span)
        assert check_usage(victim.pid, zero_frames, alone=True)


@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - kinds.ROOTS - {"gap"}))
def test_every_kind_as_nobody(kind):
    """Nobody cannot tell zero pages by their frames, and smaps leaves them out."""

    def ask():
        with kinds.ALL[kind](PAGES) as made:
            span = made.start, made.end
            row = usage_rows(os.getpid())[span]
            sums = oracle.smaps()[span]
            zeros = made.pages * PAGE if kind in ("zero", "huge_zero") else 0
            assert row["present"] == sums["Rss"] + zeros
            return row.tolist()

    assert dict(zip(COLUMNS, runas.as_nobody(ask), strict=False))["size"] >= PAGES * PAGE


def test_sums_of_the_masks():
    with kinds.ALL["file_copied"](PAGES) as made, fpm.PageMap() as pm:
        (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        (row,) = pm.usage([mapping])
        for name in ("present", "swapped", "unknown", "shared", "exclusive"):
            assert row[name] == getattr(pm, name)(made.start, made.end).sum() * PAGE, name


def test_columns_are_all_that_this_kernel_can_fill():
    with fpm.PageMap() as pm:
        table = pm.usage()
        assert all(table.dtype[name] == np.uint64 for name in table.dtype.names)
        absent = [name for name in COLUMNS if name not in table.dtype.names]
        assert [name for name in COLUMNS if name not in absent] == list(table.dtype.names)
        assert ("soft_dirty" in absent) == (not keeps_soft_dirty())
        assert set(absent) <= {"soft_dirty", "huge", "zero"}
        for name in absent:
            with pytest.raises(fpm.UnsupportedError):
                pm.usage(fields=[name])


@pytest.mark.parametrize(
    "fields",
    [
        ["present"],
        ["exclusive", "start", "shared"],
        ("unknown", "end"),
        ["swapped", "swapped_shared"],
        ["start", "end", "size"],
        [],
    ],
    ids=repr,
)
def test_fields_asked_for_come_in_their_order(fields):
    with parted() as victim, fpm.PageMap(victim.pid) as pm:
        victim.make("sparse", PAGES)

        def usage():
            return pm.usage().tolist()

        rows, table = while_still(lambda: pm.usage(fields=iter(fields)), usage)
        whole = dict(zip(pm.usage().dtype.names, zip(*rows, strict=True), strict=True))
    assert list(table.dtype.names or ()) == list(fields)
    assert len(table) == len(rows)
    for name in fields:
        assert table[name].tolist() == list(whole[name])


def test_a_field_that_does_not_exist():
    with fpm.PageMap() as pm, pytest.raises(ValueError, match="rss"):
        pm.usage(fields=["present", "rss"])


def test_mappings_asked_for_come_in_their_order():
    with memory.sparse(PAGES) as made, memory.touched(5) as other, fpm.PageMap() as pm:
        chosen = {m.start: m for m in pm.mappings() if m.start in (made.start, other.start)}
        table = pm.usage(chosen[start] for start in (other.start, made.start, other.start))
        assert table["start"].tolist() == [other.start, made.start, other.start]
        assert table["present"].tolist() == [5 * PAGE, -(-PAGES // 3) * PAGE, 5 * PAGE]
        assert pm.usage([]).shape == (0,)


def test_a_mapping_that_is_gone_counts_nothing():
    with fpm.PageMap() as pm:
        with memory.touched(PAGES) as made:
            (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        (row,) = pm.usage([mapping])
        assert row["size"] == PAGES * PAGE
        assert row["present"] == row["swapped"] == row["unknown"] == 0


def test_a_large_mapping_costs_no_memory_of_its_size():
    """64 GiB, of which three pages are there."""
    pages = 1 << 24
    try:
        made = memory.Memory(pages, memory.PRIVATE | memory.linux.MAP_NORESERVE)
    except OSError:
        need(False, "64 GiB of addresses to reserve", Absent)
    with made, fpm.PageMap() as pm:
        for page in (0, pages // 2 + 1, pages - 1):
            made.write(page, page + 1)
        (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        (row,) = pm.usage([mapping])
    assert (row["size"], row["present"]) == (pages * PAGE, 3 * PAGE)


def test_swap_shows_at_once(any_swap):
    """Nothing is kept from one call to the next."""
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        (mapping,) = [m for m in pm.mappings() if m.start == made.start]
        assert pm.usage([mapping])["swapped"].tolist() == [0]
        swap.pageout(made.start, made.end)
        assert pm.usage([mapping])["swapped"].tolist() == [PAGES * PAGE]
        made.drop()
        assert pm.usage([mapping])["swapped"].tolist() == [0]
