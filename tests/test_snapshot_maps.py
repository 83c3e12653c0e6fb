"""Entries with the mappings that were saved beside them, and the live files of processes."""

import io
import os
import random

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import memory
from compare import check_runs
from fastpagemap import Mapping, Snapshot, State
from linux import PAGE
from needs import need
from oracle import many_words
from reused import process_with
from snapshots import check_same, content_of, load
from victim import Victim, parted

PRESENT = 1 << 63


def text_of(mappings):
    """What the kernel would write of mappings."""
    lines = []
    for m in mappings:
        device = f"{os.major(m.device):02x}:{os.minor(m.device):02x}"
        path = os.fsencode(m.path).replace(b"\n", b"\\012")
        words = f"{m.start:08x}-{m.end:08x} {m.permissions} {m.offset:08x} {device} {m.inode} "
        lines.append(words.encode().ljust(73 if path else 0) + path + b"\n")
    return b"".join(lines)


@pytest.mark.parametrize("name", ["maps", "smaps"])
def test_saved_maps_of_a_process(name, tmp_path):
    """From the middle of one mapping to the middle of another one."""
    with Victim() as victim:
        span = victim.make("file_copied", 20)
        other = victim.make("sparse", 30)
        low, high = sorted((span.start, other.start))
        low, high = low + 5 * PAGE, high + 7 * PAGE
        need((high - low) // PAGE < 1 << 20, "two mappings that are near each other")
        with open(f"/proc/{victim.pid}/{name}", "rb") as file:
            (tmp_path / name).write_bytes(file.read())
        with fpm.PageMap(victim.pid) as pm:
            entries, whole = pm.read(low, high).entries, pm.snapshot()
    found = Snapshot.from_entries(entries, low, maps=tmp_path / name)
    parts = [m for m in whole.mappings if m.start < high and low < m.end]
    assert found.mappings[1:-1] == parts[1:-1]
    first = parts[0]
    moved = first.offset + (low - first.start if first.inode else 0)
    assert found.mappings[0] == first._replace(start=low, offset=moved)
    assert found.mappings[-1] == parts[-1]._replace(end=high)
    known = np.uint64(State.PRESENT | State.SWAPPED | State.SHARED | State.EXCLUSIVE)
    assert (found.state(low, high) & known == whole.state(low, high) & known).all()
    check_runs(found.states, found.mappings)
    check_same(load(content_of(found)), found)
    for maps in (whole.mappings, io.BytesIO(text_of(whole.mappings))):
        assert Snapshot.from_entries(entries, low, maps=maps).mappings == found.mappings


def test_every_page_is_in_its_mapping():
    """Made up, and compared page by page; what no mapping has is in nameless ones."""
    for seed in range(150):
        chance = random.Random(seed)
        words = [PRESENT * (chance.random() < chance.choice((0.05, 0.9))) for _ in range(900)]
        edges = sorted(chance.sample(range(2000), 2 * chance.randrange(1, 9)))
        named = [
            Mapping(a * PAGE, b * PAGE, "rw-p", 0, 0, 0, f"/{a}")
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ]
        first = chance.randrange(900)
        found = Snapshot.from_entries(np.array(words, np.uint64), first * PAGE, maps=named)
        check_runs(found.states, found.mappings)
        check_same(load(content_of(found)), found)
        start, end = first * PAGE, (first + 900) * PAGE
        states = [State.PRESENT if word else 0 for word in words]
        assert found.state(start, end).tolist() == states, seed
        some = [m for m in found.mappings if m.path != "[unknown]"]
        cut = [m._replace(start=max(m.start, start), end=min(m.end, end)) for m in named]
        assert some == [m for m in cut if m.start < m.end], seed
        for m in found.mappings:
            if m.path == "[unknown]":  # it begins and ends with a page, and no named one is in it
                assert found.state(m.start, m.start + PAGE)[0], seed
                assert found.state(m.end - PAGE, m.end)[0], seed


def test_of_shared_memory_empty_entries_tell_nothing():
    with backed.shared_anonymous(12) as shared, memory.untouched(3) as private:
        shared.drop(0, 12)
        with fpm.PageMap() as pm:
            maps = pm.mappings()
            for made, state in ((shared, State.UNKNOWN), (private, 0)):
                entries = pm.read(made.start, made.end).entries["value"] & np.uint64(PRESENT)
                entries[2] = PRESENT
                found = Snapshot.from_entries(entries, made.start, maps=maps)
                states = found.state(made.start, made.end).tolist()
                assert states == [*[state] * 2, State.PRESENT, *[state] * (made.pages - 3)]
                check_same(load(content_of(found)), found)
                unknown = found.usage(fields=["unknown"])["unknown"].sum()
                assert unknown == (made.pages - 1) * PAGE * bool(state)


def test_a_file_that_ends_in_a_hole(tmp_path):
    """There are entries of it, too: nothing is there."""
    path = tmp_path / "entries"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    whole = Mapping(0, 1 << 40, "rw-p", 0, 0, 0, "/a")
    found = Snapshot.from_entries(path, maps=[whole])
    assert found.mappings == [whole._replace(end=(1 << 20) // 8 * PAGE)]


LINE = b"00400000-00500000 r-xp 00000000 08:02 173521 /usr/bin/dbus\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"root:x:0:0:root:/root:/bin/bash\n",
        os.urandom(4096) + b"\0",
        LINE + b"00600000-00700000 r-xp\n",
        LINE.replace(b"00400000", b"00400001"),
        LINE.replace(b"00500000", b"00400000"),
        LINE.replace(b"00500000", b"00300000"),
        LINE.replace(b"r-xp", b"rwxq"),
        LINE.replace(b"dbus", b"db\0us"),
        LINE.replace(b"00500000", b"ffffffffffff0000"),
        LINE.replace(b"00500000", b"0" * 17),
        b"Size: 4 kB\n",
    ],
)
def test_what_are_no_maps(text):
    with pytest.raises(ValueError, match=r"mappings|not one of /proc/PID/maps"):
        Snapshot.from_entries(np.zeros(4, np.uint64), maps=io.BytesIO(text))


def test_maps_without_an_end():
    class Endless:
        def read(self, size):
            return LINE * (size // len(LINE))

    with pytest.raises(ValueError, match="more than 64 MiB"):
        Snapshot.from_entries(np.zeros(4, np.uint64), maps=Endless())


def test_texts_that_are_maps():
    odd = os.fsdecode(b"/a b\xff\n (deleted)")
    wanted = [Mapping(PAGE, 2 * PAGE, "r--s", 3 * PAGE, os.makedev(8, 300), 7, odd)]
    for text in (text_of(wanted), text_of(wanted).rstrip(b"\n")):
        found = Snapshot.from_entries(np.zeros(4, np.uint64), maps=io.BytesIO(text))
        assert found.mappings == wanted
    with pytest.raises(TypeError, match="binary"):
        Snapshot.from_entries(np.zeros(4, np.uint64), maps=io.StringIO("a"))


# ---- live files ----------------------------------------------------------------------------------


def test_the_pagemap_of_a_process_is_that_process(tmp_path):
    with parted() as victim:
        path = f"/proc/{victim.pid}/pagemap"
        (tmp_path / "link").symlink_to(path)
        with fpm.PageMap(victim.pid) as pm, open(path, "rb") as file:
            whole = pm.snapshot()
            task = f"/proc/{victim.pid}/task/{victim.pid}/pagemap"
            for source in (path, os.fsencode(path), file, task, tmp_path / "link"):
                found = Snapshot.from_entries(source)
                assert (found.pid, found.name) == (victim.pid, whole.name)
                assert found.mappings == whole.mappings
                assert found.states.tolist() == whole.states.tolist()
            for more in ({"start": PAGE}, {"maps": f"/proc/{victim.pid}/maps"}):
                with pytest.raises(ValueError, match="neither start nor maps"):
                    Snapshot.from_entries(path, **more)
    assert Snapshot.from_entries("/proc/self/pagemap").pid == os.getpid()


def test_the_pagemap_of_one_that_ended_or_called_exec():
    with Victim() as victim, open(f"/proc/{victim.pid}/pagemap", "rb") as file:
        victim.exec()
        with pytest.raises(ProcessLookupError):
            Snapshot.from_entries(file)
        assert Snapshot.from_entries(f"/proc/{victim.pid}/pagemap").pid == victim.pid
        victim.kill()
        with pytest.raises(ProcessLookupError):
            Snapshot.from_entries(file)


@pytest.mark.root
def test_another_process_that_has_the_pid():
    with Victim() as victim, open(f"/proc/{victim.pid}/pagemap", "rb") as file:
        victim.kill()
        with process_with(victim.pid) as other:
            with pytest.raises(ProcessLookupError):
                Snapshot.from_entries(file)
            assert Snapshot.from_entries(f"/proc/{other.pid}/pagemap").pid == other.pid
            other.communicate(b"\n")


@pytest.mark.root
def test_a_pagemap_of_another_proc():
    with backed.mounted("proc") as directory:
        path = os.path.join(directory, "self", "pagemap")
        with pytest.raises(ProcessLookupError, match="another /proc"):
            Snapshot.from_entries(path)


def test_a_file_with_such_a_name(tmp_path):
    """It is in no /proc."""
    path = tmp_path / str(os.getpid()) / "pagemap"
    path.parent.mkdir()
    path.write_bytes(many_words(0, 4 * PAGE))
    assert Snapshot.from_entries(path).pid == 0
