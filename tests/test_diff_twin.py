"""What changed between two invented snapshots, next to a slow twin that goes page by page."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastpagemap as fpm
from fastpagemap import Mapping
from fastpagemap._kernel.compare import compare_runs
from fastpagemap.snapshot.diff import CHANGE_DTYPE
from linux import PAGE

PAGES = 24
KINDS = {
    "anonymous": ("rw-p", 0, 0, 0),
    "stack": ("rw-p", 0, 0, 0),
    "shared": ("rw-s", 0, 1, 7),
    "file": ("r--p", 0, 8, 9),
    "further": ("r--p", PAGE, 8, 9),
}


@functools.cache
def whole():
    """A snapshot of this process."""
    with fpm.PageMap() as pm:
        return pm.snapshot()


@st.composite
def snapshots(draw):
    """A snapshot of some pages: mappings, and runs in them that are as long as they can be."""
    cuts = sorted(draw(st.sets(st.integers(0, PAGES), max_size=7)))
    mappings, runs = [], []
    for first, last in itertools.pairwise(cuts):
        kind = draw(st.sampled_from([None, *KINDS]))
        if kind is None:
            continue
        mappings.append(Mapping(first * PAGE, last * PAGE, *KINDS[kind], ""))
        states = draw(
            st.lists(st.sampled_from([0, 1, 2, 17]), min_size=last - first, max_size=last - first)
        )
        pages = zip(range(first, last), states, strict=True)
        for state, group in itertools.groupby(pages, key=lambda page: page[1]):
            if state:
                numbers = [number for number, _ in group]
                runs.append((numbers[0] * PAGE, (numbers[-1] + 1) * PAGE, state))
    return dataclasses.replace(whole(), mappings=mappings, states=np.array(runs, fpm.RUN_DTYPE))


def page_of(snapshot, address):
    """What there is at an address: its state, the number of its mapping, the memory it shows."""
    state = sum(s for low, high, s in snapshot.states.tolist() if low <= address < high)
    for number, m in enumerate(snapshot.mappings):
        if m.start <= address < m.end:
            file = () if m.anonymous else (m.device, m.inode, m.offset + address - m.start)
            return state, number, (m.shared, file)
    return state, None, None


def expected_of(one, two):
    """The changes as start, end, before, after and whether other memory is there, page by page."""
    found, last = [], None
    for address in range(0, PAGES * PAGE, PAGE):
        (old, *was), (new, *now) = page_of(one, address), page_of(two, address)
        replaced = was[1] != now[1]
        if old == new and not (replaced and old | new):
            continue
        what = (old, new, was[0], now[0])
        if found and found[-1][1] == address and last == what:
            found[-1][1] += PAGE
        else:
            found.append([address, address + PAGE, old, new, replaced])
        last = what
    return found


def told(one, two):
    diff = one.diff(two)
    assert diff.runs.dtype == CHANGE_DTYPE
    return diff, [list(row) for row in diff.runs.tolist()]


@given(snapshots(), snapshots())
def test_any_two_snapshots(one, two):
    diff, runs = told(one, two)
    expected = expected_of(one, two)
    assert runs == [row[:4] for row in expected]
    present = [bool(new & 1 and (not old & 1 or other)) for _, _, old, new, other in expected]
    assert diff.faulted_in.tolist() == present
    swapped = [bool(old & 1 and new & 2 and not other) for _, _, old, new, other in expected]
    assert diff.swapped_out.tolist() == swapped


@given(snapshots())
def test_nothing_changes_within_one_snapshot(one):
    assert told(one, dataclasses.replace(one))[1] == []


def test_runs_outside_of_mappings_are_compared_too():
    """As in a snapshot that was put together by hand."""
    one = dataclasses.replace(
        whole(), mappings=[], states=np.array([(PAGE, 3 * PAGE, 1)], fpm.RUN_DTYPE)
    )
    two = dataclasses.replace(one, states=np.array([(2 * PAGE, 4 * PAGE, 1)], fpm.RUN_DTYPE))
    assert told(one, two)[1] == [[PAGE, 2 * PAGE, 1, 0], [3 * PAGE, 4 * PAGE, 0, 1]]


def compare(before, after, segments, capacity):
    """Return the rows that compare_runs finds."""
    changes, replaced = np.empty(capacity, CHANGE_DTYPE), np.empty(capacity, bool)
    before, after = (np.array(list(runs), fpm.RUN_DTYPE) for runs in (before, after))
    count = compare_runs(before, after, np.array(segments, np.uint64), changes, replaced)
    return changes[:count].tolist()


def test_no_more_changes_than_there_is_space_for():
    before, segments = [(1, 2, 1), (3, 4, 1)], [(0, 2**64 - 1, 1)]
    assert compare(before, [], segments, 2) == [(1, 2, 1, 0), (3, 4, 1, 0)]
    with pytest.raises(ValueError, match="more than 1 changes"):
        compare(before, [], segments, 1)
    with pytest.raises(ValueError, match="more than 0 changes"):
        compare(before, [], segments, 0)


def test_overlapping_and_unsorted_runs_end():
    """They are no valid input: whatever comes of them, it comes, and within the arrays."""
    runs = [
        (5, 9, 1),
        (1, 3, 2),
        (2, 2, 3),
        (7, 8, 4),
        (2**64 - 1, 2**64 - 1, 5),
        (0, 2**64 - 1, 6),
    ]
    segments = [(0, 6, 1), (6, 4, 0), (3, 2**64 - 1, 0)]
    for before in itertools.permutations(runs, 4):
        for after in ([], runs[::-1], before):
            found = compare(before, after, segments, 64)
            assert all(start < end for start, end, _, _ in found)
