"""Random histories of memory, compared with the slow twin at their end (hypothesis)."""

import contextlib

import pytest
from hypothesis import given, settings

import fastpagemap as fpm
import memory
import runas
import steps
from compare import check
from histories import PAGES, histories, pairs
from linux import PAGE
from victim import Victim

MASKS = ("present", "swapped", "shared", "exclusive", "unknown")


def check_layout(pm, start, part):
    """Check the whole and a part of it; the part is a slice of the whole, its sums are usage()."""
    end = start + PAGES * PAGE
    check(pm, start - 3 * PAGE, end + 3 * PAGE)
    first, last = part
    check(pm, start + first * PAGE, start + last * PAGE)
    table = pm.usage([m for m in pm.mappings() if start <= m.start < end])
    for name in MASKS:
        whole = getattr(pm, name)(start, end)
        assert table[name].sum() == whole.sum() * PAGE
        mask = getattr(pm, name)(start + first * PAGE, start + last * PAGE)
        assert mask.tolist() == whole[first:last].tolist()


@settings(max_examples=150)
@given(histories, pairs)
def live_here(history, part):
    with memory.Memory(PAGES) as made, fpm.PageMap() as pm:
        for name, (first, last) in history:
            steps.carry_out(made, name, first, last)
        check_layout(pm, made.start, part)


@pytest.mark.usefixtures("any_swap")
def test_this_process():
    live_here()


@pytest.mark.usefixtures("any_swap")
def test_this_process_as_nobody():
    runas.as_nobody(live_here)


@pytest.mark.parametrize("uid", [None, pytest.param(runas.NOBODY, marks=pytest.mark.root)])
@pytest.mark.usefixtures("any_swap")
def test_another_process(uid):
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(Victim(uid))
        pm = stack.enter_context(fpm.PageMap(victim.pid))

        @settings(max_examples=100)
        @given(histories, pairs)
        def live_there(history, part):
            span = victim.make("untouched", PAGES)
            for name, (first, last) in history:
                victim.ask("step", span.number, name, first, last)
            check_layout(pm, span.start, part)
            span.do("close")

        live_there()
