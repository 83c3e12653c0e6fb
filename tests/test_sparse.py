"""Memory that is reserved and not there costs next to nothing, and what is in it is told right."""

import contextlib
import itertools
import os
import time

import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import runas
import sharing
import swap
from features import has_cachestat
from linux import PAGE
from needs import Absent, need

pytestmark = pytest.mark.usefixtures("any_swap")

TIB_PAGES = (1 << 40) // PAGE
#: A file of 8 GiB, and what is there: far apart, close together, on both sides of an edge.
PAGES = 1 << 21
PLACES = [0, 1, 511, 512, 5000, 32768, 32770, 40000, 1 << 20, (1 << 20) + 1, PAGES - 2, PAGES - 1]
#: Of processor time. What is looked at page by page takes minutes.
MAX_SECONDS = 5


@pytest.fixture
def _some_in_swap():
    """Only then is anything looked up."""
    with memory.touched(100) as made:
        swap.pageout(made.start, made.end)
        yield


def paint(made, letters):
    """Bring the pages at PLACES into the states of `letters`: as in `sharing`, and O and o."""
    by_letter = {letter: [] for letter in "SPCOo"}
    for place, letter in zip(PLACES, letters, strict=True):
        by_letter[letter].append(place)
    for page in by_letter["S"]:
        sharing.send_to_swap(made.fd, page, "S")
    for page in by_letter["P"]:
        os.pwrite(made.fd, b"p" * PAGE, page * PAGE)
        made.read(page, page + 1)
    for page in by_letter["O"] + by_letter["o"]:
        made.write(page, page + 1)
    for page in by_letter["O"]:
        swap.pageout(made.at(page), made.at(page + 1))
    for page in by_letter["C"]:
        os.pwrite(made.fd, b"p" * PAGE, page * PAGE)


def pages_of(runs, made, state):
    """The pages of the runs that have a state."""
    runs = runs[(runs["state"] & state) != 0]
    first, last = ((runs[name] - made.start) // PAGE for name in ("start", "end"))
    return [page for run in zip(first, last, strict=True) for page in range(*map(int, run))]


SHARED, PRIVATE = backed.FILE_SHARED, backed.FILE_PRIVATE
LAYOUTS = [*itertools.product([SHARED, PRIVATE], ["SPCSSSCSSCSP", "S" * 12, "CCSPPPPPPPPS"])]


@pytest.mark.root
@pytest.mark.parametrize(("flags", "letters"), [*LAYOUTS, (PRIVATE, "oOSoOCSPoOSO")])
def test_what_is_there_is_told(flags, letters):
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    there = dict(zip(PLACES, letters, strict=True))
    swapped = [page for page in PLACES if there[page] in "SO"]
    in_file = [page for page in PLACES if there[page] == "S"]
    present = [page for page in PLACES if there[page] in "Po"]
    with backed.mapped(backed.sized_memfd(PAGES), PAGES, flags) as made, fpm.PageMap() as pm:
        paint(made, letters)
        mappings = [m for m in pm.mappings() if m.start == made.start]
        for runs in (pm.states(mappings), pm.snapshot().states):
            inside = runs[(runs["start"] >= made.start) & (runs["end"] <= made.end)]
            assert pages_of(inside, made, fpm.State.SWAPPED) == swapped
            assert pages_of(inside, made, fpm.State.SWAPPED_SHARED) == in_file
            assert pages_of(inside, made, fpm.State.PRESENT) == present
            assert pages_of(inside, made, fpm.State.UNKNOWN) == []
        for mask in (pm.swapped(*span(made)), pm.masks(*span(made)).swapped):
            assert mask.nonzero()[0].tolist() == swapped
        row = pm.usage(mappings)[0]
        counts = [int(row[name]) // PAGE for name in ("swapped", "swapped_shared", "present")]
        assert counts == [len(swapped), len(in_file), len(present)]
        each = pm.residency([made.at(page) for page in PLACES], [PAGE] * len(PLACES))
        assert each["swapped"].tolist() == [PAGE * (there[page] in "SO") for page in PLACES]
        whole = pm.residency([made.start, made.at(1)], [PAGES * PAGE, (PAGES - 2) * PAGE])
        assert whole["swapped"].tolist() == [
            PAGE * len(swapped),
            PAGE * len([page for page in swapped if 0 < page < PAGES - 1]),
        ]
        assert whole["present"][0] == PAGE * len(present)


def span(made):
    return made.start, made.end


# ---- what is reserved ----------------------------------------------------------------------------


def question(name, pm, start, end):
    """Ask what there is of a span."""
    if name == "residency":
        return pm.residency([start], [end - start])
    if name == "regions":
        return pm.regions(start, end)
    if name == "usage":
        return pm.usage([m for m in pm.mappings() if start <= m.start and m.end <= end])
    return getattr(pm, name)()


def seconds(made):
    """The processor time of each question about memories, asked without their file."""
    took = {}
    for each in made:
        sharing.hide(each)
    start, end = min(each.start for each in made), max(each.end for each in made)
    for name in ("usage", "states", "snapshot", "residency", "regions"):
        with fpm.PageMap() as pm:
            began = time.process_time()
            question(name, pm, start, end)
            took[name] = time.process_time() - began
    return took


ROOT_AND_NOBODY = pytest.mark.parametrize("ask", [runas.in_child, runas.as_nobody])


@ROOT_AND_NOBODY
@pytest.mark.usefixtures("_some_in_swap")
def test_eighty_tebibytes_of_an_empty_file(ask):
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    with many_times(backed.sized_memfd(8 * TIB_PAGES), 8 * TIB_PAGES, 10) as made:
        took = ask(seconds, made)
    assert max(took.values()) < MAX_SECONDS, took


@ROOT_AND_NOBODY
@pytest.mark.usefixtures("_some_in_swap")
def test_a_sparse_file_mapped_many_times(ask):
    """32 MiB of memory, and page tables for none of it."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    fd = backed.sized_memfd(TIB_PAGES)
    for offset in range(0, TIB_PAGES * PAGE, 128 << 20):
        os.pwrite(fd, b"x", offset)
    with many_times(fd, TIB_PAGES, 80) as made:
        took = ask(seconds, made)
    assert max(took.values()) < MAX_SECONDS, took


@contextlib.contextmanager
def many_times(fd, pages, times):
    """Map a file several times; its descriptor is closed at the end."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        yield [stack.enter_context(backed.mapped(os.dup(fd), pages)) for _ in range(times)]


@pytest.mark.usefixtures("_some_in_swap")
def test_pages_far_apart():
    """Anonymous ones, each with a page table of its own."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    with memory.Memory(TIB_PAGES, memory.PRIVATE | linux.MAP_NORESERVE) as made:
        for page in range(0, TIB_PAGES, TIB_PAGES >> 13):
            made.write(page, page + 1)
        took = seconds([made])
        row = fpm.PageMap().residency([made.start], [made.end - made.start])
    assert row["present"][0] == PAGE << 13
    assert max(took.values()) < MAX_SECONDS, took


@pytest.mark.root
def test_unknown_pages_of_a_large_mapping():
    """A page is in swap: nobody, without the file, cannot know which of eight tebibytes it is."""

    def ask():
        sharing.hide(made)
        with fpm.PageMap() as pm:
            rows = pm.residency([made.start, made.start + 5], [made.end - made.start, PAGE << 20])
        return rows["unknown"].tolist()

    pages = 8 * TIB_PAGES
    with backed.mapped(backed.sized_memfd(pages), pages) as made:
        sharing.send_to_swap(made.fd, 7, "S")
        assert runas.as_nobody(ask) == [pages * PAGE, PAGE << 20]
