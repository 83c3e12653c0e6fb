"""Whether a mapping is of shared memory: its own file tells, and neither a name nor a mount."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

import backed
import fastpagemap as fpm
import fuse
import linux
import memory
import oracle
import runas
import seccomp
import sharing
from compare import ask, honest, while_still
from fastpagemap._kernel import lookup
from fastpagemap.process.backing import Backings
from fastpagemap.process.mounts import parse_mounts, unescape
from fastpagemap.process.process import Process
from linux import PAGE
from needs import Absent, need
from painted import ask_painted
from sharer import Sharer
from sharing import MIXED, expected

PAGES = len(MIXED)
_CLONE_NEWNS, _MS_PRIVATE = 0x20000, 1 << 18 | 0x4000


def backing_of(start, pid=None):
    """What is said of the mapping at an address."""
    (mapping,) = [m for m in fpm.PageMap(pid).mappings() if m.start == start]
    return Backings(Process(pid)).is_shmem(mapping)


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(sharing.KINDS))
def test_every_kind_of_shared_memory(kind):
    with sharing.KINDS[kind](4) as made:
        assert backing_of(made.start) is True


@pytest.mark.root
def test_a_root_file_system_in_memory():
    """Of type `rootfs`, whatever it is: a system that runs from its initramfs is there."""

    def map_there():
        linux.call("unshare", _CLONE_NEWNS)
        linux.call("mount", None, b"/", None, _MS_PRIVATE, None)
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        linux.call("umount2", b"/", linux.MNT_DETACH)
        linux.call("setns", namespace, _CLONE_NEWNS)
        kind = linux.filesystem("/")
        fd = os.open("/file", os.O_RDWR | os.O_CREAT)
        os.unlink("/file")
        os.ftruncate(fd, PAGE)
        return kind, memory.Memory(1, backed.FILE_SHARED, fd=fd).start

    with Sharer({"map": map_there}) as other:
        kind, start = other.ask("map")
        need(kind == linux.TMPFS_MAGIC, "a root file system on a tmpfs", Absent)
        assert backing_of(start, other.pid) is True


@contextlib.contextmanager
def overlay(lower, options=""):
    """An overlay without an upper layer."""
    with backed.mounted("overlay", f"lowerdir={':'.join(lower)}{options}") as directory:
        yield directory


@pytest.mark.root
@pytest.mark.parametrize("names", ["/[aio]", "/anon_hugepage (deleted)", "/SYSV00000000"])
def test_a_file_called_like_one_of_the_kernels(names):
    """In a chroot, on an overlay that is mounted no more, any file can look like that."""
    with backed.mounted("tmpfs") as base:
        os.mkdir(f"{base}/a")
        os.mkdir(f"{base}/b")
        with open(f"{base}/a{names}", "wb") as file:
            file.truncate(PAGE)
        with overlay([f"{base}/a", f"{base}/b"]) as directory:
            fd = os.open(directory + names, os.O_RDONLY)
            made = memory.Memory(1, backed.FILE_SHARED, memory.READ, fd)
        with made:
            (line,) = [line for line in oracle.maps() if line.start == made.start]
            assert line.path == names.encode()
            assert backing_of(made.start) is None


def test_a_ring_of_aio_is_no_shared_memory():
    address = lookup.aio_setup()
    try:
        assert backing_of(address) is False
    finally:
        lookup.aio_destroy(address)


@pytest.mark.root
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("layers", ["fuse", "fuse below an overlay"])
def test_no_server_is_asked_for_the_type_of_its_file_system(layers, detached):
    """An overlay hands the question on to its first layer, whichever has the file."""
    with contextlib.ExitStack() as stack:
        mounted = stack.enter_context(fuse.mounted())
        undo = stack.enter_context(contextlib.ExitStack())
        path = mounted.path
        if layers != "fuse":
            base = undo.enter_context(backed.mounted("tmpfs"))
            with open(f"{base}/other", "wb") as file:
                file.truncate(PAGE)
            lower = [mounted.directory, base]
            path = undo.enter_context(overlay(lower, ",xino=on")) + "/other"
        made = stack.enter_context(
            memory.Memory(1, backed.FILE_SHARED, memory.READ, os.open(path, os.O_RDONLY))
        )
        if detached:
            linux.call("umount2", os.fsencode(os.path.dirname(path)), linux.MNT_DETACH)
            stack.callback(
                linux.call, "mount", b"t", os.path.dirname(path).encode(), b"tmpfs", 0, 0
            )
        before = mounted.asked()
        assert backing_of(made.start) is None
        with fpm.PageMap() as pm:
            ask(pm, made.start, made.end)
        assert mounted.asked() == before


# The table of mounts.

LINE = b"36 35 %d:%d %s %s rw,noatime shared:1 master:2 - %s %s rw,size=4k\n"


def test_fields_of_a_mount():
    text = LINE % (0, 40, b"/", rb"/a\040-\040tmpfs", b"fuse.x", rb"-\040tmpfs")
    text += LINE % (0, 41, b"/sub", b"/b", b"ext4", b"") + b"1 1 0:42 / / rw - tmpfs - -\n"
    found = parse_mounts([text])
    assert [(device, *mount[:3]) for device, (mount,) in found.items()] == [
        (os.makedev(0, 40), b"/", b"/a - tmpfs", b"fuse.x"),
        (os.makedev(0, 41), b"/sub", b"/b", b"ext4"),
        (os.makedev(0, 42), b"/", b"/", b"tmpfs"),
    ]
    assert found[os.makedev(0, 40)][0].options == b"rw,size=4k"
    assert unescape(rb"a\040b\134c") == b"a b\\c"


def test_the_table_of_mounts_has_a_limit():
    texts = [LINE % (0, n, b"/", b"/" + b"d" * 4000, b"tmpfs", b"t") * 10 for n in range(1000)]
    found = parse_mounts(texts)
    assert len(found) < 500
    assert {len(mounts) for mounts in found.values()} == {10}
    (many,) = parse_mounts([texts[1] * 10]).values()
    assert len(many) == 16


def test_every_mount_of_this_process_is_found():
    lines, found = while_still(
        lambda: Backings(Process()).files.mounts,
        lambda: Path("/proc/self/mountinfo").read_text().splitlines(),
    )
    for line in lines:
        fields, kind = line.split(" - ")
        major, minor = map(int, fields.split()[2].split(":"))
        assert found[os.makedev(major, minor)][0].kind == kind.split()[0].encode()


# Calls that a sandbox refuses.


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EACCES])
@pytest.mark.parametrize("name", ["statx", "openat2", "name_to_handle_at", "readlinkat", "fstatfs"])
def test_a_refused_call_leaves_the_next_way_or_unknown(name, error):
    def before():
        seccomp.without(name, error)

    for who in ({"uid": 0, "capabilities": [runas.CAP_SYS_ADMIN]}, {"keep_fd": True}, {}):
        for kind in ("tmpfs", "memfd", "shared_anonymous"):
            with sharing.KINDS[kind](PAGES) as made:
                if made.fd >= 0:
                    os.fchmod(made.fd, 0o666)
                said = ask_painted(made, MIXED, before=before, **who)
            honest(said, expected(MIXED))
