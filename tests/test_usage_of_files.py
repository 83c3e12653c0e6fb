"""usage_of() of processes that map files on no disk: what these have in swap counts."""

import pytest

import fastpagemap as fpm
import runas
from compare_usage import check_sums
from linux import PAGE
from victim import parted

PAGES = 37
#: Mappings of files: few are asked one by one, of many the kernel may tell that none is in swap.
NUMBERS = [1, 4, 5, 20]
#: So large that the kernel is not asked to sum the process up.
LARGE = 1 << 14
FIELDS = [None, ["present", "swapped"], ["swapped_shared", "unknown"], ["present", "shared"]]


def made(victim, kind, number, pages=PAGES):
    return [victim.make(kind, pages) for _ in range(number)]


def check(victim):
    for fields in FIELDS:
        check_sums([victim.pid], fields)


@pytest.mark.parametrize("kind", ["memfd", "memfd_private", "shared_anonymous"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.usefixtures("any_swap")
def test_one_of_several_in_swap(kind, number):
    with parted() as victim:
        spans = made(victim, kind, number)
        check(victim)
        victim.pageout(victim.make("touched", PAGES))
        check(victim)
        victim.pageout(spans[number // 2])
        check(victim)
        (row,) = fpm.usage_of(victim.pid, fields=["swapped", "unknown"])
        assert row["swapped"] + row["unknown"] >= 2 * PAGES * PAGE


@pytest.mark.parametrize("number", [4, 5])
@pytest.mark.usefixtures("any_swap")
def test_large_files(number):
    with parted() as victim:
        made(victim, "memfd", number - 1)
        large = victim.make("memfd", LARGE)
        check(victim)
        large.do("drop", 5, 10)
        victim.pageout(victim.make("memfd_private", PAGES))
        check(victim)


@pytest.mark.parametrize("number", [4, 5])
@pytest.mark.usefixtures("any_swap")
def test_as_nobody(number):
    def ask():
        with parted() as victim:
            spans = made(victim, "memfd", number)
            victim.pageout(spans[0])
            check(victim)

    runas.as_nobody(ask)


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_hugetlb_beside_what_is_in_swap():
    with parted() as victim:
        victim.pageout(victim.make("memfd", PAGES))
        victim.make("hugetlb", 1)
        check(victim)
