"""regions(): PAGEMAP_SCAN's question, by the kernel and from the entries."""

import itertools

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import memory
import runas
import seccomp
from fastpagemap import Category
from fastpagemap.engine import regions
from fastpagemap.process.probes import categories, soft_dirty
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need

PRESENT, SWAPPED, FILE = Category.PRESENT, Category.SWAPPED, Category.FILE
NONE = Category(0)
#: mask, anyof, inverted and returns, as entries can answer them too
QUESTIONS = [
    (mask, anyof, inverted, returns)
    for mask, anyof, inverted in itertools.product(
        (Category(0), PRESENT, PRESENT | FILE),
        (Category(0), PRESENT | SWAPPED),
        (Category(0), PRESENT),
    )
    for returns in (PRESENT, PRESENT | SWAPPED | FILE)
]


@pytest.fixture
def _scans():
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)


@pytest.mark.usefixtures("any_swap", "_scans")
@pytest.mark.parametrize("kind", sorted(set(kinds.ALL) - {"huge_zero"}))
def test_the_kernel_and_the_entries_agree(kind):
    """But about the huge zero page: before Linux 7.3 its entries say that it is a file page."""
    with kinds.ALL[kind](24) as made, fpm.PageMap() as pm:
        for mask, anyof, inverted, returns in QUESTIONS:
            asked = {"mask": mask, "anyof": anyof, "inverted": inverted, "returns": returns}
            found = pm.regions(made.start, made.end, **asked)
            twin = regions._from_entries(
                Process(), made.start, made.end, (mask, anyof, inverted, returns)
            )
            if inverted and found.shape != twin.shape:  # not walked: entries show nothing there
                assert not len(found)
                continue
            assert found.tolist() == twin.tolist(), asked


def test_without_the_call_the_entries_answer():
    runas.in_child(regions_without_scan)


def regions_without_scan():
    seccomp.without_scan()
    with memory.touched(50, 2) as made, fpm.PageMap() as pm:
        found = pm.regions(made.start, made.end, mask=PRESENT, returns=PRESENT)
        assert [(row["start"] - made.start) // PAGE for row in found] == list(range(0, 50, 2))
        whole = pm.regions(made.start, made.end, returns=Category(0))
        assert whole.tolist() == [(made.start, made.end, 0)]
        with pytest.raises(fpm.UnsupportedError, match="HUGE"):
            pm.regions(mask=Category.HUGE)


@pytest.mark.usefixtures("_scans")
def test_the_whole_address_space():
    with memory.touched(10) as made, fpm.PageMap() as pm:
        found = pm.regions()
        assert found.dtype == fpm.REGION_DTYPE
        assert (found["start"][1:] >= found["end"][:-1]).all()
        touching = found["start"][1:] == found["end"][:-1]
        assert (found["categories"][1:][touching] != found["categories"][:-1][touching]).all()
        (inside,) = found[(found["start"] <= made.start) & (found["end"] >= made.end)]
        assert Category(int(inside["categories"])) & (PRESENT | FILE) == PRESENT


def test_what_the_kernel_does_not_know_is_said():
    with fpm.PageMap() as pm:
        with pytest.raises(fpm.UnsupportedError, match="1024"):
            pm.regions(mask=1 << 10)
        if not soft_dirty():
            with pytest.raises(fpm.UnsupportedError, match="soft-dirty"):
                pm.regions(returns=Category.SOFT_DIRTY)


def test_bad_addresses():
    with fpm.PageMap() as pm:
        with pytest.raises(ValueError, match="not aligned"):
            pm.regions(1)
        with pytest.raises(ValueError, match="below"):
            pm.regions(PAGE, 0)
        assert len(pm.regions(0, 0)) == 0
        assert len(pm.regions(2**64 - PAGE, 2**64)) == 0


@pytest.mark.parametrize("wrong", [1.5, np.float64(PRESENT), "8", b"8", [8]])
@pytest.mark.parametrize("name", ["mask", "anyof", "inverted", "returns"])
def test_categories_are_integers(name, wrong):
    """A number with a fraction was rounded, and asked something else."""
    with memory.touched(4) as made, fpm.PageMap() as pm, pytest.raises(TypeError, match="integer"):
        pm.regions(made.start, made.end, **{name: wrong})


def test_flags_go_with_uint64():
    categories = np.array([PRESENT | FILE, SWAPPED], np.uint64)
    assert ((categories & PRESENT) != 0).tolist() == [True, False]
