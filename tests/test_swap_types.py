"""Swap areas so many that their types are those that other kernels reserve."""

import contextlib

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import oracle
import runas
import swap
from compare import by_every_way
from fastpagemap._kernel import swap_types
from linux import PAGE

PAGES = 300


@pytest.mark.root
def test_the_twenty_fourth_area():
    """Every kernel known has as many, and a type for each from 0 on."""

    def ask():
        with contextlib.ExitStack() as stack, memory.touched(PAGES) as made, fpm.PageMap() as pm:
            pm.swapped(made.start, made.end)  # when there were few
            while len(swap.areas()) < 23:
                stack.enter_context(swap.zram_swap(1 << 20, priority=0))
            types = set()
            for priority in range(32700, 32705):
                # others may take their areas away: then the new one gets the number of that
                if min(types, default=0) < 23:
                    stack.enter_context(swap.zram_swap(16 << 20, priority=priority))
                    swap.leave_other_areas()
                    made.write()
                    swap.pageout(made.start, made.end)
                    words = oracle.words(made.start, made.end)
                    types = {oracle.decode(word).swap_type for word in words}
            (mapping,) = (m for m in pm.mappings() if m.start == made.start)
            runs = pm.states([mapping])
            inside = runs[(runs["state"] & fpm.State.SWAPPED) != 0]
            answers = [
                sum(by_every_way(pm, pm.read(made.start, made.end), "swapped")),
                int(pm.usage([mapping])["swapped"][0]) // PAGE,
                int((inside["end"] - inside["start"]).sum()) // PAGE,
                int(pm.residency([made.start], [made.end - made.start])["swapped"][0]) // PAGE,
            ]
            return types, answers

    types, answers = runas.in_child(ask)
    assert min(types) >= 23
    assert answers == [PAGES] * 4


def test_as_many_types_are_reserved_as_the_kernel_needs():
    """At least markers, migration and their like; at most what include/linux/swap.h has."""
    found = swap_types.reserved_types()
    assert swap_types.MIN_RESERVED <= found <= swap_types.MAX_RESERVED


def test_saved_entries_of_any_kernel():
    """A type that is a swap area's on some kernels and a marker's on others makes no claim."""
    words = np.array([1 << 62 | kind | 7 << 5 for kind in range(32)], np.uint64)
    states = np.zeros(32, np.uint64)
    for run in fpm.Snapshot.from_entries(words).states:
        states[int(run["start"]) // PAGE : int(run["end"]) // PAGE] = run["state"]
    assert ((states & fpm.State.SWAPPED) != 0).tolist() == [kind < 23 for kind in range(32)]
    assert ((states & fpm.State.UNKNOWN) != 0).tolist() == [23 <= kind < 30 for kind in range(32)]
