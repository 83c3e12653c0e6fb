"""What a file of shared memory says of its pages: cachestat bisected, and the old recipe."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backed
import linux
import oracle_files
import runas
import swap
from compare import while_still
from fastpagemap._kernel import pagecache
from features import has_cachestat
from linux import PAGE
from needs import Absent, need

PAGES = 300

pytestmark = pytest.mark.root  # swapping pages of a file in a certain pattern


def resolve(look, fd, first, unresolved):
    """Have `look` resolve pages; return which are swapped, and which are unresolved still."""
    unresolved = np.array(unresolved, np.uint8)
    swapped = np.zeros_like(unresolved)
    found = look(fd, "the file", first, unresolved, swapped)
    assert found == swapped.sum()
    return swapped.tolist(), unresolved.tolist()


def file_pages(made, count=PAGES):
    """What the kernel says of each page of a memory's file; it gives copies up when it likes."""
    return [oracle_files.file_page(made.fd, page) for page in range(count)]


def while_same(made, look, count=PAGES):
    """What the kernel says of the pages of a file, and what look() says of just that."""
    return while_still(look, lambda: file_pages(made, count))


def swapped_pattern(swapped, holes=()):
    """A memfd of which these pages are swapped, those are holes, and the rest is in memory."""
    made = backed.memfd(PAGES)
    for first, last in swapped:
        swap.pageout(made.at(first), made.at(last))
    for first, last in holes:
        size = (last - first) * PAGE
        linux.call("fallocate", made.fd, 3, first * PAGE, size)
    return made


PATTERNS = {
    "nothing": ([], []),
    "everything": ([(0, PAGES)], []),
    "one": ([(177, 178)], []),
    "first and last": ([(0, 1), (PAGES - 1, PAGES)], []),
    "alternating": ([(page, page + 1) for page in range(0, PAGES, 2)], []),
    "halves": ([(0, PAGES // 2)], []),
    "holes": ([(10, 100)], [(0, 10), (50, 60), (200, 290)]),
    "hole at the end": ([(0, PAGES)], [(100, PAGES)]),
    "nothing but holes": ([], [(0, PAGES)]),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("unresolved", ["all", "every third", "some runs"])
def test_cachestat_is_exact(pattern, unresolved, swap_area):
    wanted = {
        "all": [1] * PAGES,
        "every third": [int(page % 3 == 0) for page in range(PAGES)],
        "some runs": [int(page // 40 % 2 == 1) for page in range(PAGES)],
    }[unresolved]
    with swapped_pattern(*PATTERNS[pattern]) as made:
        truth = [oracle_files.swapped_in_file(made.fd, page) for page in range(PAGES)]
        swapped, still = resolve(pagecache.by_cachestat, made.fd, 0, wanted)
    assert swapped == [int(page and asked) for page, asked in zip(truth, wanted, strict=True)]
    assert not any(still)


@pytest.fixture(scope="module")
def mixed(swap_area):
    """A file with some of everything, and which of its pages are swapped."""
    holes = [(20, 30), (90, 150), (290, PAGES)]
    with swapped_pattern([(0, 5), (7, 8), (60, 200), (250, 251)], holes) as made:
        yield made.fd, [int(oracle_files.swapped_in_file(made.fd, page)) for page in range(PAGES)]


@given(st.data())
def test_cachestat_of_any_part(mixed, data):
    fd, truth = mixed
    first = data.draw(st.integers(0, PAGES - 1))
    last = data.draw(st.integers(first + 1, PAGES))
    asked = data.draw(st.lists(st.booleans(), min_size=last - first, max_size=last - first))
    swapped, still = resolve(pagecache.by_cachestat, fd, first, asked)
    assert swapped == [page * asks for page, asks in zip(truth[first:last], asked, strict=True)]
    assert not any(still)


def test_beyond_the_end_of_the_file_there_is_nothing(mixed):
    for look in (pagecache.by_cachestat, pagecache.by_mincore):
        swapped, still = resolve(look, mixed[0], PAGES - 5, [1] * 100)
        assert not any(swapped)
        assert not any(still)


@pytest.mark.parametrize("look", [pagecache.by_cachestat, pagecache.by_mincore])
def test_who_may_not_ask_is_told_so(look, swap_area):
    """Mincore itself says no word: to others it calls every page resident."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)

    def ask(path):
        fd = os.open(path, os.O_RDONLY)
        return resolve(look, fd, 0, [1] * 8)

    with backed.posix(8) as made:
        path = os.readlink(f"/proc/self/fd/{made.fd}")
        os.chmod(path, 0o644)
        swap.pageout(made.start, made.at(4))
        with pytest.raises(PermissionError):
            runas.as_nobody(ask, path)
        os.chmod(path, 0o666)
        pages, (swapped, _) = while_same(made, lambda: runas.as_nobody(ask, path), 8)
        exact = look is pagecache.by_cachestat  # mincore takes the swap cache for the page
        real = [int(page.evicted if exact else page.data and not page.incore) for page in pages]
        assert swapped == real


def test_nothing_is_faulted_in(swap_area):
    with swapped_pattern([(0, PAGES)]) as made:
        before = file_pages(made)
        for look in (pagecache.by_cachestat, pagecache.by_mincore):
            resolve(look, made.fd, 0, [1] * PAGES)
        for was, now in zip(before, file_pages(made), strict=True):
            assert now == was or now == was._replace(incore=False)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_mincore_is_exact_but_for_the_swap_cache(pattern, swap_area):
    with swapped_pattern(*PATTERNS[pattern]) as made:
        every = [1] * PAGES
        pages, (swapped, unresolved) = while_same(
            made, lambda: resolve(pagecache.by_mincore, made.fd, 0, every)
        )
    assert swapped == [int(page.data and not page.incore) for page in pages]
    assert not any(unresolved)
    if "zram" in swap_area:
        assert swapped == [int(page.evicted) for page in pages]
