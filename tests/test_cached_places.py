"""What is opened to ask what is cached is what was looked at, whatever takes its place (root)."""

import contextlib
import ctypes
import os
import tempfile

import pytest

import backed
import disks
import fastpagemap as fpm
import fuse
import linux
import memory
import runas
from fastpagemap.process.backing import Backings
from fastpagemap.process.local_files import LocalFiles
from fastpagemap.process.mappings import mappings
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need
from sharer import Sharer

pytestmark = pytest.mark.root

PAGES = 16
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


def file_in(directory, name=fuse.FILE):
    """A file of written pages: its path."""
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(b"x" * PAGES * PAGE)
        file.flush()
        os.fsync(file.fileno())
    return path


def opened(path):
    return os.open(path, os.O_RDWR)


def row_of(process, made):
    (row,) = [m for m in mappings(process) if m.start == made.start]
    return row


def in_core(made):
    vector = (ctypes.c_ubyte * made.pages)()
    linux.call("mincore", made.start, made.pages * PAGE, ctypes.byref(vector))
    return [bool(byte & 1) for byte in vector]


def test_files_of_two_subvolumes():
    """They have one device in maps, and one inode."""
    with disks.subvolumes("a", "b") as directory, contextlib.ExitStack() as stack:
        paths = [file_in(os.path.join(directory, name)) for name in "ab"]
        fds = list(map(opened, paths))
        first, second = (stack.enter_context(backed.mapped(fd, PAGES)) for fd in fds)
        os.posix_fadvise(first.fd, 0, 0, os.POSIX_FADV_RANDOM)
        backed.uncache(first.fd, 0, 8)
        other = stack.enter_context(Sharer({}))
        rows = [row_of(Process(), made) for made in (first, second)]
        assert rows[0][4:6] == rows[1][4:6]
        assert os.fstat(fds[0]).st_dev != os.fstat(fds[1]).st_dev
        truths = [in_core(made) for made in (first, second)]
        assert truths[0] != truths[1]
        for pid in (None, other.pid):
            with fpm.PageMap(pid) as pm:
                said = [pm.cached(made.start, made.end).tolist() for made in (first, second)]
                assert said == truths


def test_a_subvolume_mounted_over_another():
    """Then its files may have one path as well."""
    with disks.subvolumes("a", "b") as directory, contextlib.ExitStack() as stack:
        place = os.path.join(directory, "place")
        os.mkdir(place)
        made = []
        for name in "ab":
            source = os.path.join(directory, name)
            stack.enter_context(backed.bound(source, place))
            fd = opened(file_in(place))
            made.append(stack.enter_context(backed.mapped(fd, PAGES)))
        os.posix_fadvise(made[0].fd, 0, 0, os.POSIX_FADV_RANDOM)
        backed.uncache(made[0].fd, 0, 8)
        rows = [row_of(Process(), each) for each in made]
        assert rows[0][4:] == rows[1][4:]
        cached = [sum(in_core(each)) * PAGE for each in made]
        assert cached[0] != cached[1]
        with fpm.PageMap() as pm:
            assert pm.usage(rows, fields=["cached"])["cached"].tolist() == cached


def test_a_file_of_fuse_in_place_of_one_on_btrfs():
    """With its inode, at its addresses: no server is asked."""
    with disks.subvolumes("a") as directory, contextlib.ExitStack() as stack:
        made = stack.enter_context(
            backed.mapped(opened(file_in(os.path.join(directory, "a"))), PAGES)
        )
        row = row_of(Process(), made)
        mounted = stack.enter_context(fuse.mounted(PAGES * PAGE, inode=row.inode))
        local = LocalFiles(Backings(Process()))
        assert local.kind(row) == b"btrfs"
        assert len(list(local.opened(row))) == 1
        fd = opened(mounted.path)
        made.map(backed.FILE_SHARED, fd=fd)
        os.close(fd)
        assert row_of(Process(), made).inode == row.inode
        asked = mounted.asked()
        assert not list(local.opened(row))
        assert mounted.asked() == asked


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_file_of_each_kind_of_disk(kind):
    with (
        disks.formatted(kind) as disk,
        tempfile.TemporaryDirectory() as directory,
        disks.mounted(disk, kind, directory),
        backed.mapped(opened(file_in(directory)), PAGES) as made,
        Sharer({}) as other,
    ):
        with fpm.PageMap(other.pid) as pm:
            assert pm.cached(made.start, made.end).tolist() == in_core(made)
        os.fsync(made.fd)
        os.posix_fadvise(made.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with fpm.PageMap(other.pid) as pm:
            assert pm.cached(made.start, made.end).tolist() == in_core(made)


def test_a_disk_that_a_server_has_by_now():
    """What was read of a device is not believed of the file system that has it since."""
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(disks.formatted("ext4"))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        with (
            disks.mounted(disk, "ext4", directory),
            backed.mapped(opened(file_in(directory)), PAGES) as made,
        ):
            row = row_of(Process(), made)
            local = LocalFiles(Backings(Process()))
            assert local.kind(row) == b"ext4"
            place = made.start
        mounted = stack.enter_context(
            fuse.mounted(PAGES * PAGE, place=directory, inode=row.inode, disk=disk)
        )
        made = stack.enter_context(
            memory.Memory(PAGES, backed.FILE_SHARED, fd=opened(mounted.path))
        )
        now = row_of(Process(), made)
        assert now[4:6] == row[4:6]
        assert place != now.start
        asked = mounted.asked()
        assert not list(local.opened(now))
        assert mounted.asked() == asked


def test_a_device_of_a_tmpfs_that_a_server_has_by_now():
    with contextlib.ExitStack() as stack:
        with (
            backed.mounted("tmpfs") as directory,
            backed.mapped(opened(file_in(directory)), PAGES) as made,
        ):
            row = row_of(Process(), made)
            files = Backings(Process()).files
            assert list(files.descriptors(row))
        mounted = stack.enter_context(fuse.mounted(PAGES * PAGE, inode=row.inode))
        made = stack.enter_context(
            memory.Memory(PAGES, backed.FILE_SHARED, fd=opened(mounted.path))
        )
        now = row_of(Process(), made)
        need(now.device == row.device, "a device that nobody else took meanwhile", Absent)
        asked = mounted.asked()
        assert not list(files.descriptors(now))
        assert mounted.asked() == asked


def test_a_file_system_that_any_user_can_mount():
    """A ramfs in a user namespace: its device may be anything's as soon as that is wanted."""

    def map_there(directory):
        try:
            linux.call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {runas.NOBODY} 1")):
                linux.write_text(f"/proc/self/{name}", text)
            linux.call("mount", b"ramfs", directory.encode(), b"ramfs", 0, None)
        except OSError as error:
            return None, error.strerror
        linux.write_text("/proc/self/gid_map", f"0 {runas.NOBODY} 1")
        made = backed.mapped(opened(file_in(directory)), PAGES)
        return made.start, made.end

    with (
        tempfile.TemporaryDirectory(prefix="fastpagemap-") as directory,
        Sharer({"map": map_there}, runas.NOBODY) as other,
    ):
        os.chmod(directory, 0o755)
        start, end = other.ask("map", directory)
        need(start is not None, "a ramfs in a user namespace", Absent)
        with fpm.PageMap(other.pid) as pm:
            (row,) = [m for m in pm.mappings() if m.start == start]
            with pytest.raises(fpm.UnsupportedError, match="ramfs"):
                pm.cached(start, end)
            with pytest.raises(fpm.UnsupportedError, match="ramfs"):
                pm.usage([row], fields=["cached"])
