"""Folios, against a walk from frame to frame, and smaps."""

import mmap
import os
import threading

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import hugetlb
import kinds
import linux
import memory
import oracle
import oracle_frames
import runas
from compare import TRIES, while_still
from linux import PAGE
from needs import Absent, need

pytestmark = pytest.mark.root
#: The flags of which a folio keeps what it has.
STEADY = fpm.KPF.ANON | fpm.KPF.HUGE | fpm.KPF.THP | fpm.KPF.COMPOUND_HEAD | fpm.KPF.ZERO_PAGE


def found(made):
    """What PageMap says, after it was compared with the slow twin."""

    def now():
        rows = pm.folios(made.start, made.end)
        return rows, [list(row)[:4] for row in rows.tolist()]

    with fpm.PageMap() as pm:
        before, (rows, told) = None, now()
        while before != told:  # the kernel may split what is mapped in part
            before, slow = told, oracle_frames.folios(made.start, made.end)
            rows, told = now()
    assert rows.dtype == fpm.FOLIO_DTYPE
    assert told == [row[:4] for row in slow]
    assert (rows["flags"] & STEADY).tolist() == [row[4] & int(STEADY) for row in slow]
    return rows


@pytest.mark.parametrize(
    "kind", ["touched", "sparse", "untouched", "zero", "gap", "guarded", "memfd", "file_shared"]
)
def test_kinds(kind):
    with kinds.ALL[kind](1100) as made:
        rows = found(made)
        with fpm.PageMap() as pm:
            assert sum(rows["end"] - rows["start"]) == PAGE * pm.present(made.start, made.end).sum()


def test_huge_pages_and_parts_of_them():
    with memory.huge(1024) as made:
        each = memory.huge_page_pages()
        rows = found(made)
        assert len(rows) == made.pages // each
        assert (
            sum(rows["end"] - rows["start"])
            == oracle.smaps()[made.start, made.end]["AnonHugePages"]
        )
        made.drop(3, 200)
        made.drop(each + 300, 2 * each)
        rows = found(made)
        assert (PAGE << int(rows["order"].max())) == each * PAGE
        assert len(rows) == 3
        assert len(np.unique(rows["pfn"] >> rows["order"])) == 2
    with memory.huge_zero(1024) as made:
        assert (found(made)["flags"] & fpm.KPF.ZERO_PAGE != 0).all()
    with hugetlb.hugetlb(1024) as made:
        assert (found(made)["flags"] & fpm.KPF.HUGE != 0).all()


def test_every_order():
    """Folios of each order that this kernel makes: whole, and mapped in part."""
    need(oracle_frames.orders(), "large folios of several orders (Linux 6.8)", Absent)
    for order in oracle_frames.orders():
        with oracle_frames.allowed(order):
            # the kernel may have none just now, and splits what it moves to make room for huge ones
            assert any(whole_and_in_part(order) for _ in range(TRIES)), order


def whole_and_in_part(order):
    """Return whether most of new memory was of that order, after it was mapped in part."""
    with memory.Memory(max(1 << order, 256), align=PAGE << order) as made:
        made.advise(linux.MADV_HUGEPAGE).write()
        rows = found(made)
        made.drop(0, 1)
        made.drop((1 << order) + 1, (1 << order) + 2)
        found(made)
    return (rows["order"] == order).sum() > len(rows) // 2


def test_forked_and_moved():
    with memory.huge(512) as made:

        def child():
            made.write(7, 9)
            return len(found(made))

        assert runas.in_child(child) >= 2
        assert len(found(made)) == 1


def test_huge_shared_memory():
    with backed.mounted("tmpfs", "huge=always,size=64m") as place:
        fd = os.open(f"{place}/file", os.O_RDWR | os.O_CREAT)
        each = memory.huge_page_pages()
        os.ftruncate(fd, 2 * each * PAGE)
        with memory.Memory(2 * each, mmap.MAP_SHARED, fd=fd, align=each * PAGE) as made:
            made.advise(linux.MADV_HUGEPAGE).write()
            rows = found(made)
            need(rows["order"].max() > 0, "huge pages of shared memory", Absent)
            # in part, and from the middle
            with memory.Memory(each, mmap.MAP_SHARED, fd=os.dup(fd), offset=100) as part:
                part.read()
                rows = found(part)
                assert rows["pfn"][0] & ((1 << int(rows["order"][0])) - 1) == 100


def test_a_whole_process():
    with memory.huge(512) as made, fpm.PageMap() as pm:
        rows = pm.folios()
        assert (rows["start"] < rows["end"]).all()
        assert (rows["end"][:-1] <= rows["start"][1:]).all()
        inside = rows[(rows["start"] >= made.start) & (rows["end"] <= made.end)]
        again = pm.folios(made.start, made.end)
        # the flags may change meanwhile: the kernel looks for idle pages
        for name in ("start", "end", "pfn", "order"):
            assert inside[name].tolist() == again[name].tolist()
        present = pm.usage(fields=["present"])["present"].sum()
        assert abs(int((rows["end"] - rows["start"]).sum()) - int(present)) < 1 << 22


def test_more_than_one_buffer():
    """More folios than are gathered at a time, and a huge page at the border."""
    with memory.touched(70000) as made, fpm.PageMap() as pm:
        # the kernel moves pages to other frames when it makes room for huge ones
        words, rows = while_still(
            lambda: pm.folios(made.start, made.end),
            lambda: oracle.many_words(made.start, made.end),
        )
        assert sum(rows["end"] - rows["start"]) == made.pages * PAGE
        assert (rows["end"][:-1] == rows["start"][1:]).all()
        firsts = np.frombuffer(words, np.uint64)[(rows["start"] - made.start) // PAGE]
        assert (rows["pfn"] == firsts & np.uint64((1 << 55) - 1)).all()


def test_split_while_it_is_read():
    """What is said may be old, but is never two folios at once."""
    with memory.huge(2048) as made, fpm.PageMap() as pm:
        made.advise(linux.MADV_HUGEPAGE)  # also when it is written again
        each, done = memory.huge_page_pages(), threading.Event()

        def split():
            while not done.is_set():
                for page in range(0, made.pages, each):
                    made.drop(page + 5, page + each)
                made.drop().write()

        thread = threading.Thread(target=split)
        thread.start()
        try:
            for _ in range(60):
                rows = pm.folios(made.start, made.end)
                pages = (rows["end"] - rows["start"]) // PAGE
                size = np.uint64(1) << rows["order"]
                assert (rows["order"] <= each.bit_length() - 1).all()
                # all of a row's frames are of one folio
                assert (rows["pfn"] % size + pages <= size).all()
                assert (rows["end"][:-1] <= rows["start"][1:]).all()
        finally:
            done.set()
            thread.join()
