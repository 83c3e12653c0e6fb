"""How often pages are mapped."""

import mmap
import os

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import hugetlb
import linux
import memory
import oracle_frames
import runas
from compare import while_still
from linux import PAGE
from victim import Victim


def counts(made):
    """What PageMap says, after it was compared with the slow twin."""

    def twin():
        pfns = oracle_frames.pfns(made.start, made.end)
        slow = oracle_frames.values("kpagecount", pfns)
        return pfns, [count if pfn else 0 for pfn, count in zip(pfns, slow, strict=True)]

    # the kernel moves pages to other frames when it makes room for huge ones
    with fpm.PageMap() as pm:
        (_, wanted), found = while_still(lambda: pm.mapcounts(made.start, made.end), twin)
    assert found.dtype == np.uint32
    assert found.tolist() == wanted
    return found


@pytest.mark.root
@pytest.mark.parametrize("kind", ["touched", "sparse", "untouched", "zero", "gap", "guarded"])
def test_small_pages(kind):
    with getattr(memory, kind)(1500) as made:
        found = counts(made)
        with fpm.PageMap() as pm:
            present = pm.present(made.start, made.end)
    assert (found == (0 if kind == "zero" else present)).all()


@pytest.mark.root
def test_huge_pages_and_parts_of_them():
    with memory.huge(1024) as made:
        half = memory.huge_page_pages() // 2
        assert (counts(made) == 1).all()
        made.drop(half, 2 * half)
        found = counts(made)
        assert (found[half : 2 * half] == 0).all()
        assert (found[:half] == 1).all()
    with memory.huge_zero(1024) as made:
        assert (counts(made) == 0).all()
    with hugetlb.hugetlb(512) as made:
        assert (counts(made) == 1).all()


@pytest.mark.root
def test_mapped_twice_and_by_a_child():
    with backed.memfd(60) as made:
        made.write()
        with backed.mapped(os.dup(made.fd), 60) as again:
            again.write(0, 20)  # reading maps neighbours, too
            assert counts(made).tolist() == [2] * 20 + [1] * 40
    with memory.touched(30) as made:

        def child():
            made.write(0, 10)
            return counts(made).tolist()

        assert runas.in_child(child) == [1] * 10 + [2] * 20


@pytest.mark.root
def test_merged_pages():
    with memory.merged(200) as made:
        assert (counts(made) == 200).all()


@pytest.mark.root
def test_out_and_another_process():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("sparse", 300)
        start, end = span.start, span.end
        out = np.full((end - start) // PAGE, 7, np.uint32)
        assert pm.mapcounts(start, end, out=out) is out
        assert ((out > 0) == pm.present(start, end)).all()
        nodes = np.full(len(out), 7, np.int16)
        assert pm.nodes(start, end, out=nodes) is nodes
        assert ((nodes >= 0) == pm.present(start, end)).all()
        victim.close()
        for ask in (pm.mapcounts, pm.nodes, pm.folios):
            with pytest.raises(ProcessLookupError):
                ask(start, end)


@pytest.mark.root
def test_a_hole_of_terabytes():
    """It costs nothing but the result, of which no page is touched."""
    size = 1 << 36
    with (
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | linux.MAP_NORESERVE) as hole,
        fpm.PageMap() as pm,
    ):
        start, end = fpm.span(hole)
        hole[size // 2] = 1
        before = pm.usage(fields=["present"])["present"].sum()
        found = pm.mapcounts(start, end)
        assert pm.usage(fields=["present"])["present"].sum() - before < 1 << 24
        assert found[size // 2 // PAGE] >= 1


@pytest.mark.root
def test_frame_numbers_are_hidden():
    """/proc/kpagecount is open to this user, and frames are not."""

    def ask():
        with memory.touched(9) as made, fpm.PageMap() as pm:
            for question in (pm.mapcounts, pm.folios):
                with pytest.raises(PermissionError, match=r"hidden.*CAP_SYS_ADMIN"):
                    question(made.start, made.end)

    runas.run_as(ask, capabilities=[2])

    def refused():
        with fpm.PageMap() as pm:
            for question in (pm.mapcounts, pm.folios):
                with pytest.raises(PermissionError, match="CAP_DAC_READ_SEARCH"):
                    question(0, PAGE)

    runas.as_nobody(refused)
