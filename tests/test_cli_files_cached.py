"""fastpagemap files: what of files is cached, and who maps them, held against the kernel."""

import fcntl
import json
import mmap
import os
import re
import signal
import stat
import tempfile

import pytest

import backed
import fastpagemap as fpm
import fuse
import linux
import runas
import swap
from commandline import run
from memory import Memory
from needs import Absent, need

pytest.importorskip("click")

PAGE = fpm.PAGE_SIZE
# Some process of the machine may not answer: it is given up soon.
SOON = ("--timeout", "2")


@pytest.fixture
def disk():
    """A file on a disk, by its path: 64 pages, written back."""
    path = os.path.join(backed.disk_directory(), f"fastpagemap-{os.getpid()}-cached")
    try:
        with open(path, "xb") as file:  # closed again: what is open may get no lease
            file.write(b"x" * 64 * PAGE)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        os.unlink(path)


def asked(*paths):
    said = run("files", *paths, "--json", *SOON)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def one(path):
    (found,) = asked(path)["files"]
    return found


def dropped(path, first, pages):
    """Drop pages of a file from the cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), first * PAGE, pages * PAGE, os.POSIX_FADV_DONTNEED)


def in_core(path):
    """Bytes of a file in the page cache, by mincore: the slow twin."""
    with open(path, "rb") as file:
        memory = Memory(
            os.path.getsize(path) // PAGE, mmap.MAP_SHARED, mmap.PROT_READ, os.dup(file.fileno())
        )
        vector = bytearray(memory.pages)
        place = (linux.ctypes.c_char * len(vector)).from_buffer(vector)
        linux.call("mincore", memory.start, memory.pages * PAGE, place)
        memory.close()
    return sum(byte & 1 for byte in vector) * PAGE


def test_what_is_cached_is_what_mincore_says(disk):
    dropped(disk, 0, 64)
    assert one(disk)["cached"] == in_core(disk)
    with open(disk, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 8 * PAGE, 16 * PAGE)
    found = one(disk)
    assert found["cached"] == in_core(disk) >= 8 * PAGE
    assert found["size"] == 64 * PAGE
    assert found["processes"] == []


def test_what_is_written_is_dirty(disk):
    need(fpm.capabilities().cachestat, "cachestat", Absent)
    assert one(disk)["dirty"] == 0
    dirty = 0
    for _ in range(3):  # the kernel writes back by itself, and may have done so already
        with open(disk, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"y" * 4 * PAGE, 0)
            found = one(disk)
        dirty = max(dirty, found["dirty"] + found["writeback"])
    # All of a large folio counts as dirty.
    assert 4 * PAGE <= dirty <= 64 * PAGE
    assert found["swapped"] is None


def test_who_maps_it_and_what_is_present_there(disk):
    shared = Memory(16, mmap.MAP_SHARED, fd=os.open(disk, os.O_RDWR))
    private = Memory(32, mmap.MAP_PRIVATE, fd=os.open(disk, os.O_RDWR), offset=8)
    shared.write(step=4)
    private.write(step=8)
    found = {user["pid"]: user for user in one(disk)["processes"]}
    mine = found.pop(os.getpid())
    with fpm.PageMap() as pagemap:
        spans = [(each.start, each.end) for each in (shared, private)]
        present = sum(int(pagemap.shared(*span).sum()) for span in spans)
        copies = int((pagemap.present(*spans[1]) & ~pagemap.shared(*spans[1])).sum())
    private.close()
    shared.close()
    assert copies == 4
    assert mine["mapped"] == 48 * PAGE
    assert mine["present"] == present * PAGE
    assert mine["name"]
    assert not found
    assert one(disk)["processes"] == []


def test_the_table_has_the_same(disk):
    shared = Memory(16, mmap.MAP_SHARED, fd=os.open(disk, os.O_RDWR))
    shared.write()
    said = run("files", disk, *SOON)
    shared.close()
    first, head, row, _, whose, names, mine = said.stdout.decode().splitlines()
    assert re.fullmatch(r"# files in the page cache, 20\d\d-\S+ \S+, Linux \S+", first)
    assert head.split() == [
        *("size", "allocated", "cached", "dirty", "writeback", "swapped", "processes", "path")
    ]
    assert row.split()[0] == "256Ki"
    assert row.split()[-2:] == ["1", disk]
    assert whose == f"processes that map {disk}"
    assert names.split() == ["pid", "mapped", "present", "name"]
    assert mine.split()[:3] == [str(os.getpid()), "64Ki", "64Ki"]


def test_a_sparse_file_costs_what_is_in_it(disk):
    os.truncate(disk, 1 << 40)
    with open(disk, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"z" * PAGE, 1 << 39)
    found = one(disk)
    assert found["size"] == 1 << 40
    assert 65 * PAGE <= found["allocated"] <= 1 << 20
    assert found["cached"] == 65 * PAGE


def test_only_regular_files_are_opened(disk, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    odd = [pipe, tmp_path, "/dev/null"]
    for path in odd:
        said = run("files", path)
        assert (said.returncode, said.stdout) == (1, b"")
        assert said.stderr.count(b"\n") == 1
    found = asked(*odd, disk, tmp_path / "absent")
    assert [file["path"] for file in found["files"]] == [disk]
    assert [each["path"] for each in found["refused"]] == [*map(str, odd), f"{tmp_path}/absent"]
    said = run("files", disk, pipe, *SOON)
    assert said.returncode == 0
    assert f"fastpagemap: {pipe}: it is a named pipe\n".encode() in said.stderr


def test_no_access_time_changes(disk):
    # Older than the last change: whoever reads it or maps it changes it, with relatime, too.
    os.utime(disk, (1e9, os.stat(disk).st_mtime))
    one(disk)
    assert os.stat(disk).st_atime == 1e9


def test_no_lease_is_broken(disk):
    came = []
    before = signal.signal(signal.SIGIO, lambda *arguments: came.append(arguments))
    holder = os.open(disk, os.O_RDWR)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        said = run("files", disk)
        assert fcntl.fcntl(holder, fcntl.F_GETLEASE) == fcntl.F_WRLCK
    finally:
        os.close(holder)
        signal.signal(signal.SIGIO, before)
    assert not came
    assert said.returncode == 1
    assert b"lease" in said.stderr


@pytest.mark.root
def test_a_server_that_does_not_answer_is_given_up(disk):
    with fuse.mounted() as mounted:
        children = f"/proc/self/task/{os.getpid()}/children"
        need(os.path.exists(children), children, Absent)
        with open(children) as file:
            server = int(file.read().split()[-1])
        found = asked(mounted.path)["files"]
        assert [file["cached"] for file in found] == [0]
        os.kill(server, signal.SIGSTOP)
        try:
            os.waitpid(server, os.WUNTRACED)
            said = run("files", mounted.path, disk, "--timeout", "0.3")
        finally:
            os.kill(server, signal.SIGCONT)
    assert said.returncode == 0
    assert disk.encode() in said.stdout
    assert b"no answer within 0.3 s" in said.stderr


def test_a_memfd_in_swap(any_swap):
    need(fpm.capabilities().cachestat, "cachestat", Absent)
    memory = backed.memfd(32)
    path = f"/proc/{os.getpid()}/fd/{memory.fd}"
    swap.pageout(memory.start, memory.start + 24 * PAGE)
    before = one(path)
    memory.read(8)
    after = one(path)
    memory.close()
    assert before["swapped"] >= 24 * PAGE
    assert before["swapped"] + before["cached"] == 32 * PAGE
    assert after["swapped"] <= 8 * PAGE


@pytest.mark.root
def test_a_file_that_this_user_may_not_write(disk):
    os.chmod(disk, stat.S_IRUSR | stat.S_IROTH)

    def cached():
        from fastpagemap.engine.file_caches import cache_of

        try:
            return cache_of(disk)
        except fpm.UnsupportedError as error:
            return error.strerror

    assert "owner of the file" in runas.as_nobody(cached)


@pytest.mark.root
def test_a_file_of_an_overlay_shows_the_pages_of_its_layer():
    with tempfile.TemporaryDirectory(dir=backed.disk_directory()) as base:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{base}/{name}")
        with open(f"{base}/lower/file", "wb") as file:
            file.write(b"x" * 16 * PAGE)
        options = ",".join(f"{name}dir={base}/{name}" for name in ("lower", "upper", "work"))
        with backed.mounted("overlay", options) as directory:
            path = f"{directory}/file"
            memory = Memory(8, mmap.MAP_SHARED, mmap.PROT_READ, os.open(path, os.O_RDONLY))
            memory.read()
            found = one(path)
            memory.close()
    assert found["cached"] == 16 * PAGE
    assert found["dirty"] is None
    assert [user["pid"] for user in found["processes"]] == [os.getpid()]
    assert found["processes"][0]["present"] == 8 * PAGE
