"""No lease is broken: which files have one, and what of shared memory is opened (root)."""

import contextlib
import os
import time
import tracemalloc

import pytest

import backed
import disks
import fastpagemap as fpm
import locks
from fastpagemap.engine.file_caches import cache_of
from fastpagemap.process.held_files import deleted_files, files_on, mounted_tmpfs
from fastpagemap.process.leases import Leases
from fastpagemap.process.process import Process
from features import has_cachestat
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

pytestmark = pytest.mark.root

# More than the 4 MiB of /proc/locks that are read: 105,000 lines of about 48 bytes.
LOCKED_FILES, LOCKS = 700, 150


def file_in(directory):
    path = os.path.join(directory, "file")
    with open(path, "xb") as file:
        file.write(b"x" * 4 * PAGE)
    return path


def on_a_disk(pages):
    fd = os.open(backed.disk_directory(), os.O_RDWR | os.O_TMPFILE)
    os.pwrite(fd, b"x" * pages * PAGE, 0)
    return backed.mapped(fd, pages)


def found_on(directory, most):
    """The files found on the tmpfs that is mounted on a directory."""
    mounted = [each for each in mounted_tmpfs() if os.fsencode(directory) in each.points]
    return list(files_on(mounted[0], Leases(), most))


def held(path):
    """Hold a lease on a file."""
    locks.lease(os.open(path, os.O_RDWR))


def refused(path, leases, reason):
    with pytest.raises(fpm.UnsupportedError, match=reason):
        cache_of(path, leases)


def test_a_lease_of_a_file_hides_no_other_of_its_inode():
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with contextlib.ExitStack() as stack:
        directories = [stack.enter_context(backed.mounted("tmpfs")) for _ in range(2)]
        first, second = map(file_in, directories)
        assert os.stat(first).st_ino == os.stat(second).st_ino
        other = stack.enter_context(Sharer({"lease": held}))
        other.ask("lease", first)
        leases = Leases()
        refused(first, leases, "lease")
        assert cache_of(second, leases).cached == 4 * PAGE
        assert found_on(directories[0], 8) == []
        assert [file.path for file in found_on(directories[1], 8)] == [second]
        assert other.ask("ready") == other.pid


def test_a_lease_on_btrfs():
    """There the table of locks shows a device that stat does not show."""
    with disks.subvolumes("a", "b") as directory:
        first, second = (file_in(os.path.join(directory, name)) for name in "ab")
        assert cache_of(second, Leases()).cached == 4 * PAGE
        with Sharer({"lease": held}) as other:
            other.ask("lease", first)
            refused(first, Leases(), "lease")
            assert other.ask("ready") == other.pid


@pytest.mark.parametrize("make", [on_a_disk, backed.memfd])
def test_a_lease_that_another_process_has_of_the_file(make):
    """The process that is read has the mapping alone: only the table of locks tells."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(make(4))
        target = stack.enter_context(Sharer({"close": lambda: os.close(made.fd)}))
        target.ask("close")
        other = stack.enter_context(Sharer({"lease": lambda: locks.lease(made.fd)}))
        other.ask("lease")
        with fpm.PageMap(target.pid) as pm:
            with pytest.raises(fpm.UnsupportedError, match="lease"):
                pm.cached(made.start, made.end)
            (row,) = [each for each in pm.mappings() if each.start == made.start]
            with pytest.raises(fpm.UnsupportedError, match="lease"):
                pm.usage([row], fields=["cached"])
        assert other.ask("ready") == other.pid


def test_more_locks_than_are_looked_at():
    """Then it is not known of a file whether it has a lease; to find that out takes a while."""
    need(has_cachestat(), "cachestat (Linux 6.5)", Absent)
    with backed.mounted("tmpfs") as directory:
        path = file_in(directory)

        def lock():
            locks.lock_pages(os.path.join(directory, "locked"), LOCKED_FILES, LOCKS)

        with Sharer({"lock": lock}) as other:
            other.ask("lock")
            leases = Leases()
            refused(path, leases, "MiB")
            before = time.process_time()
            refused(path, leases, "MiB")
            assert time.process_time() - before < 0.1  # not read again
        assert cache_of(path).cached == 4 * PAGE


def test_a_memfd_with_many_descriptors_is_one_file():
    with backed.memfd(4) as made, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.callback(os.close, os.dup(made.fd))
        stack.callback(os.close, os.open(f"/proc/self/fd/{made.fd}", os.O_RDWR))
        inode = os.fstat(made.fd).st_ino
        found = [file.about.inode for file in deleted_files(Process())]
        assert found.count(inode) == 1


def test_a_memfd_that_its_process_holds_a_lease_on_is_not_opened():
    def hold():
        made, free = backed.memfd(4), backed.memfd(4)
        return os.fstat(locks.lease(made.fd)).st_ino, os.fstat(free.fd).st_ino

    with Sharer({"hold": hold}) as other:
        leased, free = other.ask("hold")
        found = [file.about.inode for file in deleted_files(Process(other.pid))]
        assert free in found
        assert leased not in found
        assert other.ask("ready") == other.pid


def test_names_of_a_tmpfs_beyond_those_looked_at_are_not_held():
    with backed.mounted("tmpfs") as directory:
        for number in range(20_000):
            os.mknod(os.path.join(directory, f"{number:0200}"))
        tracemalloc.start()
        try:
            found = found_on(directory, 1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert found[-1] is None
    assert len(found) <= 2
    assert peak < 10_000 * 200
