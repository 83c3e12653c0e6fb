"""The walk against the entries: the same answers, bit for bit, however it gets them."""

import contextlib
import functools
import operator
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastpagemap as fpm
import kinds
import linux
import memory
import oracle
import steps
from compare import check, while_still
from fastpagemap._kernel.plan import Plan
from fastpagemap._kernel.sinks import Sink
from fastpagemap._kernel.walk import walk
from fastpagemap.engine.survey import survey
from fastpagemap.engine.table import Backing, plan
from fastpagemap.model.questions import QUESTIONS, matching
from fastpagemap.process.backing import Backings
from fastpagemap.process.probes import categories, soft_dirty
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need
from victim import Victim

PAGES = 2000
ASKED = ("present", "not_present", "empty", "swapped", "shared", "soft_dirty", "exclusive", "guard")
BY_ENTRIES = (Plan(scan=False),)


@pytest.fixture(autouse=True)
def _scanned():
    need(categories(), "PAGEMAP_SCAN (Linux 6.7)", Absent)


def walked(pm, plans, questions, start, end, maps=True):
    """Every mask by one plan, and with it the counts, the runs and the states."""
    process = Process(pm.pid)
    pages = (end - start) // PAGE
    masks = {name: np.full(pages, 0xAA, np.uint8) for name in questions}
    matches = tuple(tuple(QUESTIONS[name]) for name in questions)
    span = np.array([[start], [end]], np.uint64)
    fds = process.pagemap, process.maps if maps else -1
    before = [process.path, span[0], span[1], np.zeros(1, np.uint8), plans]
    walk(*fds, *before, Sink(matches, start, tuple(masks.values())))
    counts = np.zeros((len(questions), 1), np.uint64)
    walk(*fds, *before, Sink(matches), np.zeros(1, np.int64), counts)
    assert counts[:, 0].tolist() == [int(masks[name].sum()) for name in questions]
    states = np.full(pages, 0xAAAA, np.uint16)
    walk(*fds, *before, Sink((), start, states=states))
    for name, mask in masks.items():
        assert matching(states, name).tolist() == mask.astype(bool).tolist(), name
    sink = Sink((), runs=True)
    walk(*fds, *before, sink)
    expanded = np.zeros(pages, np.uint16)
    for low, high, state in np.frombuffer(sink.runs(), fpm.RUN_DTYPE).tolist():
        expanded[(low - start) // PAGE : (high - start) // PAGE] = state
    # what was not asked is told where entries are read, and not where it is scanned
    asked = functools.reduce(operator.or_, (bits for bits, _ in matches)) & 0x3FF
    assert (expanded & asked == states & asked).all()
    return masks


def from_entries(pm, start, end):
    """Every mask the way it is got without a scan."""
    return walked(pm, BY_ENTRIES, ASKED, start, end)


def compare(pm, start, end, allowed):
    """Compare all answers while the kernel moves no page: one that it moves is not present then."""
    while_still(
        lambda: compare_all(pm, start, end, allowed), lambda: oracle.many_words(start, end, pm.pid)
    )


def compare_all(pm, start, end, allowed):
    """Every question alone, and some together, by the plans of every backing that is allowed."""
    real = from_entries(pm, start, end)
    together = [("present", "swapped"), ("swapped", "shared"), ("empty", "swapped", "shared")]
    together += [tuple(name for name in ASKED if name != "soft_dirty" or soft_dirty())]
    for backing in allowed:
        for questions in [(name,) for name in ASKED] + together:
            if "soft_dirty" in questions and not soft_dirty():
                continue
            found = walked(pm, (plan(backing, frozenset(questions)),), questions, start, end)
            for name in questions:
                assert (found[name] == real[name]).all(), (backing, questions, name)
    words = np.ones((end - start) // PAGE, fpm.ENTRY_DTYPE)
    plain = np.zeros(len(words), np.uint64)
    Process(pm.pid).read_entries(start, plain)
    assert (pm.read(start, end, out=words).entries["value"] == plain).all()


def allowed_for(pm, start, end):
    """The backings that are true of all of a span."""
    (mapping, *others) = [m for m in pm.mappings() if m.start < end and m.end > start]
    if others or mapping.start > start or mapping.end < end:
        return {Backing.UNKNOWN}
    found = survey(Backings(Process(pm.pid)), [(start, end)], frozenset({"swapped"}))
    return {Backing.UNKNOWN, Backing(int(found.backings[0]))}


@pytest.mark.usefixtures("any_swap")
@pytest.mark.parametrize("kind", sorted(kinds.ALL))
def test_every_kind(kind):
    # KSM merges up to 256 pages into one
    pages = 200 if kind == "merged" else 1024
    with kinds.ALL[kind](pages) as made, fpm.PageMap() as pm:
        compare(pm, made.start, made.end, allowed_for(pm, made.start, made.end))
        check(pm, made.start - 3 * PAGE, made.end + 3 * PAGE)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 700])
@pytest.mark.parametrize("pages", [1, 511, 513, 70_000])
def test_densities(step, pages):
    """More than 512 regions a call, and the two ways of asking where either is the better."""
    with memory.touched(pages, step) as made, fpm.PageMap() as pm:
        compare(pm, made.start, made.end, [Backing.ANONYMOUS, Backing.UNKNOWN])


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
        compare(pm, made.start, made.end, [Backing.UNKNOWN])
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
    plans = (plan(Backing.ANONYMOUS, frozenset({"present"})),)
    with memory.touched(60_000) as made, fpm.PageMap() as pm:
        made.unmap(30_000, 60_000)
        mask = walked(pm, plans, ("present",), made.start, made.end)["present"]
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
