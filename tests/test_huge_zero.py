"""The huge zero page, which np.zeros is made of until it is written: neither shared nor exclusive.

Its entries have the bit of a page of a file before Linux 7.3.
"""

import pytest

import fastpagemap as fpm
import memory
import runas
from compare import by_every_way
from linux import PAGE


def shared_by_every_way(start, end):
    """How many pages are shared or exclusive, by each view that counts them."""
    with fpm.PageMap() as pm:
        pages = pm.read(start, end)
        found = {name: sum(by_every_way(pm, pages, name)) for name in ("shared", "exclusive")}
        mappings = [m for m in pm.mappings() if start < m.end and m.start < end]
        some = [m._replace(start=max(start, m.start), end=min(end, m.end)) for m in mappings]
        for fields in (["shared"], ["shared", "exclusive"], ["present", "shared"], None):
            rows = pm.usage(some, fields=fields)
            found["usage", str(fields)] = int(rows["shared"].sum()) // PAGE
        for runs in (pm.states(some), pm.snapshot().states):
            runs = runs[(runs["start"] < end) & (start < runs["end"])]
            runs = runs[(runs["state"] & (fpm.State.SHARED | fpm.State.EXCLUSIVE)) != 0]
            found["states"] = found.get("states", 0) + len(runs)
        row = pm.residency([start], [end - start])[0]
        found["residency"] = int(row["shared"] + row["exclusive"])
        assert by_every_way(pm, pages, "present") == [True] * len(pages)
    return found


@pytest.mark.parametrize("ask", [runas.in_child, runas.as_nobody])
@pytest.mark.parametrize(
    ("first", "end"),
    [((0, 0), (1, 0)), ((0, 0), (6, 0)), ((0, 1), (1, 0)), ((1, -1), (5, 3)), ((0, 9), (0, 300))],
)
def test_it_is_not_shared(ask, first, end):
    """Of a span from one page of a huge page to another."""
    each = memory.huge_page_pages()
    low, high = (huge * each + page for huge, page in (first, end))

    def look():
        with memory.huge_zero(6 * each) as made:
            return shared_by_every_way(made.at(low), made.at(high))

    found = ask(look)
    assert not any(found.values()), found


def test_beside_pages_of_files_and_small_pages():
    """Written huge pages and a page written within one, in one mapping with it."""
    each = memory.huge_page_pages()
    with memory.huge_zero(6 * each) as made, fpm.PageMap() as pm:
        made.write(each, each + 1)
        made.write(3 * each + 5, 3 * each + 6)
        exclusive = pm.exclusive(made.start, made.end)
        assert exclusive.any()
        assert not pm.shared(made.start, made.end).any()
        row = pm.usage([m for m in pm.mappings() if m.start == made.start])[0]
        assert row["shared"] == 0
        assert row["exclusive"] == exclusive.sum() * PAGE
