"""Small files that unpack to much: refused before they are unpacked, whatever they hold."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import Mapping, SnapshotError
from fastpagemap.snapshot import file_format
from linux import PAGE
from snapshots import check_same, content_of, forged, load, npy, small

WHOLE = np.array([(PAGE, 1 << 47, 0, 0, 0, b"rw-p")], file_format.MAPPING_DTYPE)
MANY = 1 << 24


def peak_of(function, *arguments):
    """Call it; return the most memory it took, beyond what there was."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def runs_of(count, dtype):
    ones = np.ones(count, dtype)
    paths = np.zeros(1, "u1")
    states = np.ones(count, "<u2")
    return {"mappings": WHOLE, "paths": paths, "gaps": ones, "lengths": ones, "states": states}


def rows_of(count, path=b"\0"):
    rows = np.zeros(count, file_format.MAPPING_DTYPE)
    rows["start"] = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2 * PAGE)
    rows["end"], rows["permissions"] = rows["start"] + np.uint64(PAGE), b"rw-p"
    paths = np.frombuffer(path, np.uint8)
    none = np.zeros(0, "u1")
    nothing = {"gaps": none, "lengths": none, "states": np.zeros(0, "<u2")}
    return {"mappings": rows, "paths": paths, **nothing}


BOMBS = {
    "runs": lambda: runs_of(MANY, "<u1"),
    "wide runs": lambda: runs_of(MANY, "<u8"),
    "mappings": lambda: rows_of(1 << 21, bytes(1 << 21)),
    "paths": lambda: rows_of(1, bytes(MANY)),
    "a path": lambda: rows_of(1, b"a" * MANY + b"\0"),
    "a path of no characters": lambda: rows_of(1, b"\xff" * MANY + b"\0"),
    "a path of wide characters": lambda: rows_of(1, b"\xf0\x9f\x91\x8d" + b"a" * MANY + b"\0"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    content = forged(None, BOMBS[name]())

    def refused():
        with pytest.raises(SnapshotError, match="MiB, packed into"):
            load(content)

    assert peak_of(refused) < (1 << 20) + 2 * len(content)


@pytest.mark.parametrize(
    "text",
    [b"[" + b"[]," * 80_000 + b"1]", b'{"a":' * 50_000, b"1" * 200_000, b"[" * (1 << 20)],
    ids=["lists", "deep", "a number", "too long"],
)
def test_metadata_that_costs(text):
    content = forged(text)

    def refused():
        with pytest.raises(SnapshotError):
            load(content)

    assert peak_of(refused) < 16 << 20


@pytest.mark.parametrize("dtype", ["<u1", "<u8"])
def test_loading_takes_little_more_than_what_is_loaded(dtype):
    count = 1_300_000  # just about what may be packed to nothing
    members = {name: npy(array) for name, array in runs_of(count, dtype).items()}
    content = forged({}, members)
    made = []
    peak = peak_of(lambda: made.append(load(content)))
    assert len(made[0].states) == count
    assert made[0].usage(fields=["present"])["present"].tolist() == [count * PAGE]
    assert peak < 1.5 * made[0].states.nbytes


@pytest.mark.parametrize("wide", [False, True])
def test_regular_memory_is_saved_so_that_it_loads(wide):
    """Every second page present, of 16 GiB: it could be packed to less than a stranger may."""
    step = np.uint64((1 << 33 if wide else 2) * PAGE)
    runs = np.empty(1_000 if wide else 2_000_000, fpm.RUN_DTYPE)
    runs["start"] = (np.arange(len(runs), dtype=np.uint64) + np.uint64(1)) * step
    runs["end"], runs["state"] = runs["start"] + np.uint64(PAGE), 1
    end = int(runs["end"][-1])
    made = small(mappings=[Mapping(PAGE, end, "rw-p", 0, 0, 0, "")], states=runs)
    content = content_of(made)
    assert len(content) < 3 * len(runs) + 3000
    loaded = load(content)
    assert np.array_equal(loaded.states, runs)
    assert loaded.mappings == made.mappings


def test_many_mappings_are_saved_so_that_they_load():
    rows = rows_of(200_000)["mappings"]
    bounds = zip(rows["start"].tolist(), rows["end"].tolist(), strict=True)
    spans = [Mapping(*pair, "rw-p", 0, 0, 0, "") for pair in bounds]
    made = small(mappings=spans, states=np.empty(0, fpm.RUN_DTYPE))
    check_same(load(content_of(made)), made)


def test_one_string_for_all_mappings_of_a_file():
    spans = [Mapping(2 * i * PAGE, 2 * i * PAGE + PAGE, "r--p", 0, 8, 9, "/a b") for i in (1, 2)]
    loaded = load(content_of(small(mappings=spans, states=np.empty(0, fpm.RUN_DTYPE))))
    assert loaded.mappings[0].path is loaded.mappings[1].path


def test_arrow_does_not_repeat_a_path_a_million_times():
    pytest.importorskip("pyarrow")
    loaded = load(forged(None, runs_of(300_000, "<u1") | {"paths": np.frombuffer(b"a\0", "u1")}))
    assert loaded.to_arrow().num_rows == 300_000
    spans = [loaded.mappings[0]._replace(path="/" + "d" * (1 << 20))]
    with pytest.raises(MemoryError, match="texts of 300000 rows"):
        dataclasses.replace(loaded, mappings=spans).to_arrow()


def test_times_that_no_calendar_has():
    for time in (-1.0, -1e11, 1e11):
        with pytest.raises(SnapshotError, match="time"):
            load(forged({"time": time}))
    json.dumps(load(forged({"time": 0})).time)
