"""states() of shared memory: what is in swap is known by its file alone."""

import pytest

import backed
import fastpagemap as fpm
import kinds
import swap
from compare import check_states
from fastpagemap import State
from linux import PAGE
from needs import Absent, need

PAGES = 37


@pytest.mark.root
def test_shared_memory_over_many_windows(any_swap):
    """A GiB of it is looked up at a time."""
    border = 1 << 18
    with backed.mapped(backed.sized_memfd(3 * border), 3 * border) as made, fpm.PageMap() as pm:
        for first, last in ((0, 3), (border - 5, border + 5), (2 * border, 2 * border + 1)):
            made.write(first, last)
            swap.pageout(made.at(first), made.at(last))
        made.read(border - 1, border + 1)
        told = pm.states([m for m in pm.mappings() if m.start == made.start])
        swapped = State.SWAPPED | State.SWAPPED_SHARED
        pages = [(low - made.start) // PAGE for low in told["start"].tolist()]
        assert pages == [0, border - 5, border - 1, border + 1, 2 * border]
        assert [bool(state & swapped) for state in told["state"]] == [1, 1, 0, 1, 1]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["memfd", "shared_anonymous", "sysv", "tmpfs", "overlay"])
def test_shared_memory_of_which_nothing_is_present(kind, any_swap):
    """Only its file knows of it."""
    with kinds.ALL[kind](PAGES) as made, fpm.PageMap() as pm:
        swap.pageout(made.start, made.end)
        expected = [int(State.SWAPPED | State.SWAPPED_SHARED)] * PAGES
        assert check_states(pm, made.start, made.end) == expected


@pytest.mark.root
def test_shared_memory_that_is_nearly_empty(any_swap):
    """16 TiB of a file, of which three pages are swapped."""
    pages = 1 << 32
    try:
        fd = backed.sized_memfd(pages)
        made = backed.mapped(fd, pages)
    except OSError:
        need(False, "16 TiB of addresses to reserve", Absent)
    with made, fpm.PageMap() as pm:
        rare = (7, pages // 2 + 1, pages - 1)
        for page in rare:
            made.write(page, page + 1)
            swap.pageout(made.at(page), made.at(page + 1))
        runs = pm.states([m for m in pm.mappings() if m.start == made.start])
        assert runs["start"].tolist() == [made.at(page) for page in rare]
        assert set(runs["state"].tolist()) == {int(State.SWAPPED | State.SWAPPED_SHARED)}
