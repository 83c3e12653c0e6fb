"""What of memory ``fastpagemap watch`` shows: areas, views, ranges that are typed."""

import pytest

from fastpagemap.cli.watch.area import Area, View, cell_pages, parse_place
from handmade import mapping, runs, tuples


def test_spans_are_put_side_by_side():
    area = Area([100, 500], [200, 800])
    assert area.size == 400
    assert [area.address(offset) for offset in (0, 99, 100, 399, 400, 999)] == [
        *(100, 199, 500, 799, 800, 800)
    ]
    assert [area.offset(address) for address in (0, 100, 199, 300, 500, 799, 900)] == [
        *(0, 0, 99, 100, 100, 399, 400)
    ]


def test_an_area_is_what_of_the_mappings_is_in_view():
    area = Area.of([mapping(100, 200), mapping(300, 400), mapping(500, 600)], View(150, 350))
    assert (area.starts.tolist(), area.ends.tolist()) == ([150, 300], [200, 350])
    assert Area.of([], View()).size == 0


def test_runs_are_placed_and_cut_off():
    area = Area([100, 500], [200, 800])
    placed = area.placed(
        runs((0, 50, 9), (50, 150, 1), (190, 200, 2), (300, 400, 9), (500, 900, 3))
    )
    assert tuples(placed) == [(0, 50, 1), (90, 100, 2), (100, 400, 3)]
    assert len(Area([], []).placed(runs((0, 50, 9)))) == 0
    assert len(area.placed(runs())) == 0


def test_what_was_never_touched_can_be_left_out():
    mib = 1 << 20
    area = Area([0, 900 * mib], [800 * mib, 1000 * mib])
    found = runs((0, mib, 1), (mib + 4096, 2 * mib, 1), (500 * mib, 501 * mib, 1))
    touched = area.touched(found)
    assert touched.starts.tolist() == [0, 500 * mib]
    assert touched.ends.tolist() == [2 * mib, 501 * mib]
    assert area.touched(runs()).size == 0


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 7, 100, 1000, 12345, 1 << 34])
@pytest.mark.parametrize("cells", [1, 2, 79, 1000])
def test_cells_are_enough(pages, cells):
    cell = cell_pages(pages, cells)
    assert -(-pages // cell) <= cells
    assert cell == 1 or -(-pages // cell) >= cells / 3


def test_zooming():
    page = 4096
    area = Area([0x10000, 0x90000], [0x20000, 0xA0000])  # 16 pages each
    half = area.moved(View(), 0.5, 0, page)
    assert half == View(0x18000, 0x98000)
    assert area.moved(half, 1, 0.25, page) == View(0x1C000, 0x9C000)
    assert area.moved(half, 1, -100, page) == View(0x10000, 0x20000)
    assert area.moved(half, 1, 100, page) == View(0x90000, 0xA0000)
    assert area.moved(half, 2, 0, page) is None
    view = View()
    for _ in range(20):
        view = area.moved(view, 0.5, 0, page)
    assert view.end - view.start == page


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("1000-3000", (0x1000, 0x3000)),
        (" 0x1000 - 0x3000 ", (0x1000, 0x3000)),
        ("1001-2fff", (0x1000, 0x3000)),
        ("1000+8Ki", (0x1000, 0x3000)),
        ("1000+1m", (0x1000, 0x101000)),
        ("1000 + 4096", (0x1000, 0x2000)),
        ("p0", (0x1000, 0x2000)),
        ("p1-2", (0x2000, 0x9000)),
        ("P 2", (0x8000, 0x9000)),
    ],
)
def test_ranges(text, view):
    assert parse_place(text, Area([0x1000, 0x8000], [0x3000, 0xA000]), 0x1000) == View(*view)


def test_an_address():
    assert parse_place(" 0x1234", Area([0x1000], [0x3000]), 0x1000) == 0x1234
    assert parse_place("ffff", Area([], []), 0x1000) == 0xFFFF


@pytest.mark.parametrize(
    "text", ["", "x", "3000-1000", "p4", "p2-1", "1000-", "-1", "0-ffffffffffffffff", "p"]
)
def test_no_ranges(text):
    with pytest.raises(ValueError, match=r"page|range"):
        parse_place(text, Area([0x1000, 0x8000], [0x3000, 0xA000]), 0x1000)
