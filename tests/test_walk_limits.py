"""What the walk and its sinks refuse, and what they do with a kernel that does not do its part."""

import errno

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
import seccomp
from fastpagemap._kernel.plan import Plan
from fastpagemap._kernel.sinks import Sink
from fastpagemap._kernel.walk import walk
from fastpagemap.process.probes import categories
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need

PRESENT = (1, 1)


def segments(*spans):
    starts, ends = np.array(spans, np.uint64).T.copy()
    return starts, ends, np.zeros(len(spans), np.uint8)


def test_more_kinds_of_pages_to_verify_than_fit():
    with pytest.raises(ValueError, match="5 kinds of pages to verify: at most 4"):
        Plan(scan=True, anyof=8, returns=8, verified=((8, 8),) * 5)


def test_more_questions_than_fit():
    with pytest.raises(ValueError, match="17 questions: at most 16"):
        Sink((PRESENT,) * 17)


def test_masks_of_different_lengths():
    with pytest.raises(ValueError, match="a mask of 5 bytes beside one of 4"):
        Sink((PRESENT,) * 2, 0, (np.zeros(4, np.uint8), np.zeros(5, np.uint8)))


def test_counts_for_other_questions():
    process = Process()
    before = (process.pagemap, -1, process.path, *segments((PAGE, 2 * PAGE)))
    rows = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="counts of 3 rows for 1 questions"):
        walk(*before, (Plan(scan=False),), Sink((PRESENT,)), rows, np.zeros((3, 1), np.uint64))


def asked_without_progress(start, end):
    """What is told where PAGEMAP_SCAN says that it has done, and has not."""
    seccomp.scan_without_progress()
    with fpm.PageMap() as pm:
        with pytest.raises(OSError, match="Input/output error") as caught:
            pm.regions(start, end)
        return caught.value.errno, pm.present(start, end), pm.read(start, end).present


def test_a_scan_that_makes_no_progress():
    """No page is left out: entries tell, and where they cannot there is an error."""
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)
    with memory.touched(5000, 3) as made:
        number, *masks = runas.in_child(asked_without_progress, made.start, made.end)
    assert number == errno.EIO
    for mask in masks:
        assert mask.tolist() == [page % 3 == 0 for page in range(5000)]


@pytest.mark.parametrize("pages", [511, 512, 513, 4096, 4097, 40_000])
def test_a_hole_at_either_end(pages):
    """What is skipped as a whole, read as a batch, and where the one becomes the other."""
    with memory.untouched(3 * pages) as made, fpm.PageMap() as pm:
        made.write(pages, 2 * pages)
        expected = [pages <= page < 2 * pages for page in range(3 * pages)]
        assert pm.present(made.start, made.end).tolist() == expected
        (row,) = pm.usage([m for m in pm.mappings() if m.start == made.start])
        assert row["present"] == row["exclusive"] == pages * PAGE
        runs = pm.states([m for m in pm.mappings() if m.start == made.start])
        whole = runs[(runs["state"] & fpm.State.PRESENT) != 0]
        assert whole[["start", "end"]].tolist() == [(made.at(pages), made.at(2 * pages))]


def test_parts_of_huge_pages():
    """Spans that begin and end within huge pages are told to be of them."""
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)
    each = memory.huge_page_pages()
    with memory.huge(4 * each) as made, fpm.PageMap() as pm:
        (mapping,) = [m for m in pm.mappings() if m.start <= made.start < m.end]
        for first, last in ((0, 3), (5, each), (each - 1, each + 1), (7, 3 * each + 9)):
            part = mapping._replace(start=made.at(first), end=made.at(last))
            (row,) = pm.usage([part])
            assert row["huge"] == row["present"] == row["exclusive"] == (last - first) * PAGE
            (run,) = pm.states([part])
            assert run["state"] & fpm.State.HUGE
            assert (run["start"], run["end"]) == (part.start, part.end)


def test_what_no_page_table_tells_is_not_looked_for():
    """Of terabytes reserved, where anything is swapped: the file alone would know."""
    mask = np.ones(1024, np.uint8)
    with open("/dev/zero", "rb") as file:  # which cannot be scanned
        before = (file.fileno(), -1, "", *segments((0, len(mask) * PAGE)))
        walk(*before, (Plan(scan=True),), Sink((PRESENT,), 0, (mask,)))
    assert not mask.any()
