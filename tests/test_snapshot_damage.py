"""Snapshot files that are damaged, no snapshots, or made to cost memory: refused at little cost."""

import io
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import check_runs
from fastpagemap import SnapshotError
from snapshots import check_same, content_of, forged, load, npy, small


@pytest.mark.parametrize("size", [0, 1, 4, 21, 22, 100])
def test_another_kind_of_file(size):
    for content in (b"\0" * size, b"PK" * size, os.urandom(size), b"PK\5\6" + b"\0" * size):
        with pytest.raises(SnapshotError, match="snapshot"):
            load(content)


def test_it_says_what_to_do():
    with pytest.raises(SnapshotError, match="from_entries"):
        load(bytes(8 * 512))
    with pytest.raises(SnapshotError, match="cut short"):
        load(content_of(small())[:-30])


def in_little_memory(content):
    """Load in a process that may have little memory; return what it says."""
    program = (
        "import io, resource, sys; import fastpagemap as fpm\n"
        "content = sys.stdin.buffer.read()\n"
        "have = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (have + (100 << 20),) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "try: fpm.Snapshot.load(io.BytesIO(content))\n"
        "except fpm.SnapshotError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_bombs():
    """A gigabyte of zeros, said to be so, or not; a directory of members without number."""
    header = npy(np.zeros(4, "u1"))[:128]
    lying = header.replace(b"(4,), }         ", b"(1073741824,), }")
    assert len(lying) == len(header)
    assert "elements" in in_little_memory(forged(None, {"gaps": lying + bytes(1 << 27)}))
    assert "size" in in_little_memory(forged(None, {"gaps": header + bytes(1 << 27)}))
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(65_000):
            archive.writestr(f"{number}", b"")
    assert "directory" in in_little_memory(many.getvalue())
    assert "packed" in in_little_memory(forged({}, {}, zipfile.ZIP_BZIP2))


def test_a_declared_size_that_is_not_so():
    """The directory says one thing, the data another."""
    content = bytearray(content_of(small()))
    at = content.rfind(b"PK\1\2")
    for size in (0, 1, 1000, 1 << 30):
        struct.pack_into("<L", content, at + 24, size)
        with pytest.raises(SnapshotError):
            load(bytes(content))


CONTENT = content_of(small())


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, len(CONTENT)),
    st.none() | st.tuples(st.integers(0, len(CONTENT)), st.binary(max_size=40)),
)
def test_any_damage(flips, cut, inserted):
    content = bytearray(CONTENT)
    for at, value in flips:
        content[at] = value
    if inserted:
        content[inserted[0] : inserted[0]] = inserted[1]
    try:
        loaded = load(bytes(content[:cut]))
    except SnapshotError:
        return
    check_consistent(loaded)


@settings(max_examples=400)
@given(st.data())
def test_any_damage_that_checksums_do_not_see(data):
    """The members are changed before they are packed."""
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        name = data.draw(st.sampled_from(archive.namelist()))
        member = bytearray(archive.read(name))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(member) - 1))
        member[at] = data.draw(st.integers(0, 255))
    try:
        loaded = load(forged(None, {name.removesuffix(".npy"): bytes(member)}))
    except SnapshotError:
        return
    check_consistent(loaded)


def check_consistent(loaded):
    """All that can be asked of a snapshot has an answer."""
    check_runs(loaded.states, loaded.mappings)
    loaded.usage()
    loaded.diff(loaded)
    repr(loaded)
    assert loaded.state(0, 12 * loaded.page_size).tolist() is not None
    check_same(loaded, load(content_of(loaded)))
