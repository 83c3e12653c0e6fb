"""usage_of() of processes that have little mapped: one scan over all of their addresses."""

import sys

import pytest

import fastpagemap as fpm
from compare_usage import check_sums
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need
from victim import Victim, parted

FIELDS = ["present", "huge", "zero", "swapped"]
#: More than 256 MiB.
MANY_PAGES = (256 << 20) // PAGE + 1

ROOTS = pytest.param("hugetlb", marks=pytest.mark.root)

_opened: list[str] = []
sys.addaudithook(lambda event, about: _opened.append(str(about[0])) if event == "open" else None)


@pytest.fixture(autouse=True)
def _scans():
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)


def opened(pid, fields):
    """The files that are opened to answer."""
    fpm.usage_of(pid, fields=fields)
    _opened.clear()
    fpm.usage_of(pid, fields=fields)
    return list(_opened)


def test_more_than_one_call_finds():
    """More pages than a call may find, and more regions than there is room for."""
    with parted() as victim:
        victim.make("touched", 5000)
        check_sums([victim.pid], FIELDS)
        victim.make("sparse", 3000)
        victim.make("zero", 2500)
        check_sums([victim.pid], FIELDS)


@pytest.mark.parametrize("kind", ["huge", "file_shared", "memfd", "guarded", ROOTS])
def test_of_a_kind(kind):
    with parted() as victim:
        victim.make(kind, 1100)
        check_sums([victim.pid], FIELDS)


def test_mappings_are_not_listed():
    with parted() as victim:
        assert opened(victim.pid, ["present"]) == [f"/proc/{victim.pid}", "pagemap", "statm"]
        victim.make("untouched", MANY_PAGES)
        assert opened(victim.pid, ["present"])[-2:] == ["statm", "maps"]
        check_sums([victim.pid], FIELDS)


def test_no_maps_of_the_program_that_it_has_become():
    with Victim() as victim:
        process = Process(victim.pid, briefly=True)
        victim.exec()
        for _ in range(2):
            with pytest.raises(ProcessLookupError):
                print(process.maps)
