"""What changed between two snapshots, next to a slow twin that goes page by page."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

import fastpagemap as fpm
import kinds
import memory
import steps
import swap
from compare import by_page
from fastpagemap import Mapping, Snapshot, State
from fastpagemap.snapshot.diff import CHANGE_DTYPE
from features import keeps_soft_dirty
from histories import PAGES as HISTORY_PAGES
from histories import histories
from linux import PAGE
from needs import Absent, need
from snapshots import small

PAGES = 37
CHANGES = ("swapped_out", "faulted_in", "swapped_in", "dropped", "unshared")


def shown(snapshot, address):
    """What is mapped at an address: None, or what makes it the same memory."""
    for m in snapshot.mappings:
        if m.start <= address < m.end:
            file = None if m.anonymous else (m.device, m.inode, m.offset + address - m.start)
            return m.shared, file
    return None


def changes_of(before, after, same):
    """The names of what happened to a page, by its states; the slow way."""
    was = {state.name for state in State if before & state}
    now = {state.name for state in State if after & state}
    here, there = "PRESENT" in was, "PRESENT" in now
    found = {
        "swapped_out": same and here and "SWAPPED" in now,
        "faulted_in": there and (not here or not same),
        "swapped_in": same and "SWAPPED" in was and there,
        "dropped": bool(was & {"PRESENT", "SWAPPED"})
        and (not same or not now & {"PRESENT", "SWAPPED", "UNKNOWN"}),
        "unshared": same
        and here
        and there
        and (
            ("EXCLUSIVE" in now and "EXCLUSIVE" not in was)
            or ("SHARED" in was and "SHARED" not in now)
        ),
    }
    return {name for name, true in found.items() if true}


def check_diff(one, two, start, end):
    """Compare all that a diff says of a span with the twin; return the names by page."""
    diff = one.diff(two)
    runs = diff.runs
    assert runs.dtype == CHANGE_DTYPE
    assert (runs["start"] < runs["end"]).all()
    assert (runs["end"][:-1] <= runs["start"][1:]).all()
    pages = range(start, end, PAGE)
    before, after = (by_page(snapshot.states, start, end) for snapshot in (one, two))
    expected, told = [], [set() for _ in pages]
    differs = [False for _ in pages]
    for address, old, new in zip(pages, before, after, strict=True):
        same = shown(one, address) == shown(two, address)
        expected.append(changes_of(old, new, same))
    masks = {name: getattr(diff, name).tolist() for name in CHANGES}
    for number, (low, high, old, new) in enumerate(runs.tolist()):
        for address in range(max(low, start), min(high, end), PAGE):
            page = (address - start) // PAGE
            assert (before[page], after[page]) == (old, new)
            differs[page] = True
            told[page] |= {name for name in CHANGES if masks[name][number]}
    assert told == expected
    for old, new, listed, names in zip(before, after, differs, expected, strict=True):
        assert listed or (old == new and not names)
    check_sums(diff, start, end, expected)
    return expected


def check_sums(diff, start, end, expected):
    """The sums of the table are those of the masks, and of the twin."""
    table = diff.usage()
    assert table["start"].tolist() == [row.start for row in diff.rows]
    assert (table["end"][:-1] <= table["start"][1:]).all()
    inside = [start <= row.start and row.end <= end for row in diff.rows]
    for name in CHANGES:
        assert table[name].sum() == diff.sums()[name]
        assert table[name][inside].sum() == sum(name in names for names in expected) * PAGE


def taken():
    with fpm.PageMap() as pm:
        return pm.snapshot()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["touched", "memfd", "shared_anonymous", "file_copied"])
def test_to_swap_and_back(kind, any_swap):
    with kinds.ALL[kind](PAGES) as made:
        span = made.start, made.end
        one = taken()
        swap.pageout(made.at(4), made.at(30))
        two = taken()
        made.read(10, 20)
        three = taken()
        out = check_diff(one, two, *span)
        back = check_diff(two, three, *span)
    if kind != "file_copied":
        assert [names == {"swapped_out"} for names in out] == [
            4 <= page < 30 for page in range(PAGES)
        ]
        assert all("swapped_in" in names for names in back[10:20])
        assert not any(back[:10])
        assert not any(back[20:])


def test_touched_dropped_mapped_unmapped():
    with memory.untouched(PAGES) as made:
        span = made.start - 4 * PAGE, made.end + 4 * PAGE
        one = taken()
        made.write(0, 9)
        made.protect(memory.READ, 20, 25)
        two = taken()
        made.drop(3, 6)
        made.unmap(30, 33)
        made.map(memory.SHARED, first=34, last=36)
        made.write(34, 35)
        three = taken()
        assert sum("faulted_in" in names for names in check_diff(one, two, *span)) == 9
        later = check_diff(two, three, *span)
        assert sum("dropped" in names for names in later) == 3
        assert later[4 + 34] == {"faulted_in"}
        there = {(m.start, m.end) for m in one.diff(two).unmapped}
        assert not any(span[0] <= low < span[1] for low, _ in there)  # protected is not unmapped
        gone = [m for m in two.diff(three).unmapped if span[0] <= m.start < span[1]]
        assert [(m.start, m.end) for m in gone] == [
            (made.at(30), made.at(33)),
            (made.at(34), made.at(36)),
        ]
        (new,) = [m for m in two.diff(three).mapped if span[0] <= m.start < span[1]]
        assert (new.start, new.end, new.permissions) == (made.at(34), made.at(36), "rw-s")


def test_copied_on_write():
    with kinds.ALL["file_private"](PAGES) as made, memory.zero(PAGES) as zero:
        one = taken()
        made.write(5, 8)
        zero.write(2, 4)
        two = taken()
        names = check_diff(one, two, made.start, made.end)
        assert [name == {"unshared"} for name in names] == [5 <= page < 8 for page in range(PAGES)]
        names = check_diff(one, two, zero.start, zero.end)
        assert [name == {"unshared"} for name in names] == [2 <= page < 4 for page in range(PAGES)]


@settings(max_examples=60)
@given(histories, histories)
def live_here(first, second):
    with memory.Memory(HISTORY_PAGES) as made:
        snapshots = [taken()]
        for history in (first, second):
            for name, pages in history:
                steps.carry_out(made, name, *pages)
            snapshots.append(taken())
        span = made.start - 4 * PAGE, made.end + 4 * PAGE
        for one in snapshots:
            for two in snapshots:
                check_diff(one, two, *span)


@pytest.mark.usefixtures("any_swap")
def test_any_history():
    live_here()


def test_the_same_is_no_change():
    one = taken()
    diff = one.diff(one)
    assert not len(diff.runs)
    assert set(diff.sums().values()) == {0}
    assert (diff.mapped, diff.unmapped, diff.rows) == ([], [], one.mappings)
    assert diff.same_process


def dirty(state):
    """A snapshot of one page in a state, of a kernel with soft-dirty bits."""
    runs = np.array([(2 * PAGE, 3 * PAGE, state)] if state else [], fpm.RUN_DTYPE)
    return small(soft_dirty=True, states=runs)


def test_written():
    here, bit = int(State.PRESENT), int(State.SOFT_DIRTY)
    for old, new, expected in (
        (here, here | bit, True),
        (here | bit, here | bit | State.EXCLUSIVE, False),
        (0, here | bit, True),
        (bit, here | bit, False),
        (here | bit, here, False),
    ):
        diff = dirty(old).diff(dirty(int(new)))
        assert diff.written.tolist() == [expected], (old, new)
        assert diff.sums()["written"] == expected * PAGE
        assert diff.usage()["written"].tolist() == [expected * PAGE, 0]


def test_written_is_not_guessed():
    for one, two in ((dirty(1), dirty(33)), (dirty(33), dirty(1))):
        diff = one.diff(dataclasses.replace(two, soft_dirty=False))
        assert "written" not in diff.sums()
        assert "written" not in diff.usage().dtype.names
        with pytest.raises(fpm.UnsupportedError, match="soft-dirty"):
            _ = diff.written


def test_written_for_real():
    need(keeps_soft_dirty(), "soft-dirty bits", Absent)
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        pm.clear_soft_dirty()
        one = pm.snapshot()
        made.write(5, 9)
        diff = one.diff(pm.snapshot())
        rows = diff.runs[diff.written]
        inside = rows[(rows["start"] >= made.start) & (rows["end"] <= made.end)]
        assert inside[["start", "end"]].tolist() == [(made.at(5), made.at(9))]


def test_what_is_unknown_is_not_dropped_nor_swapped():
    here, unknown, swapped = dirty(1), dirty(int(State.UNKNOWN)), dirty(2)
    for one, two in ((here, unknown), (swapped, unknown)):
        assert set(one.diff(two).sums().values()) == {0}
        assert len(one.diff(two).runs) == 1
    assert unknown.diff(here).sums()["faulted_in"] == PAGE
    assert unknown.diff(here).sums()["swapped_in"] == 0


def test_another_file_at_the_same_place():
    one = small()
    spans = [one.mappings[0], one.mappings[1]._replace(inode=10)]
    two = dataclasses.replace(one, mappings=spans)
    diff = one.diff(two)
    check_diff(one, two, 0, 12 * PAGE)
    assert diff.mapped == spans[1:]
    assert diff.unmapped == one.mappings[1:]
    assert diff.sums()["faulted_in"] == PAGE
    assert diff.sums()["dropped"] == 2 * PAGE
    renamed = [spans[0], one.mappings[1]._replace(path="/moved (deleted)")]
    assert not len(one.diff(dataclasses.replace(one, mappings=renamed)).runs)


def test_what_was_unmapped_has_a_row():
    one = small()
    two = dataclasses.replace(one, mappings=one.mappings[1:], states=one.states[2:])
    diff = one.diff(two)
    assert diff.rows == one.mappings
    assert diff.usage()["dropped"].tolist() == [4 * PAGE, 0]
    assert two.diff(one).usage()["faulted_in"].tolist() == [PAGE, 0]
    assert diff.unmapped == two.diff(one).mapped == [one.mappings[0]]
    nothing = dataclasses.replace(one, mappings=[], states=one.states[:0])
    assert nothing.diff(nothing).usage().shape == (0,)
    assert nothing.diff(one).sums()["faulted_in"] == 2 * PAGE


def test_another_page_size():
    one = small()
    with pytest.raises(ValueError, match=r"16384.*page|page.*16384"):
        one.diff(dataclasses.replace(one, page_size=16384))


def test_another_process_is_said():
    one = small()
    assert not one.diff(dataclasses.replace(one, pid=one.pid + 1)).same_process
    assert not one.diff(dataclasses.replace(one, name="another")).same_process
    assert isinstance(one, Snapshot)
    assert isinstance(one.mappings[0], Mapping)
