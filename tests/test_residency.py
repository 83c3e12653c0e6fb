"""residency() next to a slow twin: page by page, by the entries and the files."""

import random

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import kinds
import linux
import memory
import oracle
import oracle_files
import runas
import uffd
from fastpagemap._kernel import pagecache
from linux import PAGE
from victim import Victim

COLUMNS = ("present", "swapped", "shared", "exclusive", "unknown")
BLOCK = 64


def facts(start, end, pid="self"):
    """Of each page of a span what it is, by address."""
    swapped = oracle_files.swapped(start, end, pid)
    found = {}
    have_files = oracle.have_files(start, end, pid)
    for page, word in enumerate(oracle.words(start, end, pid)):
        told = oracle.meaning(word, have_files[page])
        # Root, who looks into the files, leaves nothing unknown.
        row = (told.present, swapped[page], told.shared, told.exclusive, False)
        found[start + page * PAGE] = row
    return found


def twin(known, address, size):
    """The row of one allocation, page after page."""
    sums = [0] * len(COLUMNS)
    page = address // PAGE * PAGE
    while page < address + size:
        bytes_here = min(address + size, page + PAGE) - max(address, page)
        for column, yes in enumerate(known.get(page, (False,) * len(COLUMNS))):
            sums[column] += bytes_here * yes
        page += PAGE
    return tuple(sums)


def some(start, end, count, seed):
    """Allocations at and around a span, over its edges, beside it: no further than its gaps."""
    chance = random.Random(seed)
    for _ in range(count):
        address = chance.randrange(start - 3 * PAGE, end + 2 * PAGE)
        size = chance.choice([0, 1, chance.randrange(200), chance.randrange(9000), 5 * PAGE])
        yield address, size
    yield start, end - start
    yield start - PAGE, end - start + 2 * PAGE
    yield end - 1, 1
    yield end, 1


def agrees(pm, start, end, known, count=300, seed=1):
    """Assert that each row is the twin's."""
    asked = list(some(start, end, count, seed))
    rows = pm.residency(*zip(*asked, strict=True))
    assert rows.dtype == fpm.RESIDENCY_DTYPE
    for (address, size), row in zip(asked, rows.tolist(), strict=True):
        assert row == twin(known, address, size), f"{size} bytes at {address:#x}"


@pytest.mark.root  # to look into the files
@pytest.mark.parametrize("kind", [k for k in kinds.ALL if k != "secret"])
def test_of_every_kind(kind):
    pages = 1024 if kind in kinds.HUGETLB else 200
    with kinds.ALL[kind](pages) as made, fpm.PageMap() as pm:
        agrees(pm, made.start, made.end, facts(made.start, made.end))


@pytest.mark.root
@pytest.mark.parametrize("kind", ["touched", "sparse", "memfd", "memfd_private", "memfd_sparse"])
def test_in_swap(kind, any_swap):
    with kinds.ALL[kind](300) as made, fpm.PageMap() as pm:
        made.advise(linux.MADV_PAGEOUT, 0, 200)
        if kind == "touched":
            made.read(20, 60)
        known = facts(made.start, made.end)
        assert any(swapped for _, swapped, *_ in known.values())
        agrees(pm, made.start, made.end, known)


@pytest.mark.parametrize("pages", [1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 1000])
def test_edges_of_blocks(pages):
    with memory.sparse(pages) as made, fpm.PageMap() as pm:
        agrees(pm, made.start, made.end, facts(made.start, made.end))


def test_across_mappings_and_gaps():
    """An allocation may lie over several mappings, and over nothing at all."""
    with memory.touched(1000) as made, fpm.PageMap() as pm:
        made.unmap(100, 130)
        made.protect(memory.READ, 300, 310)
        made.unmap(400, 900)
        known = facts(made.start, made.at(100)) | facts(made.at(130), made.at(400))
        known |= facts(made.at(900), made.end)
        agrees(pm, made.start, made.end, known)


#: More than is looked at together: of so much, what is populated is looked for first.
LARGE = (1 << 18) + 5000


def facts_around(made, *pages):
    """The facts of so many pages at some places; of the others there is nothing to say."""
    known = {}
    for page in pages:
        known |= facts(made.at(page), made.at(min(page + 100, made.pages)))
    return known


def test_more_than_a_window():
    places = (0, 700, 5000, 5100, LARGE - 100)
    with memory.Memory(LARGE, memory.PRIVATE | linux.MAP_NORESERVE) as made, fpm.PageMap() as pm:
        for first in places:
            made.write(first, first + 10)
        agrees(pm, made.start, made.end, facts_around(made, *places), seed=3)


@pytest.mark.root  # to look into the files
def test_more_than_a_window_of_shared_memory():
    places = (0, 3000, LARGE - 100)
    with backed.mapped(backed.sized_memfd(LARGE), LARGE) as made, fpm.PageMap() as pm:
        for first in places:
            made.write(first, first + 10)
        agrees(pm, made.start, made.end, facts_around(made, *places), count=50)


def test_a_million():
    """Unsorted, overlapping, of 1 KiB on average: the sums are those of the twin of each page."""
    pages, count = 30_000, 1_000_000
    chance = np.random.default_rng(5)
    with memory.touched(pages, step=3) as made, fpm.PageMap() as pm:
        size = chance.exponential(1024, count).astype(np.uint64)
        where = chance.integers(0, pages * PAGE - 40_000, count).astype(np.uint64)
        present = np.zeros(pages, np.uint64)
        present[::3] = PAGE
        # bytes present below each page; of an address, those below it
        before = np.concatenate([[0], np.cumsum(present)]).astype(np.uint64)
        page = np.uint64(PAGE)

        def below(address):
            inside = np.where(present[address // page] > 0, address % page, 0)
            return before[address // page] + inside

        rows = pm.residency(where + np.uint64(made.start), size)
        wanted = below(where + size) - below(where)
        assert (rows["present"] == wanted).all()
        assert (rows["exclusive"] == wanted).all()
        assert not rows["swapped"].any()
        assert not rows["shared"].any()


def test_terabytes_reserved():
    """One allocation over all of it costs what is in it."""
    pages = (1 << 40) // PAGE
    with memory.Memory(pages, memory.PRIVATE | linux.MAP_NORESERVE) as made, fpm.PageMap() as pm:
        made.write(5, 7)
        made.write(pages - 1)
        (row,) = pm.residency([made.start], [pages * PAGE])
        assert row.tolist() == (3 * PAGE, 0, 0, 3 * PAGE, 0)


def test_of_another_process_and_after_it():
    with Victim() as victim:
        span = victim.make("sparse", 100)
        with fpm.PageMap(victim.pid) as pm:
            known = facts(span.start, span.end, victim.pid)
            agrees(pm, span.start, span.end, known)
            victim.kill()
            with pytest.raises(ProcessLookupError):
                pm.residency([span.start], [10])
            with pytest.raises(ProcessLookupError):
                pm.residency([], [])


def test_freed_in_between():
    """Not present any more, and nothing else."""
    with memory.touched(300) as made, fpm.PageMap() as pm:
        where = [made.at(page) + 10 for page in range(300)]
        made.unmap(50, 250)
        rows = pm.residency(where, [100] * 300)
        assert rows["present"].tolist() == [100] * 50 + [0] * 200 + [100] * 50


def test_what_a_page_map_of_a_child_says():
    data = np.ones(50 * PAGE, np.uint8)
    with fpm.PageMap() as pm:
        where = [data.ctypes.data + 10 * PAGE + 1]

        def child():
            shared = pm.residency(where, [PAGE])["exclusive"][0]
            data[10 * PAGE : 12 * PAGE] = 2
            return int(shared), int(pm.residency(where, [PAGE])["exclusive"][0])

        assert runas.in_child(child) == (0, PAGE)


def test_out_and_the_kinds_of_arrays():
    with memory.touched(4) as made, fpm.PageMap() as pm:
        out = np.full(2, 7, fpm.RESIDENCY_DTYPE)
        assert pm.residency([made.start] * 2, [5, 6], out=out) is out
        assert out["present"].tolist() == [5, 6]
        strided = np.array([made.start, 0] * 2, np.uint64)[::2]
        for sizes in ([5, 6], np.array([5, 6], np.int32), np.array([5, 6], ">u8"), (5, 6)):
            assert pm.residency(strided, sizes)["present"].tolist() == [5, 6]
        assert len(pm.residency([], [])) == 0
        for wrong in (np.zeros(3, fpm.RESIDENCY_DTYPE), np.zeros(2, np.uint64)):
            with pytest.raises(ValueError, match="out is"):
                pm.residency([1, 2], [3, 4], out=wrong)


@pytest.mark.parametrize(
    ("addresses", "sizes", "message"),
    [
        ([1, 2], [3], "2 addresses, but 1 sizes"),
        ([1.0], [3], r"addresses of dtype float64: integers up to 2\*\*64 are"),
        ([1], [float("nan")], "sizes of dtype float64"),
        ([1, -5], [3, 3], r"addresses\[1\] is -5: it cannot be negative"),
        ([1], [-1], r"sizes\[0\] is -1"),
        ([[1]], [[1]], r"addresses of shape \(1, 1\): one dimension"),
        (5, 5, r"addresses of shape \(\)"),
        (["x"], [1], "addresses of dtype <U1"),
        ([None], [1], "addresses of dtype object"),
        ([7, 2**64 - 2], [1, 2], "allocation 1: 2 bytes at 0xfffffffffffffffe go beyond"),
        ([True], [1], "addresses of dtype bool"),
    ],
)
def test_bad_input(addresses, sizes, message):
    with fpm.PageMap() as pm, pytest.raises(ValueError, match=message):
        pm.residency(addresses, sizes)


def test_addresses_that_are_nowhere():
    with fpm.PageMap() as pm:
        rows = pm.residency([0, 1 << 62, 2**64 - 100, 1 << 63], [5, 1 << 40, 50, 1 << 62])
        assert not rows.view(np.uint64).any()
        (all_of_it,) = pm.residency([0], [1 << 63])
        usage = pm.usage(fields=("present",))
        assert abs(int(all_of_it["present"]) - int(usage["present"].sum())) < 64 << 20


@pytest.mark.root
def test_markers_are_not_swapped_where_nothing_is(monkeypatch):
    """Who sees no swap types cannot tell them apart; that there is no swap tells."""
    monkeypatch.setattr(pagecache, "swap_in_use", lambda: False)

    def swapped(start, end):
        with fpm.PageMap() as pm:
            return int(pm.residency([start], [end - start])["swapped"][0])

    with uffd.poisoned(64) as made:
        assert runas.as_nobody(swapped, made.start, made.end) == 0
