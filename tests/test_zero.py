"""The masks zero and huge, and usage's column, against frames, smaps and what was made."""

import mmap
import os
import tempfile

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import hugetlb
import memory
import oracle
import runas
import seccomp
import uffd
from linux import PAGE
from needs import Absent, need

PAGES = 700


def scans():
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)


def said(start, end, name):
    """A mask, which states, snapshots and usage have to agree with."""
    scans()
    with fpm.PageMap() as pm:
        mask = getattr(pm, name)(start, end)
        assert getattr(pm, name)(start, end, out=np.ones_like(mask)).tolist() == mask.tolist()
        rows = [m for m in pm.mappings() if start <= m.start and m.end <= end]
        if sum(m.end - m.start for m in rows) == end - start:
            for fields in (None, [name], [name, "exclusive"], ["shared", name]):
                assert pm.usage(rows, fields=fields)[name].sum() == mask.sum() * PAGE, fields
            taken = pm.snapshot()
            here = [start <= m.start and m.end <= end for m in taken.mappings]
            assert taken.usage(fields=[name])[name][here].sum() == mask.sum() * PAGE
    return mask.tolist()


@pytest.mark.parametrize("pages", [37, PAGES, 5000])
@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize("ask", [runas.in_child, runas.as_nobody])
def test_pages_that_were_only_read(pages, step, ask):
    def look():
        with memory.zero(pages) as made:
            made.drop(5, 20)
            made.write(20, pages, step)
            return said(made.start, made.end, "zero"), said(made.at(3), made.at(30), "zero")

    truth = [page < 5 or (page >= 20 and (page - 20) % step != 0) for page in range(pages)]
    assert ask(look) == (truth, truth[3:30])


@pytest.mark.root
def test_as_the_frames_say(zero_pfn):
    with memory.zero(PAGES) as made:
        made.write(step=3)
        frames = [oracle.decode(word).pfn for word in oracle.words(made.start, made.end)]
        assert said(made.start, made.end, "zero") == [frame == zero_pfn for frame in frames]


def test_filled_by_userfaultfd():
    with uffd.zero_filled(PAGES) as made:
        assert said(made.start, made.end, "zero") == [page % 2 == 0 for page in range(PAGES)]


@pytest.mark.parametrize("ask", [runas.in_child, runas.as_nobody])
def test_huge_pages_and_the_huge_zero_page(ask):
    each = memory.huge_page_pages()

    def look():
        with memory.huge_zero(4 * each) as made:
            made.write(each, each + 1)  # a huge page, or a small one beside the zero page
            made.advise(mmap.MADV_NOHUGEPAGE)  # khugepaged makes huge pages of small ones
            present = [fpm.PageMap().present(made.start, made.end).all()]
            spans = [(0, 4 * each), (each - 3, 3 * each + 5), (7, 20)]
            zero, huge = (
                [said(made.at(low), made.at(high), name) for low, high in spans]
                for name in ("zero", "huge")
            )
        assert all(present)
        return spans, zero, huge

    spans, zero, huge = ask(look)
    for (low, high), zeros, huges in zip(spans, zero, huge, strict=True):
        assert zeros == zero[0][low:high]
        assert huges == huge[0][low:high]
    assert all(zero[0][:each])
    assert all(zero[0][2 * each :])
    assert not any(huge[0][:each])
    assert not any(huge[0][2 * each :])
    assert not any(a and b for a, b in zip(zero[0], huge[0], strict=True))


def test_huge_pages_as_smaps_says():
    with memory.huge(2000) as made:
        assert all(said(made.start, made.end, "huge"))
        assert said(made.at(3), made.at(9), "huge") == [True] * 6
        sums = oracle.smaps()[made.start, made.end]
        assert sums["AnonHugePages"] == made.end - made.start
        assert not any(said(made.start, made.end, "zero"))


@pytest.mark.root
@pytest.mark.parametrize("kind", ["hugetlb", "hugetlb_shared"])
def test_hugetlb(kind):
    with getattr(hugetlb, kind)(1) as made:
        present = fpm.PageMap().present(made.start, made.end).tolist()
        assert said(made.start, made.end, "huge") == present
        assert not any(said(made.start, made.end, "zero"))


@pytest.mark.parametrize("flags", [backed.FILE_SHARED, backed.FILE_PRIVATE])
def test_files(flags):
    """/dev/zero, mapped privately, is the zero page; holes of files are pages of their own."""
    with memory.Memory(PAGES, flags, fd=os.open("/dev/zero", os.O_RDWR)) as made:
        made.read()
        assert said(made.start, made.end, "zero") == [flags == mmap.MAP_PRIVATE] * PAGES
    with tempfile.TemporaryFile(dir=backed.disk_directory()) as file:
        file.truncate(PAGES * PAGE)
        with backed.mapped(os.dup(file.fileno()), PAGES, flags) as made:
            made.read()
            assert not any(said(made.start, made.end, "zero"))
    with backed.mapped(backed.sized_memfd(PAGES), PAGES, flags) as made:
        made.read()
        assert not any(said(made.start, made.end, "zero"))


@pytest.mark.parametrize("name", ["zero", "huge"])
def test_without_scans(name):
    def look():
        seccomp.without_scan()
        with memory.zero(8) as made, fpm.PageMap() as pm:
            with pytest.raises(fpm.UnsupportedError, match="PAGEMAP_SCAN"):
                getattr(pm, name)(made.start, made.end)
            with pytest.raises(fpm.UnsupportedError, match="PAGEMAP_SCAN"):
                pm.usage(fields=[name])
            assert name not in pm.usage().dtype.names

    runas.in_child(look)


@pytest.mark.parametrize("name", ["zero", "huge"])
def test_a_scan_that_is_forbidden_later(name):
    """Never all False: what is refused in the middle of a process's life is refused."""

    def look():
        with memory.zero(PAGES) as made, fpm.PageMap() as pm:
            assert getattr(pm, name)(made.start, made.end).all() == (name == "zero")
            seccomp._refuse_ioctl(seccomp._PAGEMAP_SCAN)
            with pytest.raises(fpm.UnsupportedError, match="PAGEMAP_SCAN"):
                getattr(pm, name)(made.start, made.end)

    scans()
    runas.in_child(look)
