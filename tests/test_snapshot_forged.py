"""Snapshot files of strangers that contradict themselves: each is refused."""

import dataclasses
import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap import SnapshotError
from fastpagemap.snapshot import file_format
from linux import PAGE
from snapshots import content_of, forged, load, small


def test_the_forger_can_make_good_ones():
    made = load(forged({}, {}))
    assert (made.pid, made.uid) == (os.getpid(), os.geteuid())


def test_a_file_of_before_the_user_was_kept():
    content = content_of(small())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        metadata = json.loads(np.load(io.BytesIO(archive.read("metadata.npy"))).tobytes())
    del metadata["uid"]
    assert load(forged(json.dumps(metadata).encode())).uid is None


def test_a_file_of_before_frames_were_told():
    able = dataclasses.asdict(small().capabilities) | {"categories": ["PRESENT"]}
    del able["frames"], able["page_mapcounts"], able["userfaultfd_rwp_async"]
    made = load(forged({"capabilities": able})).capabilities
    assert (made.frames, made.page_mapcounts) == (False, None)
    assert not made.userfaultfd_rwp_async


def test_what_is_unknown_of_the_kernel():
    able = dataclasses.replace(small().capabilities, map_files=None, page_mapcounts=None)
    assert load(content_of(small(capabilities=able))).capabilities == able


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"version": 0},
        {"version": "1"},
        {"version": True},
        {"pid": -1},
        {"pid": 1 << 31},
        {"pid": 10**400},
        {"pid": 1.5},
        {"pid": True},
        {"pid": None},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": 1e300},
        {"time": 10**400},
        {"time": "now"},
        {"name": None},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"command": ["a"]},
        {"command": "\ud912"},
        {"kernel": "6.1\x1b[2J"},
        {"kernel": "6" * 300},
        {"machine": "x\n"},
        {"page_size": 0},
        {"page_size": -4096},
        {"page_size": 4097},
        {"page_size": 1 << 62},
        {"page_size": 8192},
        {"soft_dirty": 1},
        {"capabilities": None},
        {"capabilities": {}},
        {"uid": -1},
        {"uid": 1 << 32},
        {"uid": True},
        {"uid": "root"},
        {"more": 1},
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "fastpagemap snapshot", "version": 1}',
        b'{"version": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_metadata_that_lies(changes):
    with pytest.raises(SnapshotError):
        load(forged(changes))


def test_capabilities_that_lie():
    good = dataclasses.asdict(small().capabilities) | {"categories": ["PRESENT"]}
    assert load(forged({"capabilities": good})).capabilities.categories == fpm.Category.PRESENT
    for change in (
        {"categories": 5},
        {"categories": ["NOTHING"]},
        {"categories": [["PRESENT"]]},
        {"pfn": 1},
        {"pfn": None},
        {"pfn": "yes"},
        {"page_size": 8192},
        {"more": True},
    ):
        with pytest.raises(SnapshotError):
            load(forged({"capabilities": good | change}))


def test_a_newer_version_is_named():
    with pytest.raises(SnapshotError, match=r"version 7.*reads version 1.*newer fastpagemap"):
        load(forged({"version": 7}))


def spans_of(*rows):
    return np.array(
        [(start, end, 0, 0, 0, permissions) for start, end, permissions in rows],
        file_format.MAPPING_DTYPE,
    )


HUGE_NUMBER = 1 << 63


@pytest.mark.parametrize(
    "members",
    [
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"))},
        {"mappings": spans_of((6 * PAGE, 9 * PAGE, "rw-p"), (2 * PAGE, 6 * PAGE, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 7 * PAGE, "rw-p"), (6 * PAGE, 9 * PAGE, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"), (9 * PAGE, 6 * PAGE, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 2 * PAGE, "rw-p"), (2 * PAGE, 9 * PAGE, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"), (6 * PAGE, 9 * PAGE + 1, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"), (6 * PAGE, 9 * PAGE, "rw"))},
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"), (6 * PAGE, 9 * PAGE, b"rw-\xff"))},
        {"mappings": spans_of((2 * PAGE, 6 * PAGE, "rw-p"), (6 * PAGE, 8 * PAGE, "rw-p"))},
        {"mappings": spans_of((2 * PAGE, 5 * PAGE, "rw-p"), (5 * PAGE, 9 * PAGE, "rw-p"))},
        {"mappings": spans_of()},
        {"mappings": np.zeros(2, "<u8")},
        {"paths": np.frombuffer(b"\0", np.uint8)},
        {"paths": np.frombuffer(b"\0\0\0", np.uint8)},
        {"paths": np.frombuffer(b"\0a", np.uint8)},
        {"paths": np.zeros(0, np.uint8)},
        {"paths": np.zeros((2, 1), np.uint8)},
        {"gaps": np.array([1, 0, 0, 1], "u1")},
        {"gaps": np.array([2, 0, 0, 2], "u1")},
        {"gaps": np.array([2, 0, 0], "u1")},
        {"gaps": np.array([2, 0, 0, 1], "i1")},
        {"gaps": np.array([2, 0, 0, 1], ">u2")},
        {"gaps": np.array([2, 0, 0, 1], "f8")},
        {"gaps": np.array([2, 0, 0, np.nan], "f8")},
        {"gaps": np.array([2, 0, 0, 1], "O")},
        {"gaps": np.array([2, 0, 0, 1], "U1")},
        {"gaps": np.array([[2, 0], [0, 1]], "u1")},
        {"gaps": np.array([2, 0, 0, HUGE_NUMBER], "u8")},
        {"gaps": np.array([HUGE_NUMBER, HUGE_NUMBER, 2, 1], "u8")},
        {"gaps": np.array([2, 0, 0, 1 << 52], "u8")},
        {"lengths": np.array([1, 2, 1, 0], "u1")},
        {"lengths": np.array([0, 4, 1, 1], "u1")},
        {"lengths": np.array([1, 4, 1, 1], "u1")},
        {"states": np.array([17, 17, 2, 9], "u2")},
        {"states": np.array([17, 2, 0, 9], "u2")},
        {"states": np.array([17, 2, 1 << 10, 9], "u2")},
        {"states": np.array([17, 2, 0xFFFF, 9], "u2")},
        {"states": np.array([17, 2, 3, 9], "u2")},
        {"states": np.array([17, 2, 8, 9], "u2")},
        {"states": np.array([17, 2, 512, 9], "u2")},
        {"states": np.array([17, 2, 6, 9], "u2")},
        {"states": np.array([17, 2, 2, 9], "u4")},
        {"states": b""},
        {"states": b"\x93NUMPY"},
        {"states": b"garbage, and more of it"},
        {"states": b"\x93NUMPY\1\0\xff\xff{}"},
        {"gaps": b"\x93NUMPY\1\0" + struct.pack("<H", 10_000) + b"(" * 10_000},
        {"another": np.zeros(1, "u1")},
    ],
    ids=lambda value: "".join(f"{k}-{v!r}" for k, v in value.items())[:60],
)
@pytest.mark.filterwarnings("error")
def test_members_that_lie(members):
    with pytest.raises(SnapshotError):
        load(forged(None, members))


def test_runs_that_are_not_joined_or_cross_a_border_or_lie_outside():
    for lengths, gaps, states in (
        ([1, 1, 2, 1, 1], [2, 0, 0, 0, 1], [17, 2, 2, 2, 9]),
        ([1, 4, 1], [2, 0, 1], [17, 2, 9]),
        ([1, 1, 3, 1, 1], [1, 0, 0, 0, 1], [2, 17, 2, 2, 9]),
    ):
        columns = {"lengths": (lengths, "u1"), "gaps": (gaps, "u1"), "states": (states, "u2")}
        members = {name: np.array(*column) for name, column in columns.items()}
        with pytest.raises(SnapshotError, match="runs"):
            load(forged(None, members))


def test_soft_dirty_where_there_is_none():
    members = {"states": np.array([17, 2, 2, 9 | 32], "u2")}
    with pytest.raises(SnapshotError, match="soft-dirty"):
        load(forged({"soft_dirty": False}, members))
    assert load(forged({"soft_dirty": True}, members)).soft_dirty
