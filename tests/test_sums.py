"""Shared memory in swap when nothing but the sum in smaps is to be had: all, none, or unknown."""

import os

import pytest

import backed
import fastpagemap as fpm
import marked
import memory
import oracle_files
import runas
import sharing
from compare import Said, ask, honest
from painted import all_unknown, ask_as, ask_painted
from sharing import MIXED, expected

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = len(MIXED)
ALL, NONE = sharing.extremes(PAGES)
NO_FILE = ["shared_anonymous", "sysv", "memfd", "memfd_private", "in_part"]


@pytest.mark.parametrize("layout", [ALL, NONE, ALL[:-3] + "PPP"], ids=["all", "none", "rest"])
@pytest.mark.parametrize("kind", NO_FILE)
def test_all_or_nothing(kind, layout):
    present = PAGES - layout.count("P")

    def read_the_rest():
        if layout[-1] == "P":
            made.read(present)

    with sharing.KINDS[kind](PAGES) as made:
        said = ask_painted(made, layout, before=read_the_rest)
    assert said == Said(expected(layout), [False] * PAGES)


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
    # to nobody its own pages in swap look like markers do: the sum less those is no count
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


def test_a_huge_entry_cut_by_the_mapping():
    """Of which smaps counts the whole: the sum may be that of all pages, though not all are."""
    each = memory.huge_page_pages()
    with (
        sharing.huge_in_swap([True, False]) as whole,
        backed.mapped(os.dup(whole.fd), each, offset=each // 2) as part,
    ):
        real = oracle_files.swapped(part.start, part.end)
        assert real == [True] * (each // 2) + [False] * (each // 2)
        honest(ask_as(part, before=lambda: sharing.hide(whole)), real)
