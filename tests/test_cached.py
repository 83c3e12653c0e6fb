"""Which pages of mapped files are in the page cache, against mincore, fincore and the kernel."""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

import backed
import fastpagemap as fpm
import fuse
import hugetlb
import linux
import memory
import runas
import seccomp
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

PAGES = 700
FIELDS = ["cached", "cache_dirty", "cache_writeback"]
MAKERS = {
    "file_shared": backed.file_shared,
    "file_private": backed.file_private,
    "file_copied": backed.file_copied,
    "shared_anonymous": backed.shared_anonymous,
    "memfd": backed.memfd,
    "memfd_sparse": backed.memfd_sparse,
    "memfd_private": backed.memfd_private,
    "posix": backed.posix,
    "sysv": backed.sysv,
}


def in_core(fd, pages, offset=0):
    """What mincore says of a mapping of the file that the test itself makes."""
    vector = (ctypes.c_ubyte * pages)()
    with backed.mapped(os.dup(fd), pages, backed.FILE_SHARED, offset) as window:
        linux.call("mincore", window.start, pages * PAGE, ctypes.byref(vector))
    return [bool(byte & 1) for byte in vector]


def disk_file(pages, kept=lambda page: True):
    """A nameless file on a disk of which only some pages are in the page cache, as a descriptor."""
    with tempfile.TemporaryFile(dir=backed.disk_directory()) as file:
        file.write(b"fastpagemap".ljust(PAGE, b".") * pages)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no readahead
        backed.uncache(file.fileno())
        for page in filter(kept, range(pages)):
            os.pread(file.fileno(), 1, page * PAGE)
        return os.dup(file.fileno())


def said(start, end, pid=None):
    """The mask and the row of a span, which have to agree."""
    with fpm.PageMap(pid) as pm:
        mask = pm.cached(start, end)
        spans = [m for m in pm.mappings() if start < m.end and m.start < end]
        some = [m._replace(start=max(start, m.start), end=min(end, m.end)) for m in spans]
        assert pm.usage(some, fields=["cached"])["cached"].sum() == mask.sum() * PAGE
        assert pm.cached(start, end, out=np.ones(len(mask), bool)).tolist() == mask.tolist()
    return mask.tolist()


def refused(pid, start, end, reason):
    """Make sure that a span is not told, for a reason."""
    with fpm.PageMap(pid) as pm, pytest.raises(fpm.UnsupportedError, match=reason):
        pm.cached(start, end)


PATTERNS = {
    "none": lambda page: False,
    "every third": lambda page: page % 3 == 0,
    "a half": lambda page: page < 333,
    "blocks": lambda page: page // 50 % 2 == 1,
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("flags", [backed.FILE_SHARED, backed.FILE_PRIVATE])
@pytest.mark.parametrize("ask", [runas.in_child, runas.as_nobody])
def test_pages_of_a_file_on_disk(pattern, flags, ask):
    """Of a file of one's own, from its third page on, and beyond its end."""

    def look():
        fd = disk_file(PAGES, PATTERNS[pattern])
        with backed.mapped(fd, PAGES + 5, flags, 3) as made:
            before = in_core(fd, PAGES + 5, 3)
            found = said(made.start, made.end)
            assert before == in_core(fd, PAGES + 5, 3)  # nothing was read
            assert not fpm.PageMap().present(made.start, made.end).any()
            part = said(made.at(17), made.at(600))
        return found, before, part

    found, truth, part = ask(look)
    assert found == truth
    assert part == truth[17:600]
    assert any(found) == (pattern != "none")
    assert not any(found[PAGES - 3 :])


def test_a_copy_hides_nothing():
    """A private mapping's own page is present; the file's page has left the page cache."""
    with backed.mapped(disk_file(PAGES), PAGES, backed.FILE_PRIVATE) as made:
        made.write(step=2)
        made.drop(1, 2)
        os.posix_fadvise(made.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        truth = in_core(made.fd, PAGES)
        assert not all(truth[::2])
        assert said(made.start, made.end) == truth


@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_of_another_process(kind):
    if kind in ("shared_anonymous", "sysv"):  # without a descriptor or a path
        need(os.geteuid() == 0, "root (to open files by their mapping)")
    with MAKERS[kind](PAGES) as made, Sharer({}) as other:
        found = other.pid, made.start, made.end
        truth = [True] * PAGES if made.fd < 0 else in_core(made.fd, PAGES)
        assert said(*found[1:]) == truth
        assert said(*found[1:], found[0]) == truth


@pytest.mark.root
@pytest.mark.parametrize("kind", [*MAKERS, "tmpfs"])
def test_of_another_users_process(kind):
    """Root reads the memory of a user's process, and is told the same."""
    with {**MAKERS, "tmpfs": backed.tmpfs}[kind](PAGES) as made:
        truth = said(made.start, made.end)
        with Sharer({}, runas.NOBODY) as other:
            assert said(made.start, made.end, other.pid) == truth
    assert any(truth)


def test_pages_beyond_the_end_of_a_file():
    """Memory given to a file beyond its end is in its page cache, and no page of the file."""
    fd = backed.sized_memfd(5)
    with backed.mapped(fd, 12, backed.FILE_SHARED) as made:
        linux.call("fallocate", fd, 1, 0, 12 * PAGE)  # FALLOC_FL_KEEP_SIZE
        os.pwrite(fd, b"x" * 5 * PAGE, 0)  # mincore sees no page that was given and never filled
        assert said(made.start, made.end) == [page < 5 for page in range(12)]


def test_as_fincore_says():
    need(shutil.which("fincore"), "fincore", Absent)
    directory = backed.disk_directory()
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        file.write(os.urandom(PAGES * PAGE))
        file.flush()
        with backed.mapped(os.dup(file.fileno()), PAGES) as made:
            mask = said(made.start, made.end)
            command = ["fincore", "-nb", "-o", "RES", file.name]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(told) == sum(mask) * PAGE


def test_dirty_pages():
    """Written pages of a file are dirty until they are on the disk."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    fd = disk_file(PAGES)
    os.fsync(fd)
    with backed.mapped(fd, PAGES) as made, fpm.PageMap() as pm:
        (row,) = [m for m in pm.mappings() if m.start == made.start]
        assert pm.usage([row], fields=FIELDS).tolist() == [(PAGES * PAGE, 0, 0)]
        for _ in range(10):  # the kernel writes back by itself, and may have done so already
            made.write(100, 150)
            cached, dirty, writeback = pm.usage([row], fields=FIELDS)[0].tolist()
            assert cached == PAGES * PAGE
            if dirty + writeback:
                break
        assert dirty + writeback > 0
        half = row._replace(start=made.at(400))
        assert pm.usage([half], fields=FIELDS)["cache_dirty"].tolist() == [0]
        os.fsync(fd)
        assert pm.usage([row], fields=FIELDS).tolist() == [(PAGES * PAGE, 0, 0)]


def test_memory_without_a_file():
    with memory.touched(PAGES) as made, memory.guarded(8) as guards:
        assert not any(said(made.start, made.end))
        assert not any(said(guards.start, guards.end))
    with memory.Memory(8, backed.FILE_PRIVATE, fd=os.open("/dev/zero", os.O_RDWR)) as made:
        made.write()
        assert not any(said(made.start, made.end))
    with fpm.PageMap() as pm:
        for mapping in pm.mappings():
            if mapping.path.startswith("[v"):
                row = pm.usage([mapping], fields=["size", *FIELDS])[0].tolist()
                assert row == (mapping.end - mapping.start, 0, 0, 0)
        assert not pm.cached(2**64 - 8 * PAGE, 2**64).any()
        assert len(pm.cached(0, 0)) == 0


def test_columns_only_where_they_are_named():
    with fpm.PageMap() as pm:
        assert not set(FIELDS) & set(pm.usage().dtype.names)
        with pytest.raises(ValueError, match="cache_writeback"):
            pm.usage(fields=["cache"])


def test_terabytes_of_holes():
    """The time is that of what is there."""
    fd = backed.sized_memfd(1 << 28)
    os.pwrite(fd, b"x" * 3 * PAGE, 5 << 30)
    with fpm.PageMap() as pm, mmap.mmap(fd, 1 << 40) as area:
        start, end = fpm.span(area)
        (row,) = [m for m in pm.mappings() if m.start == start]
        need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
        assert pm.usage([row], fields=FIELDS)["cached"].tolist() == [3 * PAGE]
        found = pm.cached(start + (4 << 30), start + (6 << 30))
        assert np.flatnonzero(found).tolist() == [(1 << 30) // PAGE + page for page in range(3)]
        assert end - start == 1 << 40
    os.close(fd)


@pytest.mark.root
def test_another_users_file_is_not_guessed():
    """Of a file that it may only read, the kernel tells a user nothing."""
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(b"x" * 8 * PAGE)
        file.flush()
        os.chmod(file.name, 0o644)

        def look():
            fd = os.open(file.name, os.O_RDONLY)
            with memory.Memory(8, backed.FILE_SHARED, memory.READ, fd) as made:
                with pytest.raises(fpm.UnsupportedError, match=file.name):
                    fpm.PageMap().cached(made.start, made.end)
                rows = [m for m in fpm.PageMap().mappings() if m.start == made.start]
                with pytest.raises(fpm.UnsupportedError, match=file.name):
                    fpm.PageMap().usage(rows, fields=["cached"])

        runas.as_nobody(look)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("kind", ["file_shared", "file_copied"])
def test_without_cachestat(kind, error):
    with MAKERS[kind](PAGES) as made:
        os.posix_fadvise(made.fd, 0, 0, os.POSIX_FADV_RANDOM)
        truth = in_core(made.fd, PAGES)

        def look():
            seccomp.without_cachestat(error)
            with pytest.raises(fpm.UnsupportedError, match="cachestat"):
                fpm.PageMap().usage(fields=["cache_dirty"])
            return said(made.start, made.end)

        assert runas.in_child(look) == truth


@pytest.mark.root
def test_fuse_is_not_asked():
    with fuse.mounted() as mounted:
        fd = os.open(mounted.path, os.O_RDWR)
        with backed.mapped(fd, 4, backed.FILE_PRIVATE) as made, Sharer({}) as other:
            asked = mounted.asked()
            refused(other.pid, made.start, made.end, "fuse")
            assert not any(said(made.start, made.end))  # one's own, through the mapping
            assert mounted.asked() == asked


@pytest.mark.root
@pytest.mark.parametrize("kind", ["hugetlb_shared", "hugetlb_memfd"])
def test_hugetlbfs_is_not_told(kind):
    with getattr(hugetlb, kind)(1) as made:
        refused(None, made.start, made.end, "hugetlbfs")
    with hugetlb.hugetlb(1) as made:
        assert not any(said(made.start, made.end))
