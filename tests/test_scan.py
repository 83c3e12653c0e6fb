"""The scan engine against the entries: the same answers, bit for bit, however it gets them."""

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastpagemap as fpm
import kinds
import linux
import memory
import steps
from compare import check
from fastpagemap._kernel import reading, scan
from fastpagemap.engine import plans
from fastpagemap.process.capabilities import categories
from linux import PAGE
from needs import Absent, need
from victim import Victim

PAGES = 2000
ASKED = ("present", "not_present", "empty", "swapped", "shared", "soft_dirty")


@pytest.fixture(autouse=True)
def _scanned(monkeypatch):
    """Let spans of any size be scanned, which are read otherwise."""
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)
    monkeypatch.setattr(plans, "SMALL", 1)


def from_entries(pm, start, end):
    """Every mask the way it is got without a scan."""
    masks = {name: np.zeros((end - start) // PAGE, bool) for name in ASKED}
    process = pm._process()
    reading.read_masks(process.pagemap, process.path, start, (end - start) // PAGE, masks)
    return masks


def scanned(pm, kind, questions, start, end):
    """The same by one plan, or None where there is none."""
    plan = plans.plan(kind, frozenset(questions))
    if plan is None:
        return None
    masks = {name: np.ones((end - start) // PAGE, bool) for name in questions}
    process = pm._process()
    count = (end - start) // PAGE
    scan.fill(process.pagemap, process.maps, process.path, start, count, masks, plan)
    counts = np.zeros((len(questions), 1), np.uint64)
    span = np.array([[start], [end]], np.uint64)
    maps, path = process.maps, process.path
    scan.count(process.pagemap, path, span[0], span[1], tuple(questions), counts, maps, plan)
    assert counts[:, 0].tolist() == [int(masks[name].sum()) for name in questions]
    return masks


def compare(pm, start, end, allowed):
    """Every question alone, and some together, by the plans of every kind that is allowed."""
    real = from_entries(pm, start, end)
    together = [("present", "swapped"), ("swapped", "shared"), ("empty", "swapped", "shared")]
    for kind in allowed:
        for questions in [(name,) for name in ASKED] + together:
            found = scanned(pm, kind, questions, start, end)
            for name in questions if found else ():
                assert (found[name] == real[name]).all(), (kind, questions, name)
    words = np.ones((end - start) // PAGE, fpm.ENTRY_DTYPE)
    process = pm._process()
    plain = np.zeros(len(words), np.uint64)
    reading.read(process.pagemap, process.path, start, plain)
    assert (pm.read(start, end, out=words).entries["value"] == plain).all()


def allowed_for(pm, start, end):
    """The kinds of plan that are right for all of a span."""
    (mapping, *others) = [m for m in pm.mappings() if m.start < end and m.end > start]
    whole = not others and mapping.start <= start and mapping.end >= end
    memory = plans.SharedMemory(pm._process())
    return {plans.Kind.OTHER} | ({plans.kind_of(memory, mapping)} if whole else set())


@pytest.mark.usefixtures("any_swap")
@pytest.mark.parametrize("kind", sorted(kinds.ALL))
def test_every_kind(kind):
    with kinds.ALL[kind](64) as made, fpm.PageMap() as pm:
        compare(pm, made.start, made.end, allowed_for(pm, made.start, made.end))
        check(pm, made.start - 3 * PAGE, made.end + 3 * PAGE)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 700])
@pytest.mark.parametrize("pages", [1, 511, 513, 70_000])
def test_densities(step, pages):
    """More than 512 regions a call, and the two ways of asking where either is the better."""
    with memory.touched(pages, step) as made, fpm.PageMap() as pm:
        compare(pm, made.start, made.end, [plans.Kind.ANONYMOUS, plans.Kind.OTHER])


@pytest.mark.usefixtures("any_swap")
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "write some", "read", "page out", "file shared", "unmap"]),
            st.integers(0, PAGES),
            st.integers(0, PAGES),
        ),
        max_size=12,
    )
)
def test_random_layouts(history):
    known = [step for step in history if step[0] in steps.STEPS]
    with memory.Memory(PAGES) as made, fpm.PageMap() as pm:
        for name, first, last in known:
            steps.carry_out(made, name, *sorted((first, last)))
        compare(pm, made.start, made.end, [plans.Kind.OTHER])
        real = from_entries(pm, made.start, made.end)
        for name in ("present", "shared"):
            assert (getattr(pm, name)(made.start, made.end) == real[name]).all()


def test_many_regions():
    """More than 65,536, and a long way of nothing between."""
    with memory.Memory(1 << 21, memory.PRIVATE | linux.MAP_NORESERVE) as made, fpm.PageMap() as pm:
        made.write(0, 140_000, 2)
        made.write((1 << 21) - 100, None, 2)
        present = np.zeros(1 << 21, bool)
        present[:140_000:2] = True
        present[-100::2] = True
        assert (pm.present(made.start, made.end) == present).all()
        found = pm.regions(
            made.start, made.end, mask=fpm.Category.PRESENT, returns=fpm.Category.PRESENT
        )
        assert len(found) == 70_050
        assert ((found["start"] - made.start) // PAGE == np.flatnonzero(present)).all()


def test_while_memory_changes():
    """What stays is always reported, what never is never is, whatever happens in between."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        spans = [victim.make("touched", PAGES) for _ in range(3)]
        middle = spans[1]
        stop = threading.Event()

        def churn():
            while not stop.is_set():
                middle.do("drop")
                middle.do("write")

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(200):
                for span in (spans[0], spans[2]):
                    assert pm.present(span.start, span.end).all()
                low, high = min(s.start for s in spans), max(s.end for s in spans)
                found = pm.regions(low, high, returns=fpm.Category.PRESENT)
                assert (found["start"][1:] >= found["end"][:-1]).all()
                assert (found["start"] < found["end"]).all()
        finally:
            stop.set()
            thread.join()


def test_a_mapping_that_goes_is_not_called_present():
    """Asked for pages that are not there, the kernel is silent about those not mapped, too."""
    plan = plans.plan(plans.Kind.ANONYMOUS, frozenset({"present"}))
    with memory.touched(60_000) as made, fpm.PageMap() as pm:
        process = pm._process()
        made.unmap(30_000, 60_000)
        mask = np.ones(60_000, bool)
        fds = process.pagemap, process.maps
        scan.fill(*fds, process.path, made.start, 60_000, {"present": mask}, plan)
        assert mask[:30_000].all()
        assert not mask[30_000:].any()


@pytest.mark.parametrize("way", ["fill", "count", "read", "regions"])
def test_a_process_that_has_gone(way):
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("touched", PAGES)
        mapping = [m for m in pm.mappings() if m.start <= span.start < m.end]
        victim.kill()
        with pytest.raises(ProcessLookupError), contextlib.ExitStack():
            {
                "fill": lambda: pm.present(span.start, span.end),
                "count": lambda: pm.usage(mapping, fields=("present",)),
                "read": lambda: pm.read(span.start, span.end),
                "regions": lambda: pm.regions(span.start, span.end),
            }[way]()
