"""Snapshots made of raw entries alone, from a file or an array."""

import dataclasses
import io
import os
import struct
import tracemalloc

import numpy as np
import pytest

import fastpagemap as fpm
import kinds
import memory
import oracle
import swap
from compare import check_runs
from fastpagemap import Snapshot, State
from linux import PAGE
from snapshots import check_same, content_of, load

PAGES = 37


@pytest.mark.root
def test_from_entries(any_swap, tmp_path):
    with memory.sparse(PAGES) as made, kinds.ALL["file_copied"](PAGES) as other:
        swap.pageout(made.at(0), made.at(20))
        low, high = min(made.start, other.start), max(made.end, other.end)
        content = oracle.many_words(low, high)
    path = tmp_path / "pagemap"
    path.write_bytes(content)
    taken = Snapshot.from_entries(path, low)
    words = np.frombuffer(content, np.uint64).tolist()
    expected = []
    for word in words:
        told = oracle.meaning(word)
        state = told.present * 1 | told.swapped * 2 | told.shared * 8 | told.exclusive * 16
        expected.append(state | told.soft_dirty * 32 | oracle.decode(word).guard * 256)
    assert taken.state(low, high).tolist() == expected
    assert any(state & State.SWAPPED for state in expected)
    check_runs(taken.states, taken.mappings)
    assert {m.permissions for m in taken.mappings} == {"????"}
    with path.open("rb") as file:
        again = Snapshot.from_entries(file, low)
    check_same(again, dataclasses.replace(taken, time=again.time))


def test_a_file_with_holes(tmp_path):
    """2 TiB of entries, which are 1 PiB of addresses; of two pages something is said."""
    path = tmp_path / "sparse"
    word = struct.pack("=Q", 1 << 63)
    with path.open("wb") as file:
        for at in (1 << 20, 1 << 38):
            file.seek(at * 8)
            file.write(word)
        file.truncate(1 << 42)
    tracemalloc.start()
    try:
        taken = Snapshot.from_entries(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert taken.states["start"].tolist() == [PAGE << 20, PAGE << 38]
    assert [m.pages for m in taken.mappings] == [1, 1]


def test_entries_of_any_source(tmp_path):
    words = np.zeros(3000, np.uint64)
    words[[1, 2, 3, 400, 2999]] = 1 << 63
    path = tmp_path / "words"
    path.write_bytes(words.tobytes())
    expected = Snapshot.from_entries(words, 5 * PAGE)
    assert expected.states["start"].tolist() == [PAGE * page for page in (6, 405, 3004)]
    assert [(m.start // PAGE, m.end // PAGE) for m in expected.mappings] == [(6, 406), (3004, 3005)]
    sources = [
        str(path),
        os.fsencode(path),
        io.BytesIO(words.tobytes()),
        words.view(fpm.ENTRY_DTYPE),
    ]
    reader, writer = os.pipe()
    os.write(writer, words.tobytes())
    os.close(writer)
    with open(reader, "rb") as pipe:
        for source in [*sources, pipe]:
            told = Snapshot.from_entries(source, 5 * PAGE)
            assert told.states.tolist() == expected.states.tolist()
            assert told.mappings == expected.mappings
    check_same(load(content_of(expected)), expected)
    assert expected.usage(fields=["present"])["present"].tolist() == [4 * PAGE, PAGE]
    with pytest.raises(fpm.UnsupportedError):
        expected.usage(fields=["huge"])


def test_entries_that_are_none(tmp_path):
    path = tmp_path / "words"
    for content in (b"1234567", bytes(8 * 600) + b"1"):
        path.write_bytes(content)
        for source in (path, io.BytesIO(content)):
            with pytest.raises(ValueError, match="whole number"):
                Snapshot.from_entries(source)
    path.write_bytes(b"")
    for source in (path, io.BytesIO()):
        with pytest.raises(ValueError, match="no entries"):
            Snapshot.from_entries(source)
    with pytest.raises(ValueError, match="aligned"):
        Snapshot.from_entries(np.zeros(1, np.uint64), 1)
    with pytest.raises(ValueError, match="beyond the last address"):
        Snapshot.from_entries(np.ones(3, np.uint64), 2**64 - 2 * PAGE)
    with pytest.raises(ValueError, match="dtype"):
        Snapshot.from_entries(np.zeros(3, np.float32))
    with pytest.raises(FileNotFoundError):
        Snapshot.from_entries(tmp_path / "none")
    assert len(Snapshot.from_entries(np.zeros(0, np.uint64)).states) == 0
