"""Objects with memory in place of addresses: the masks of the pages that they lie on."""

import os

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import oracle
import tracked
from compare import while_still
from features import keeps_soft_dirty
from linux import PAGE
from needs import Absent, need, refusal

PAGES = 24
METHODS = [
    "present",
    "swapped",
    "shared",
    "exclusive",
    "unknown",
    "cached",
    "nodes",
    "masks",
    "read",
]
METHODS += ["regions", "huge", "zero", "soft_dirty", "mapcounts", "folios"]


@pytest.fixture(scope="module")
def striped():
    """Memory of which every third page is present."""
    with memory.sparse(PAGES) as made:
        yield made


def content(answer):
    """What was answered, as an array or arrays, without what the kernel changes by itself."""
    if isinstance(answer, fpm.Masks):
        return [answer.start, answer.end, answer.swapped, answer.shared, answer.unknown]
    if isinstance(answer, np.ndarray) and answer.dtype == fpm.FOLIO_DTYPE:
        # of the flags, LRU alone is set late: a new page waits in a list of its processor's
        return answer[["start", "end", "pfn", "order"]]
    return answer.entries if isinstance(answer, fpm.Pages) else answer


@pytest.mark.parametrize("method", METHODS)
def test_an_object_in_place_of_addresses(striped, method):
    """The pages that it lies on, whatever it is: the same as for their addresses."""
    values = tracked.array(striped)[PAGE + 5 : 9 * PAGE + 5]
    with fpm.PageMap() as pm:
        ask = getattr(pm, method)

        def look():
            expected = content(ask(striped.at(1), striped.at(10)))
            for owner in (values, memoryview(values), values[::-7]):
                np.testing.assert_equal(content(ask(owner)), expected)

        try:
            # root sees frames, and the kernel moves pages when it makes room for huge ones
            while_still(look, lambda: oracle.words(striped.start, striped.end))
        except (fpm.UnsupportedError, PermissionError) as error:
            raise refusal(error, f"PageMap.{method}") from error


def test_out(striped):
    values, out = tracked.array(striped), np.empty(PAGES, bool)
    with fpm.PageMap() as pm:
        assert pm.present(values, out=out) is out
    assert out.tolist() == [page % 3 == 0 for page in range(PAGES)]


def test_states(striped):
    values = tracked.array(striped)[2 * PAGE : 9 * PAGE]
    with fpm.PageMap() as pm:
        runs = pm.states(values)
        # untouched pages may be soft-dirty
        present = runs[runs["state"] & fpm.State.PRESENT != 0]
        assert present["start"].tolist() == [striped.at(3), striped.at(6)]
        assert not len(pm.states(values[:0]))


@pytest.mark.usefixtures("_write_tracking")
def test_write_tracker(striped):
    values = tracked.array(striped)
    with fpm.WriteTracker(values) as tracker:
        assert (tracker.start, tracker.end) == (striped.start, striped.end)
        striped.write(5, 6)
        assert np.flatnonzero(tracker.written()).tolist() == [5]


@pytest.mark.root
def test_sharers(striped):
    with fpm.Group([os.getpid()]) as group:
        told = group.sharers(os.getpid(), tracked.array(striped))
        assert told.tolist() == group.sharers(os.getpid(), striped.start, striped.end).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_neither_or_both(method, striped):
    if method == "soft_dirty":
        need(keeps_soft_dirty(), "soft-dirty bits", Absent)
    values = tracked.array(striped)
    with fpm.PageMap() as pm:
        ask = getattr(pm, method)
        with pytest.raises(TypeError, match="give start and end, or one object with memory alone"):
            ask(values, striped.end)
        for nothing in ("text", None, [1, 2], object()):
            with pytest.raises(TypeError, match="has no memory to ask about"):
                ask(nothing)
        if method not in ("regions", "folios"):  # there an address alone goes on to the last one
            for start in (striped.start, np.uint64(striped.start)):
                with pytest.raises(TypeError, match=f"start {striped.start:#x} has no end: give"):
                    ask(start)
            with pytest.raises(TypeError, match="start"):
                ask()


def test_of_another_process(victim):
    """What has memory has it here: at its addresses there, anything else may be."""
    values = np.ones(1000)
    with fpm.PageMap(victim.pid) as pm:
        for ask in (pm.present, pm.regions, pm.states):
            with pytest.raises(ValueError, match=f"not process {victim.pid}'s; for what a"):
                ask(values)
        pm.present(*fpm.span(values))
    with (
        fpm.Group([os.getpid(), victim.pid]) as group,
        pytest.raises(ValueError, match=f"not process {victim.pid}'s"),
    ):
        group.sharers(victim.pid, values)
