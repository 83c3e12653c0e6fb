"""Ranges of /proc/PID/maps, without an object for each mapping, next to its rows."""

import os

import numpy as np
import pytest

from fastpagemap._kernel.ranges import Ranges
from linux import PAGE
from needs import Absent, need

ANONYMOUS, CLIPPED = 1, 128
DISK, TMPFS = "fe:00 7", "00:01 8"


def line(first, last, device="00:00 0", path=""):
    """A line of maps, for some pages."""
    return f"{first * PAGE:x}-{last * PAGE:x} rw-p 00000000 {device} {path}\n"


def parsed(*lines):
    found = Ranges()
    found.feed("".join(lines).encode())
    return found


def segments(found, together, diskless=True):
    """Each segment's first page, last page and kind."""
    starts, ends, kinds = found.segments(ANONYMOUS, together, diskless)
    bounds = [(np.frombuffer(each, np.uint64) // PAGE).tolist() for each in (starts, ends)]
    return list(zip(*bounds, kinds, strict=True))


def test_of_this_process():
    with open("/proc/self/maps", "rb") as file:
        text = file.read()
    found = Ranges()
    found.feed(text)
    bounds = [line.split()[0].split(b"-") for line in text.splitlines()]
    bounds = [(int(start, 16), int(end, 16)) for start, end in bounds]
    assert len(found) == len(bounds)
    assert found.size == sum(end - start for start, end in bounds)
    assert segments(found, False) == [
        (start // PAGE, end // PAGE, kind)
        for (start, end), (_, _, kind) in zip(bounds, segments(found, False), strict=False)
        if start < 1 << 63
    ]


@pytest.mark.parametrize("path", ["", "[heap]", "[stack]", "[anon:name]"])
def test_large_anonymous_memory_is_told_apart(path):
    some = [line(0, 600, path=path), line(600, 610, path=path), line(610, 1300, DISK, "/a")]
    found = parsed(*some)
    assert segments(found, False) == [(0, 600, ANONYMOUS), (600, 610, 0), (610, 1300, 0)]
    assert segments(found, True) == [(0, 600, ANONYMOUS), (600, 1300, CLIPPED)]


@pytest.mark.parametrize("where", ["[vvar]", "[vdso]", "[uprobes]"])
def test_the_kernels_own_is_not_anonymous(where):
    assert segments(parsed(line(0, 600, path=where)), False) == [(0, 600, 0)]


def test_neighbours_are_one_segment_with_the_gap():
    some = [line(0, 1), line(1, 2, DISK, "/a"), line(514, 515), line(1028, 1029)]
    assert segments(parsed(*some), True) == [(0, 515, CLIPPED), (1028, 1029, CLIPPED)]


@pytest.mark.parametrize("device", ["00:00 0", DISK, TMPFS, "00:2b 9"])
def test_files_that_are_on_no_disk(device):
    some = [line(0, 1), line(1, 2, device, "/a"), line(2, 3, DISK, "/b")]
    found = parsed(*some)
    on_none = device not in ("00:00 0", DISK)
    assert found.diskless == ([(PAGE, 2 * PAGE)] if on_none else [])
    whole = [(0, 3, CLIPPED)]
    assert segments(found, True) == whole
    apart = [(0, 1, CLIPPED), (2, 3, CLIPPED)]
    assert segments(found, True, diskless=False) == (apart if on_none else whole)
    apart = [(0, 1, 0), (2, 3, 0)]
    assert (segments(found, False, diskless=False) == apart) == on_none


def test_all_files_are_on_no_disk():
    found = parsed(line(0, 600, TMPFS, "/a"), line(601, 602, TMPFS, "/b"))
    assert segments(found, True, diskless=False) == []


def test_the_kernels_half_is_counted_and_not_walked():
    found = parsed(line(0, 1), "ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]\n")
    assert (len(found), found.size) == (2, PAGE + 0x1000)
    assert segments(found, True) == [(0, 1, CLIPPED)]


@pytest.mark.parametrize("device", ["00:00 0", DISK, TMPFS])
def test_a_mapping_that_grew_meanwhile_is_there_once(device):
    """The file shows it twice: see Parser."""
    some = [line(0, 4), line(4, 6, device), line(6, 8), line(8, 9), line(5, 12, device)]
    found = parsed(*some)
    assert (len(found), found.size) == (3, 12 * PAGE)
    assert segments(found, False) == [(0, 4, 0), (4, 5, 0), (5, 12, 0)]


def test_many_mappings():
    some = [line(2 * number, 2 * number + 1) for number in range(5000)]
    found = parsed(*some)
    assert segments(found, False) == [(2 * n, 2 * n + 1, 0) for n in range(5000)]


@pytest.mark.parametrize("text", [b"1000-2000", b"1000-2000\n", b"1000-2000 rw-p 0 00:00 0"])
def test_what_is_no_line(text):
    with pytest.raises(ValueError, match="line of /proc/PID/maps"):
        Ranges().feed(text)


# ---- looked up one by one -----------------------------------------------------------------------


def looked_up(pid):
    """The ranges of a process by PROCMAP_QUERY, and whether that was possible."""
    found = Ranges()
    fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY)
    try:
        done = found.query(fd)
    finally:
        os.close(fd)
    assert done or (len(found), found.diskless) == (0, [])
    return found, done


def text_of(pid):
    found = Ranges()
    with open(f"/proc/{pid}/maps", "rb") as file:
        found.feed(file.read())
    return found


def test_looked_up_they_are_the_same(victim):
    victim.make("touched", 2000)
    found, done = looked_up(victim.pid)
    need(done, "PROCMAP_QUERY (Linux 6.11)", Absent)
    for together in (False, True):
        assert segments(found, together) == segments(text_of(victim.pid), together)
    assert ANONYMOUS in {kind for _, _, kind in segments(found, True)}


def test_where_the_text_has_to_be_read(victim):
    before, done = looked_up(victim.pid)
    need(done, "PROCMAP_QUERY (Linux 6.11)", Absent)
    made = victim.make("memfd", 5)
    found, done = looked_up(victim.pid)
    assert done
    assert set(found.diskless) - set(before.diskless) == {(made.start, made.end)}
    striped = victim.make("touched", 1000)
    victim.ask("stripe", striped.number)
    assert not looked_up(victim.pid)[1]


def test_nothing_is_looked_up_of_what_has_ended(victim):
    fd = os.open(f"/proc/{victim.pid}/maps", os.O_RDONLY)
    victim.kill()
    found = Ranges()
    assert not found.query(fd)
    os.close(fd)
