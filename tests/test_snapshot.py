"""Snapshots: what is in them, their files, and what files of strangers may do: nothing."""

import builtins
import dataclasses
import errno
import functools
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastpagemap as fpm
import kinds
import memory
import oracle
import runas
import swap
from compare import by_page, check_runs
from fastpagemap import Mapping, Snapshot, SnapshotError, State
from fastpagemap.snapshot import file_format
from linux import PAGE
from victim import Victim

PAGES = 37


@functools.cache
def whole():
    """A snapshot of this process."""
    with fpm.PageMap() as pm:
        return pm.snapshot()


def small(**changes):
    """A snapshot of this process, made small, with some fields changed."""
    taken = whole()
    spans = [
        Mapping(2 * PAGE, 6 * PAGE, "rw-p", 0, 0, 0, ""),
        Mapping(6 * PAGE, 9 * PAGE, "r--s", 4096, 8, 9, os.fsdecode(b"/odd \xff\xc3\n\x1b[2J\\")),
    ]
    rows = [(2, 3, 1 | 16), (3, 6, 2), (6, 7, 2), (8, 9, 1 | 8)]
    runs = np.array([(a * PAGE, b * PAGE, c) for a, b, c in rows], fpm.RUN_DTYPE)
    return dataclasses.replace(taken, **{"mappings": spans, "states": runs, **changes})


def content_of(snapshot):
    file = io.BytesIO()
    snapshot.save(file)
    return file.getvalue()


def load(content):
    return Snapshot.load(io.BytesIO(content))


def check_same(one, other):
    for field in dataclasses.fields(Snapshot):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        if field.name == "states":
            assert mine.dtype == its.dtype == fpm.RUN_DTYPE
            mine, its = mine.tolist(), its.tolist()
        assert mine == its, field.name


# What is in it.


def test_of_a_process():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("sparse", PAGES)
        taken = pm.snapshot()
        assert (taken.pid, taken.page_size) == (victim.pid, PAGE)
        with open(f"/proc/{victim.pid}/comm") as file:
            assert taken.name == file.read().strip()
        with open(f"/proc/{victim.pid}/cmdline") as file:
            assert taken.command == file.read().strip("\0").replace("\0", " ")
        assert (taken.kernel, taken.machine) == (os.uname().release, os.uname().machine)
        assert taken.capabilities == fpm.capabilities(victim.pid)
        assert taken.soft_dirty == taken.capabilities.soft_dirty
        assert taken.mappings == pm.mappings()
        assert taken.states.tolist() == pm.states().tolist()
        told = taken.state(span.start - 4 * PAGE, span.end + 4 * PAGE)
        assert told.dtype == np.uint64
        assert told.tolist() == by_page(pm.states(), span.start - 4 * PAGE, span.end + 4 * PAGE)
        assert np.count_nonzero(told & State.PRESENT) == -(-PAGES // 3)
        check_same(taken, load(content_of(taken)))
        with pytest.raises(dataclasses.FrozenInstanceError):
            taken.pid = 1


def test_state_of_any_span():
    snapshot = small()
    whole = by_page(snapshot.states, 0, 12 * PAGE)
    for first in range(12):
        for last in range(first, 13):
            told = snapshot.state(first * PAGE, last * PAGE)
            assert told.tolist() == whole[first:last]
    out = np.full(3, 77, np.uint64)
    assert snapshot.state(3 * PAGE, 6 * PAGE, out) is out
    assert out.tolist() == [2, 2, 2]
    assert snapshot.state(2**64 - PAGE, 2**64).tolist() == [0]
    with pytest.raises(ValueError, match="aligned"):
        snapshot.state(1, PAGE)
    with pytest.raises(ValueError, match="out is"):
        snapshot.state(0, PAGE, out)
    with pytest.raises(MemoryError):
        snapshot.state(0, 1 << 60)


def test_usage_of_what_could_not_be_known():
    able = dataclasses.replace(small().capabilities, scan=False, soft_dirty=False)
    snapshot = small(capabilities=able, soft_dirty=False)
    table = snapshot.usage()
    assert {"huge", "soft_dirty"}.isdisjoint(table.dtype.names)
    assert table["swapped"].tolist() == [3 * PAGE, PAGE]
    assert snapshot.usage(["size", "shared"]).tolist() == [(4 * PAGE, 0), (3 * PAGE, PAGE)]
    for name in ("huge", "soft_dirty"):
        with pytest.raises(fpm.UnsupportedError, match=name):
            snapshot.usage([name])
    with pytest.raises(ValueError, match="rss"):
        snapshot.usage(["rss"])
    assert len(small(mappings=[], states=snapshot.states[:0]).usage()) == 0


def test_as_nobody():
    def take():
        with memory.sparse(PAGES) as made, fpm.PageMap() as pm:
            taken = load(content_of(pm.snapshot()))
            check_runs(taken.states, taken.mappings)
            return np.count_nonzero(taken.state(made.start, made.end) & State.PRESENT)

    assert runas.as_nobody(take) == -(-PAGES // 3)


def test_while_the_process_maps_and_unmaps():
    """Whatever happens meanwhile, what comes of it can be saved and loaded."""
    done = threading.Event()

    def work():
        while not done.is_set():
            with memory.touched(PAGES, step=2) as made:
                made.protect(memory.READ, 10, 20)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with fpm.PageMap() as pm:
            for _ in range(60):
                taken = pm.snapshot()
                check_same(taken, load(content_of(taken)))
    finally:
        done.set()
        worker.join()


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.01, 0.1])
def test_a_process_that_dies_meanwhile(moment):
    """Either all of it, or ProcessLookupError."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        span = victim.make("touched", 5000)
        killer = threading.Timer(moment, os.kill, (victim.pid, signal.SIGKILL))
        killer.start()

        def look():
            while True:
                state = pm.snapshot().state(span.start, span.end)
                assert np.count_nonzero(state & State.PRESENT) == 5000

        with pytest.raises(ProcessLookupError):
            look()
        killer.join()


# Files.


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


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"what was there")

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        small().save(path)
    assert path.read_bytes() == b"what was there"
    assert os.listdir(tmp_path) == ["a"]


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


def test_compact():
    """4 GiB of which every second page is there."""
    pages = np.arange(0, 1 << 20, 2, dtype=np.uint64)
    runs = np.empty(len(pages), fpm.RUN_DTYPE)
    runs["start"], runs["end"], runs["state"] = pages * PAGE, (pages + 1) * PAGE, 17
    snapshot = small(mappings=[Mapping(0, PAGE << 20, "rw-p", 0, 0, 0, "")], states=runs)
    content = content_of(snapshot)
    assert len(content) < 100_000
    check_same(snapshot, load(content))
    # and as irregular as can be
    rng = np.random.default_rng(1)
    runs = runs[rng.random(len(runs)) < 0.5]
    runs["state"] = rng.choice([1, 9, 17, 2], len(runs))
    snapshot = dataclasses.replace(snapshot, states=runs)
    assert len(content_of(snapshot)) < 1 << 20
    check_same(snapshot, load(content_of(snapshot)))


# Files of strangers.


def forged(changes=None, members=None, compression=zipfile.ZIP_DEFLATED):
    """A file with other metadata, or other arrays or bytes as its members."""
    snapshot = small()
    with zipfile.ZipFile(io.BytesIO(content_of(snapshot))) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    if changes is not None:
        metadata = json.loads(np.load(io.BytesIO(contents["metadata.npy"])).tobytes())
        metadata = {**metadata, **changes} if isinstance(changes, dict) else changes
        text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
        contents["metadata.npy"] = npy(np.frombuffer(text, np.uint8))
    for name, value in (members or {}).items():
        contents[f"{name}.npy"] = value if isinstance(value, bytes) else npy(value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, value in contents.items():
            if value:
                archive.writestr(name, value)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()


def test_the_forger_can_make_good_ones():
    made = load(forged({}, {}))
    assert (made.pid, made.uid) == (os.getpid(), os.geteuid())


def test_a_file_of_before_the_user_was_kept():
    content = content_of(small())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        metadata = json.loads(np.load(io.BytesIO(archive.read("metadata.npy"))).tobytes())
    del metadata["uid"]
    assert load(forged(json.dumps(metadata).encode())).uid is None


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
GOOD = {"gaps": [2, 0, 0, 1], "lengths": [1, 3, 1, 1], "states": [17, 2, 2, 9]}


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


def test_runs_that_are_not_joined_or_cross_a_border():
    for lengths, gaps, states in (
        ([1, 1, 2, 1, 1], [2, 0, 0, 0, 1], [17, 2, 2, 2, 9]),
        ([1, 4, 1], [2, 0, 1], [17, 2, 9]),
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


# Entries alone.


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
    assert expected.usage(["present"])["present"].tolist() == [4 * PAGE, PAGE]
    with pytest.raises(fpm.UnsupportedError):
        expected.usage(["huge"])


def test_entries_that_are_none(tmp_path):
    path = tmp_path / "words"
    for content in (b"1234567", bytes(8 * 600) + b"1"):
        path.write_bytes(content)
        for source in (path, io.BytesIO(content)):
            with pytest.raises(ValueError, match="whole number"):
                Snapshot.from_entries(source)
    with pytest.raises(ValueError, match="aligned"):
        Snapshot.from_entries(np.zeros(1, np.uint64), 1)
    with pytest.raises(ValueError, match="no address"):
        Snapshot.from_entries(np.ones(3, np.uint64), 2**64 - 2 * PAGE)
    with pytest.raises(ValueError, match="dtype"):
        Snapshot.from_entries(np.zeros(3, np.float32))
    with pytest.raises(FileNotFoundError):
        Snapshot.from_entries(tmp_path / "none")
    assert len(Snapshot.from_entries(np.zeros(0, np.uint64)).states) == 0


# Arrow.


def test_arrow():
    snapshot = small()
    table = snapshot.to_arrow()
    rows = table.to_pylist()
    assert [row["start"] for row in rows] == snapshot.states["start"].tolist()
    assert [row["state"] for row in rows] == snapshot.states["state"].tolist()
    assert [row["mapping_start"] for row in rows] == [2 * PAGE, 2 * PAGE, 6 * PAGE, 6 * PAGE]
    assert rows[3]["mapping_permissions"] == "r--s"
    assert rows[3]["mapping_path"] == "/odd \ufffd\ufffd\n\x1b[2J\\"
    assert small(states=snapshot.states[:0]).to_arrow().num_rows == 0


def test_arrow_without_pyarrow(monkeypatch):
    real = builtins.__import__

    def importing(name, *rest, **more):
        if name == "pyarrow":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=r"pip install 'fastpagemap\[arrow\]'"):
        small().to_arrow()


def test_the_import_stays_small():
    program = "import sys, fastpagemap; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"pyarrow", "fastpagemap.snapshot.file_format"}.isdisjoint(modules)
