"""Files that are no snapshots and no entries, or entries of old kernels: read right, or refused."""

import fcntl
import os
import signal
import subprocess

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from fastpagemap import Snapshot, State
from linux import PAGE
from snapshots import check_same, content_of, load, small

SHIFT = PAGE.bit_length() - 1
PRESENT, SWAP, FILE = 1 << 63, 1 << 62, 1 << 61


def entries_before_4_2(shift):
    """8 pages present, 4 of a file, 512 that are not mapped, 4 in swap, as Linux 2.6.25 wrote."""
    words = [PRESENT | 0x1000 + i for i in range(8)] + [
        PRESENT | FILE | 0x2000 + i for i in range(4)
    ]
    words += [0] * 512 + [SWAP | i << 5 for i in range(4)]
    return np.array([word | shift << 55 for word in words], np.uint64)


def test_entries_that_hold_the_page_shift(tmp_path):
    path = tmp_path / "entries"
    for words in (entries_before_4_2(SHIFT), entries_before_4_2(SHIFT)[12:]):
        words.tofile(path)
        for source in (path, words, words.view(fpm.ENTRY_DTYPE)):
            taken = Snapshot.from_entries(source, 16 * PAGE)
            states = taken.state(16 * PAGE, (16 + len(words)) * PAGE).tolist()
            expected = [State.PRESENT] * 8 + [State.PRESENT | State.SHARED] * 4 + [0] * 512
            assert states == (expected + [State.SWAPPED] * 4)[-len(words) :]
            assert not taken.soft_dirty
            check_same(load(content_of(taken)), taken)
    new = np.array([PRESENT, PRESENT | 7 << 55, SWAP | 3 << 57, 1 << 55], np.uint64)
    assert Snapshot.from_entries(new).state(0, PAGE).tolist() == [State.PRESENT]


def test_entries_of_other_pages():
    with pytest.raises(ValueError, match=f"pages of {2 * PAGE} bytes.*before Linux 4.2"):
        Snapshot.from_entries(entries_before_4_2(SHIFT + 1))


def test_what_no_kernel_writes():
    for words in (
        np.arange(1, 9, dtype=np.uint64) << np.uint64(58),
        np.array([PRESENT | SHIFT << 55, PRESENT], np.uint64),
        np.array([PRESENT] + [0] * (1 << 16) + [PRESENT | SHIFT << 55], np.uint64),
        np.array([PRESENT | SHIFT << 55] + [0] * (1 << 16) + [PRESENT], np.uint64),
        np.array([PRESENT | SWAP], np.uint64),
        np.array([PRESENT | 1 << 58], np.uint64),
        np.array([PRESENT | FILE | 5], np.uint64).byteswap(),
    ):
        with pytest.raises(ValueError, match="no kernel writes"):
            Snapshot.from_entries(words)
    chance = np.random.default_rng(4)
    with pytest.raises(ValueError, match="no kernel writes"):
        Snapshot.from_entries(chance.integers(0, 1 << 64, 4096, np.uint64, endpoint=False))


def test_other_live_files_are_not_taken_for_empty_ones(tmp_path):
    with pytest.raises(ValueError, match="a live file of /proc"):
        Snapshot.from_entries("/proc/self/maps")
    with open("/proc/self/maps", "rb") as file, pytest.raises(ValueError, match="a live file"):
        Snapshot.from_entries(file)
    said = run("report", "--raw", f"/proc/{os.getpid()}/maps")
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ValueError, match="no entries"):
        Snapshot.from_entries(empty)


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path, what in (
        (pipe, "a named pipe"),
        (link, "a named pipe"),
        ("/dev/zero", "a device"),
        ("/dev/tty", "a device"),
        (os.fsencode(pipe), "a named pipe"),
    ):
        for read in (Snapshot.load, Snapshot.from_entries):
            with pytest.raises(OSError, match=what) as caught:
                read(path)
            assert caught.value.filename == os.fspath(path)
    for read in (Snapshot.load, Snapshot.from_entries):
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
    for arguments in (["report", pipe], ["report", "--raw", pipe], ["diff", pipe, pipe]):
        said = run(*arguments)
        assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)


def test_pipes_that_a_shell_made_are_read(tmp_path):
    """As in: cat FILE | fastpagemap report /dev/stdin; fastpagemap report <(cat FILE)."""
    small().save(tmp_path / "a")
    entries_before_4_2(SHIFT).tofile(tmp_path / "entries")
    for name, more in (("a", []), ("entries", ["--raw"])):
        with subprocess.Popen(["cat", tmp_path / name], stdout=subprocess.PIPE) as cat:
            command = [*COMMAND, "report", *more]
            said = subprocess.run(
                [*command, "/dev/stdin"], stdin=cat.stdout, capture_output=True, check=True
            )
        with subprocess.Popen(["cat", tmp_path / name], stdout=subprocess.PIPE) as cat:
            fd = cat.stdout.fileno()
            again = subprocess.run(
                [*command, f"/dev/fd/{fd}"], pass_fds=[fd], capture_output=True, check=True
            )
        assert said.stdout == again.stdout == run("report", *more, tmp_path / name).stdout


def test_a_lease_is_not_waited_for(tmp_path):
    path = tmp_path / "a"
    small().save(path)
    kept = signal.signal(signal.SIGIO, lambda *_: None)
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        said = run("report", path)
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, kept)
    assert said.returncode == 1
    assert b"another process has a lease on it" in said.stderr
