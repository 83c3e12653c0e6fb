"""Snapshots in files: what is saved is loaded again, whole or not at all."""

import dataclasses
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

import backed
import fastpagemap as fpm
from fastpagemap import Mapping, Snapshot
from linux import PAGE
from snapshots import check_same, content_of, load, small


@pytest.mark.parametrize("as_path", [str, os.fsencode, lambda path: path], ids=["str", "b", "path"])
def test_a_file(tmp_path, as_path):
    snapshot, path = small(), tmp_path / "a.snapshot"
    for _ in range(2):
        snapshot.save(as_path(path))
        check_same(Snapshot.load(as_path(path)), snapshot)
    assert os.listdir(tmp_path) == ["a.snapshot"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    path.chmod(0o600)
    snapshot.save(as_path(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("real")
    small().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Snapshot.load(tmp_path / "real").pid == os.getpid()


def test_numpy_reads_it(tmp_path):
    snapshot = small()
    snapshot.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert json.loads(arrays["metadata"].tobytes())["version"] == 1
        assert arrays["gaps"].tolist() == [2, 0, 0, 1]
        assert arrays["lengths"].tolist() == [1, 3, 1, 1]
        assert arrays["states"].tolist() == snapshot.states["state"].tolist()
        assert arrays["paths"].tobytes() == b"\0/odd \xff\xc3\n\x1b[2J\\\0"


def test_names_with_any_byte():
    name = os.fsdecode(bytes(range(1, 256)))
    for changes in ({"name": name}, {"command": name}, {"command": None}, {"name": ""}):
        snapshot = small(**changes)
        check_same(snapshot, load(content_of(snapshot)))


def test_an_empty_one():
    snapshot = small(mappings=[], states=np.empty(0, fpm.RUN_DTYPE))
    check_same(snapshot, load(content_of(snapshot)))


@pytest.mark.root
def test_a_disk_that_is_full():
    with backed.mounted("tmpfs", "size=16k") as directory:
        path = Path(directory, "a")
        path.write_bytes(b"what was there")
        with pytest.raises(OSError, match="No space left"):
            irregular().save(path)
        assert path.read_bytes() == b"what was there"
        assert os.listdir(directory) == ["a"]


def test_a_file_that_may_grow_no_more(tmp_path):
    """The kernel says EFBIG in the middle of it."""
    path = tmp_path / "a"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            small().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


def test_a_pipe():
    snapshot = small()
    reader, writer = os.pipe()
    try:
        snapshot.save(f"/dev/fd/{writer}")
        os.close(writer)
        check_same(Snapshot.load(f"/dev/fd/{reader}"), snapshot)
    finally:
        os.close(reader)


def striped():
    """A snapshot of 4 GiB of which every second page is there."""
    pages = np.arange(0, 1 << 20, 2, dtype=np.uint64)
    runs = np.empty(len(pages), fpm.RUN_DTYPE)
    runs["start"], runs["end"], runs["state"] = pages * PAGE, (pages + 1) * PAGE, 17
    return small(mappings=[Mapping(0, PAGE << 20, "rw-p", 0, 0, 0, "")], states=runs)


def irregular():
    """The same, as irregular as can be."""
    snapshot, rng = striped(), np.random.default_rng(1)
    runs = snapshot.states[rng.random(len(snapshot.states)) < 0.5]
    runs["state"] = rng.choice([1, 9, 17, 2], len(runs))
    return dataclasses.replace(snapshot, states=runs)


@pytest.mark.parametrize(("make", "most"), [(striped, 100_000), (irregular, 1 << 20)])
def test_compact(make, most):
    snapshot = make()
    content = content_of(snapshot)
    assert len(content) < most
    check_same(snapshot, load(content))
