"""Reading and parsing the text of /proc/PID/maps; what the kernel would never write, too."""

import gc
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastpagemap as fpm
import oracle
from fastpagemap._kernel import procmaps

LINE = b"7f00-8f00 r-xp 00001000 fe:01 42                         /a b\n"


def parse(text):
    return procmaps.parse_maps(text, fpm.Mapping, os.fsdecode)


rights = st.tuples(*(st.sampled_from(pair) for pair in ("-r", "-w", "-x", "ps"))).map("".join)
path = st.binary(max_size=30).map(lambda name: name.replace(b"\n", b"").lstrip(b" "))


@st.composite
def lines(draw):
    """A text such as the kernel writes, of mappings in address order that do not overlap."""
    edges = draw(st.lists(st.integers(0, 2**52 - 1), max_size=20, unique=True).map(sorted))
    text = b""
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        offset, inode = draw(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)))
        major, minor = draw(st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)))
        head = f"{start << 12:08x}-{end << 12:08x} {draw(rights)} {offset:08x} "
        head += f"{major:02x}:{minor:02x} {inode} "
        text += head.ljust(73).encode() + draw(path) + b"\n"
    return text


@given(lines())
def test_parse_is_the_twin_of_random_texts(text):
    expected = [oracle.maps_line(line) for line in text.split(b"\n")[:-1]]
    found = parse(text)
    assert all(type(row) is fpm.Mapping for row in found)
    assert [tuple(row[:4]) for row in found] == [tuple(line[:4]) for line in expected]
    for row, line in zip(found, expected, strict=True):
        assert f"{os.major(row.device):02x}:{os.minor(row.device):02x}" == line.device
        assert row.inode == line.inode
        assert os.fsencode(row.path) == line.path


def test_a_row_is_found_where_an_equal_one_is():
    """In a set and in a dict; since Python 3.14 a tuple remembers its hash."""
    (row,) = parse(LINE)
    made = fpm.Mapping(*row)
    assert hash(row) == hash(made)
    assert row in {made: None}
    assert made in {row: None}


@given(st.integers(0, len(LINE)), st.binary(max_size=6), st.integers(0, 6))
def test_a_broken_text_is_an_error_and_never_read_past(at, junk, drop):
    text = LINE + LINE[:at] + junk + LINE[at + drop :]
    try:
        rows = parse(text)
    except (ValueError, OverflowError):
        return
    # whatever it took for lines, their paths are pieces of the text
    assert all(os.fsencode(row.path) in text for row in rows)


@given(st.binary(max_size=200))
def test_junk_crashes_nothing(text):
    try:
        parse(text)
    except (ValueError, OverflowError):
        return


def test_a_text_cut_off_in_the_middle_of_a_line_is_an_error():
    for end in range(1, len(LINE)):
        with pytest.raises(ValueError, match="maps"):
            parse(LINE + LINE[:end])


def test_nothing_leaks_and_nothing_is_freed_too_early():
    text = b"".join(
        f"{n:x}000-{n + 1:x}000 rw-p {n:08x} 08:{n:02x} {n + 10**6} /file {n}\n".encode()
        for n in range(1000, 3000)
    )
    parse(text)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        rows = parse(text)
        assert [row.offset for row in rows] == list(range(1000, 3000))
        with pytest.raises(ValueError, match="maps"):
            parse(text + b"7f")
    del rows
    gc.collect()
    assert sys.getallocatedblocks() - before < 500  # one text alone has 2000 rows


def test_no_text_has_no_mappings():
    assert parse(b"") == []


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        # what came later is kept: the kernel writes a page of lines at a time
        (["1000-3000", "1000-5000"], ["1000-5000"]),
        (["1000-3000", "2000-5000"], ["1000-2000", "2000-5000"]),
        (["1000-2000", "2000-3000", "1000-5000"], ["1000-5000"]),
        (["1000-2000", "3000-6000", "5000-7000"], ["1000-2000", "3000-5000", "5000-7000"]),
    ],
)
def test_mappings_that_changed_while_they_were_read_do_not_overlap(ranges, expected):
    found = parse(b"".join(f"{span} rw-p 0 00:00 0 \n".encode() for span in ranges))
    assert [f"{row.start:x}-{row.end:x}" for row in found] == expected
