"""Shared memory in swap when nothing but the sum in smaps is to be had: proved, or unknown."""

import contextlib
import os
import sys

import pytest

import backed
import fastpagemap as fpm
import marked
import memory
import oracle
import oracle_files
import reclaim
import runas
import sharing
import swap
from compare import Said, ask, honest
from fastpagemap.engine import shmem_sums as sums
from linux import PAGE
from needs import Absent, need
from painted import all_unknown, ask_as, ask_painted
from sharing import MIXED, expected

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
ALL, NONE = sharing.extremes(PAGES)
NO_FILE = ["shared_anonymous", "sysv", "memfd", "memfd_private", "in_part"]


@pytest.mark.parametrize("kind", NO_FILE)
def test_none(kind):
    with sharing.KINDS[kind](PAGES) as made:
        said = ask_painted(made, NONE)
    assert said == Said(expected(NONE), [False] * PAGES)


@pytest.mark.parametrize("kind", ["shared_anonymous", "sysv"])
def test_all(kind):
    """The sum is that of 64 pages, none of which a huge page can cross the edge of."""
    layout = "S" * 64
    with sharing.KINDS[kind](64) as made:
        said = ask_painted(made, layout)
    assert said == Said(expected(layout), [False] * 64)


@pytest.mark.parametrize("kind", ["memfd", "memfd_private", "in_part"])
def test_all_pages_in_swap_may_be_other_pages(kind):
    """A memfd may have pages beyond its end, a private mapping its own: the sum has these, too."""
    with sharing.KINDS[kind](PAGES) as made:
        honest(ask_painted(made, ALL), expected(ALL))


@pytest.mark.parametrize(
    "layout", [MIXED, ALL[1:] + ".", NONE[1:] + "S"], ids=["mixed", "most", "1"]
)
@pytest.mark.parametrize("kind", NO_FILE)
def test_some_is_unknown(kind, layout):
    with sharing.KINDS[kind](PAGES) as made:
        assert all_unknown(ask_painted(made, layout), layout)


@pytest.mark.parametrize("layout", [ALL, NONE, MIXED], ids=["all", "none", "mixed"])
def test_pages_of_a_private_mappings_own_are_told_all_the_same(layout):
    own, layout = "oO.." * (PAGES // 4), layout.replace("P", "C")
    with backed.memfd_private(PAGES) as made:
        said = ask_painted(made, layout, own)
    honest(said, expected(layout, own))
    assert not any(u and o in "oO" for u, o in zip(said.unknown, own, strict=False))
    # the child shares its own pages in swap with its parent: the sums do not tell them apart
    assert any(said.unknown)


@pytest.mark.parametrize("layout", [ALL, MIXED, ALL[2:] + ".."], ids=["all", "mixed", "most"])
@pytest.mark.parametrize("own", ["oO", "O" * 9, "o" * 9])
def test_smaps_counts_a_read_only_mapping_twice(layout, own):
    """Its sum has the pages under the mapping's own, so it says nothing of how many are all."""
    layout = layout.replace("P", "C")
    with backed.memfd_private(PAGES) as made:

        def read_only(made):
            made.protect(memory.READ)
            try:
                return ask_as(made)
            finally:
                made.protect(memory.READ_WRITE)

        honest(ask_painted(made, layout, own, look=read_only), expected(layout, own))


def test_a_sum_is_not_taken_for_other_pages():
    """The entries are read first, the sum later: what came in between was not in swap."""

    def answer(made):
        with fpm.PageMap() as pm:
            pages = pm.read(made.start, made.end)
            made.read(PAGES // 2, PAGES)
            return Said(pages.swapped.tolist(), pages.unknown.tolist())

    layout = "S" * (PAGES // 2) + "C" * (PAGES - PAGES // 2)
    with backed.shared_anonymous(PAGES) as made:
        said = ask_painted(made, layout, look=lambda made: runas.as_nobody(answer, made))
    honest(said, expected(layout))


@pytest.mark.parametrize("kind", ["shared_anonymous", "memfd_private"])
def test_markers_do_not_spoil_the_sum(kind):
    """Nobody cannot tell a marker from swap: the sum less the markers is no count of anything."""

    def answer(made):
        marked.mark(made, 4, 6)
        sharing.hide(made)
        with fpm.PageMap() as pm:
            return ask(pm, made.start, made.end)

    layout = "SS" + "." * (PAGES - 2)
    with sharing.KINDS[kind](PAGES) as made:
        said = ask_painted(made, layout, look=lambda made: runas.as_nobody(answer, made))
    assert all(s or u for s, u in zip(said.swapped[:2], said.unknown, strict=False))


@pytest.mark.parametrize("options", [None, "huge=never"])
def test_a_huge_entry_cut_by_the_mapping(options):
    """Of which smaps counts the whole: the sum is that of all pages, though not all are.

    It stays one entry when the file system is told to make no more huge pages.
    """
    each = memory.huge_page_pages()
    with (
        sharing.huge_in_swap([True, False]) as whole,
        backed.mapped(os.dup(whole.fd), each, offset=1) as part,
    ):
        if options:
            sharing.remount(whole.fd, options)
        real = oracle_files.swapped(part.start, part.end)
        assert real == [True] * (each - 1) + [False]
        assert oracle.smaps()[part.start, part.end]["Swap"] == each * PAGE
        honest(ask_as(part, before=lambda: sharing.hide(whole)), real)


def test_a_huge_entry_counts_again_for_each_page():
    """A private mapping that lacks one page of it counts it whole."""
    each = memory.huge_page_pages()
    with (
        sharing.huge_in_swap([True, False]) as whole,
        backed.mapped(os.dup(whole.fd), 2 * each, backed.FILE_PRIVATE) as private,
    ):
        whole.read(0, each)
        private.write(0, each - 1)
        private.drop(each - 1, each)
        swap.pageout(whole.start, whole.at(each))
        private.drop(each - 1, each)
        lacking = [not word for word in oracle.words(private.start, private.end)]
        sum_ = oracle.smaps()[private.start, private.end]["Swap"] // PAGE
        need(sum_ == each, "huge pages in swap again", Absent)
        # as many pages as the sum has: all others get a copy of the hole's zeros
        private.write(private.pages - (sum(lacking) - sum_))
        real = oracle_files.swapped(private.start, private.end)
        honest(ask_as(private, before=lambda: sharing.hide(whole)), real)


def test_pages_beyond_the_end_of_the_file():
    """The sum of a mapping of the whole file has them."""

    def answer():
        sparse = backed.mapped(backed.sized_memfd(PAGES), PAGES)
        with reclaim.group() as send_out, sparse as made:
            made.write(0, 1)
            sharing.allocate(made.fd, PAGES, 2 * PAGES - 1)
            send_out()
            made.read(0, 1)
            real = oracle_files.swapped(made.start, made.end)
            sum_ = oracle.smaps()[made.start, made.end]["Swap"] // PAGE
            need(sum_ == PAGES - 1, "pages beyond the end of a file in swap", Absent)
            return real, ask_as(made, before=lambda: made.read(0, 1))

    real, said = runas.in_child(answer)
    assert not any(real)
    honest(said, real)


# ---- usage ---------------------------------------------------------------------------------------


def usage_of(made, layout, part=slice(None)):
    """What usage() tells nobody of some pages of a painted memory, in pages; and smaps' sum."""

    def answer():
        sharing.hide(made)
        with fpm.PageMap() as pm:
            (mapping,) = (m for m in pm.mappings() if m.start == made.start)
            start, stop, _ = part.indices(made.pages)
            asked = [mapping._replace(start=made.at(start), end=made.at(stop))]
            row = pm.usage(asked)[0]
            assert pm.usage(asked, fields=["swapped"])["swapped"] == row["swapped"]
        sum_ = oracle.smaps()[made.start, made.end]["Swap"]
        return {name: int(row[name]) // PAGE for name in row.dtype.names}, sum_ // PAGE

    sharing.paint(made, layout)
    return runas.as_nobody(answer)


@pytest.mark.parametrize("kind", ["shared_anonymous", "sysv"])
@pytest.mark.parametrize("layout", ["S" * 40 + "." * 24, "SC" * 32, "S" * 64], ids=len)
def test_usage_takes_the_sum(kind, layout):
    with sharing.KINDS[kind](64) as made:
        row, sum_ = usage_of(made, layout)
    assert (row["swapped"], row["swapped_shared"], row["unknown"]) == (sum_, sum_, 0)
    assert sum_ == layout.count("S")


@pytest.mark.parametrize("kind", ["memfd", "memfd_private", "in_part"])
def test_usage_takes_no_sum_that_may_be_of_other_pages(kind):
    with sharing.KINDS[kind](64) as made:
        row, sum_ = usage_of(made, "S" * 40 + "." * 24)
    assert sum_ == 40
    # Linux 6.11 and older swap no huge page out as one entry: there the edges are no doubt
    proved = [(40, 0)] * (kind == "in_part" and not sums._may_be_huge())
    assert (row["swapped"], row["unknown"]) in [(0, 64), *proved]


def test_usage_takes_no_sum_for_a_part_of_a_mapping():
    with backed.shared_anonymous(64) as made:
        row, _ = usage_of(made, "S" * 64, slice(48))
        assert (row["swapped"], row["unknown"]) == (48, 0)  # all pages are
        row, _ = usage_of(made, "S." * 32, slice(48))
        assert (row["swapped"], row["unknown"]) == (0, 48)


def test_smaps_is_read_twice_however_many_mappings_there_are():
    """Once for all sums, and once to see that they still hold."""

    def answer():
        opened = []
        sys.addaudithook(
            lambda event, arguments: opened.append(arguments[0]) if event == "open" else None
        )
        for made in several:
            sharing.hide(made)
        with fpm.PageMap() as pm:
            pm.usage([m for m in pm.mappings() if m.start in {made.start for made in several}])
        return opened.count("smaps")

    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(backed.shared_anonymous(64)) for _ in range(20)]
        for made in several:
            sharing.paint(made, "S" * 64)
        assert runas.as_nobody(answer) == 2
