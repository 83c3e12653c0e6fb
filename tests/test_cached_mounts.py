"""Which pages of an overlay's files are in the page cache: a layer's, not its own (root)."""

import contextlib
import errno
import fcntl
import os
import tempfile

import pytest

import backed
import fastpagemap as fpm
import linux
import memory
import oracle_files
import runas
import seccomp
from features import has_cachestat
from linux import PAGE
from sharer import Sharer

pytestmark = pytest.mark.root

PAGES = 100
FLAGS = [backed.FILE_SHARED, backed.FILE_PRIVATE]


@contextlib.contextmanager
def overlay():
    """An overlay on a disk: the path of its one file, and that of it in the lower layer."""
    with tempfile.TemporaryDirectory(dir=backed.disk_directory()) as base:
        names = ("lower", "upper", "work")
        for name in names:
            os.mkdir(os.path.join(base, name))
        lower = os.path.join(base, "lower", "file")
        with open(lower, "wb") as file:
            file.write(os.urandom(PAGES * PAGE))
        options = ",".join(f"{name}dir={base}/{name}" for name in names)
        with backed.mounted("overlay", options) as directory:
            yield os.path.join(directory, "file"), lower


def keep(path):
    """Have every third page of a file in the page cache; return which ones are."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for page in range(0, PAGES, 3):
            os.pread(fd, 1, page * PAGE)
        return [oracle_files.is_incore(fd, page) for page in range(PAGES)]
    finally:
        os.close(fd)


def cached(made, pid=None):
    with fpm.PageMap(pid) as pm:
        (row,) = [m for m in pm.mappings() if m.start == made.start]
        mask = pm.cached(made.start, made.end)
        assert pm.usage([row], fields=["cached"])["cached"].tolist() == [mask.sum() * PAGE]
        return mask.tolist()


@pytest.mark.parametrize("flags", FLAGS)
def test_a_file_in_a_lower_layer(flags):
    with overlay() as (path, lower):
        fd = os.open(path, os.O_RDONLY)
        with memory.Memory(PAGES, flags, memory.READ, fd) as made, Sharer({}) as other:
            truth = keep(lower)
            assert any(truth)
            assert not all(truth)
            assert cached(made) == truth
            if has_cachestat():
                assert cached(made, other.pid) == truth
            else:  # to map a layer's file for mincore may change its access time
                with pytest.raises(fpm.UnsupportedError, match="cachestat"):
                    cached(made, other.pid)


@pytest.mark.parametrize("flags", FLAGS)
def test_a_file_that_was_copied_up_since(flags):
    """The mapping goes on showing the lower file; the path leads to the upper one."""
    with overlay() as (path, lower):
        fd = os.open(path, os.O_RDONLY)
        with memory.Memory(PAGES, flags, memory.READ, fd) as made, Sharer({}) as other:
            with open(path, "r+b") as file:
                file.write(b"x")
            truth = keep(lower)
            assert cached(made) == truth
            with pytest.raises(fpm.UnsupportedError, match=path):
                cached(made, other.pid)


def test_a_copy_of_a_file_that_cannot_be_opened():
    """Of a page that hides the file's, mincore tells nothing."""
    with overlay() as (path, _):
        fd = os.open(path, os.O_RDONLY)
        with backed.mapped(fd, PAGES, backed.FILE_PRIVATE) as made, fpm.PageMap() as pm:
            with open(path, "r+b") as file:
                file.write(b"x")
            made.write(7, 8)
            assert len(pm.cached(made.at(8), made.end)) == PAGES - 8
            with pytest.raises(fpm.UnsupportedError, match=path):
                pm.cached(made.start, made.end)


def test_a_lease_is_not_broken():
    """Who opens a file with such a lease sends its holder a signal."""

    def look():
        with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
            file.write(b"x" * 8 * PAGE)
            file.flush()
            with backed.mapped(os.dup(file.fileno()), 8) as made, fpm.PageMap() as pm:
                fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                # Of one's own, mincore tells without opening it.
                assert pm.cached(made.start, made.end).all()
                leased = pytest.raises(fpm.UnsupportedError, match="lease")
                with Sharer({}) as other, leased:
                    cached(made, other.pid)
                assert fcntl.fcntl(made.fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK

    runas.in_child(look)


@pytest.mark.parametrize("by_mincore", [False, True])
def test_access_times_stay(by_mincore):
    runas.in_child(look_at_an_old_file, by_mincore)


def look_at_an_old_file(by_mincore):
    if by_mincore:
        seccomp.without_cachestat(errno.ENOSYS)
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(b"x" * 8 * PAGE)
        file.flush()
        with backed.mapped(os.dup(file.fileno()), 8) as made:
            os.utime(file.name, ns=(0, 0))  # so that any access would be noted
            assert cached(made) == [True] * 8
            assert os.stat(file.name).st_atime_ns == 0


def test_what_was_mapped_anew_is_not_told_of_the_old_file():
    with memory.touched(8) as made, fpm.PageMap() as pm:
        (row,) = [m for m in pm.mappings() if m.start == made.start]
        fd = backed.sized_memfd(8)
        os.pwrite(fd, b"m" * 8 * PAGE, 0)
        made.map(backed.FILE_SHARED, fd=fd, first=0, last=8)
        assert pm.usage([row], fields=["cached"])["cached"].tolist() == [8 * PAGE]
        linux.call("munmap", made.start, 8 * PAGE)
        assert pm.usage([row], fields=["cached"])["cached"].tolist() == [0]
        os.close(fd)
