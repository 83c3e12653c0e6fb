"""How runs and spans are put together, next to slow twins that go page by page."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastpagemap.model.runs import (
    RUN_DTYPE,
    close_gaps,
    edges_of,
    join_equal,
    states_at,
)

addresses = st.lists(st.integers(0, 30) | st.just(2**64 - 1), max_size=12)
#: the state of each of some pages, and where runs begin although nothing changes
pages = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.booleans()), max_size=20)


def array(numbers):
    return np.array(numbers, np.uint64)


def runs_from(states):
    """Runs of pages of one byte each, apart where the state changes or it is said so."""
    rows = []
    for at, (state, apart) in enumerate(states):
        if state and rows and not apart and rows[-1][1:] == (at, state):
            rows[-1] = (rows[-1][0], at + 1, state)
        elif state:
            rows.append((at, at + 1, state))
    return np.array(rows, RUN_DTYPE)


def spans_from(members):
    """Sorted spans, apart, of the pages that are members: starts and ends."""
    inside = np.array([False, *members, False])
    edges = array(np.flatnonzero(inside[1:] != inside[:-1]))
    return edges[::2], edges[1::2]


def covers(spans, length):
    starts, ends = (edge.tolist() for edge in spans)
    return [
        any(low <= at < high for low, high in zip(starts, ends, strict=True))
        for at in range(length)
    ]


@given(st.lists(addresses, min_size=1, max_size=4))
def test_edges(lists):
    assert edges_of(*map(array, lists)).tolist() == sorted(set().union(*lists))


@given(pages, addresses)
def test_join_equal(states, borders):
    runs, borders = runs_from(states), array(borders)
    where = array(range(len(states) + 1))
    whole = [state for state, _ in states] + [0]
    joined = join_equal(runs, borders)
    for some in (runs, joined):
        assert states_at(some, where).tolist() == whole
    # neighbours of one state are joined but for those that meet at a border
    for one, two in zip(joined[:-1].tolist(), joined[1:].tolist(), strict=True):
        assert one[1:] != (two[0], two[2]) or two[0] in borders.tolist()
    starts = set(runs["start"].tolist())
    assert set(joined["start"].tolist()) >= starts & set(borders.tolist())


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 4), st.just([]) | addresses)
def test_close_gaps(members, gap, barriers):
    barriers = array(sorted(barriers))
    starts, ends = spans_from(members)
    found = close_gaps(starts, ends, gap, barriers)
    expected = list(members)
    for low, high in zip(ends[:-1].tolist(), starts[1:].tolist(), strict=True):
        if high - low < gap and not any(low <= at < high for at in barriers.tolist()):
            expected[low:high] = [True] * (high - low)
    assert covers(found, len(members)) == expected
