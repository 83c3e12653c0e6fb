"""Answers that would not fit into memory: MemoryError, where the kernel would kill the process."""

import mmap
import os

import numpy as np
import pytest

import backed
import cgroups
import fastpagemap as fpm
import linux
import memory
import runas
from fastpagemap import Category
from linux import PAGE

pytestmark = pytest.mark.root

LIMIT = 64 << 20
_CLONE_NEWNS, _CLONE_NEWCGROUP = 0x00020000, 0x02000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18


@pytest.fixture(params=cgroups.LIMITS)
def kind(request):
    """A version of cgroups, and which of its limits."""
    return request.param


@pytest.fixture(scope="module")
def large():
    """Memory that is reserved, whose entries need 512 MiB: addresses, for children as well."""
    made = mmap.mmap(-1, 1 << 38, flags=memory.PRIVATE | linux.MAP_NORESERVE)
    yield fpm.span(made)
    made.close()


@pytest.fixture(scope="module")
def fragmented():
    """Two million pages, every second one the zero page: a million runs, and little memory."""
    made = mmap.mmap(-1, (2 << 20) * PAGE, flags=memory.PRIVATE | linux.MAP_NORESERVE)
    made.madvise(linux.MADV_NOHUGEPAGE)
    np.frombuffer(made, np.uint8)[:: 2 * PAGE].sum()
    start, end = fpm.span(made)
    with fpm.PageMap() as pm:
        (mapping,) = [m for m in pm.mappings() if m.start <= start and end <= m.end]
    yield mapping
    made.close()


def refused(ask, path):
    """Join a cgroup, ask there, and return the message of the MemoryError."""
    cgroups.join(path)
    with pytest.raises(MemoryError) as caught:
        ask()
    return str(caught.value)


ASK = {
    "read": lambda pm, start, end: pm.read(start, end),
    "masks": lambda pm, start, end: pm.masks(start, end),
    "present": lambda pm, start, end: pm.present(start, end),
    "tracker": lambda pm, start, end: fpm.WriteTracker(start, end),
    "state": lambda pm, start, end: pm.snapshot().state(start, end),
}


@pytest.mark.parametrize("name", ASK)
def test_pages(kind, name, large):
    with cgroups.limited(kind, LIMIT) as path:
        said = runas.in_child(refused, lambda: ASK[name](fpm.PageMap(), *large), path)
    assert "MiB are available" in said
    assert cgroups.LIMITS[kind] in said


def test_a_limit_of_a_parent(kind, large):
    with cgroups.limited(kind, LIMIT, depth=3) as path:
        said = runas.in_child(refused, lambda: fpm.PageMap().read(*large), path)
    assert cgroups.LIMITS[kind] in said


def test_a_namespace_of_its_own(kind, large):
    """A container sees its cgroup as the root of all, and no other."""

    def ask():
        linux.call("unshare", _CLONE_NEWNS | _CLONE_NEWCGROUP)
        linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        linux.call("mount", b"none", b"/sys/fs/cgroup", b"tmpfs", 0, None)
        if kind == "v1":
            linux.call("mount", b"none", b"/sys/fs/cgroup", b"cgroup", 0, b"memory")
        else:
            linux.call("mount", b"none", b"/sys/fs/cgroup", b"cgroup2", 0, None)
        fpm.PageMap().read(*large)

    with cgroups.limited(kind, LIMIT) as path:
        said = runas.in_child(refused, ask, path)
    assert cgroups.LIMITS[kind] in said


GROWING = {
    "states": lambda pm, mapping: pm.states([mapping]),
    "regions": lambda pm, mapping: pm.regions(*mapping[:2], anyof=Category.PRESENT),
    "snapshot": lambda pm, mapping: pm.snapshot(),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_with_the_target(kind, name, fragmented):
    """How many runs there are, only the walk shows."""
    parent = os.getpid()
    with fpm.PageMap() as pm:
        assert len(pm.states([fragmented])) >= 1 << 20
    with cgroups.limited(kind, LIMIT) as path:
        said = runas.in_child(refused, lambda: GROWING[name](fpm.PageMap(parent), fragmented), path)
    assert "regions need" in said


def test_entries_that_were_saved(kind, tmp_path):
    """A file of which every second entry is of a page: three times its size as runs."""
    saved = tmp_path / "pagemap"
    saved.write_bytes(b"\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\0" * (2 << 20))

    with cgroups.limited(kind, LIMIT) as path:
        said = runas.in_child(refused, lambda: fpm.Snapshot.from_entries(saved), path)
    assert "runs need" in said


def test_allocations(kind):
    """Two million allocations: 64 MiB of rows."""

    def ask():
        where = np.broadcast_to(np.uint64(PAGE), 2 << 20)
        fpm.PageMap().residency(where, where)

    with cgroups.limited(kind, LIMIT) as path:
        said = runas.in_child(refused, ask, path)
    assert "allocations need" in said or "addresses need" in said


def test_what_fits_is_answered(kind, large):
    """Also where the cgroup is full of file pages, which give way."""
    start, _ = large

    def child(path):
        cgroups.join(path)
        for at in range(0, 2 * LIMIT, 1 << 20):
            os.pread(made.fd, 1 << 20, at)
        pages = (24 << 20) // 8
        return len(fpm.PageMap().read(start, start + pages * PAGE)) == pages

    with backed.file_shared(2 * LIMIT // PAGE) as made, cgroups.limited(kind, LIMIT) as path:
        made.unmap()
        os.posix_fadvise(made.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert runas.in_child(child, path)


def test_what_is_used_counts(kind, large):
    start, _ = large

    def child(path):
        cgroups.join(path)
        used = memory.touched(LIMIT // 2 // PAGE)
        used.lock()
        pages = (36 << 20) // 8
        with pytest.raises(MemoryError):
            fpm.PageMap().read(start, start + pages * PAGE)
        used.close()
        return len(fpm.PageMap().read(start, start + pages * PAGE)) == pages

    with cgroups.limited(kind, LIMIT) as path:
        assert runas.in_child(child, path)


# Without the files that tell.


def own_mounts():
    """Have this process mount for itself alone."""
    linux.call("unshare", _CLONE_NEWNS)
    linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)


@pytest.mark.parametrize(
    "content",
    ["", "MemTotal: 1000 kB\nMemFree: 500 kB\n", "MemAvailable: 500 kB\n"],
    ids=["empty", "old", "little"],
)
def test_other_meminfo(content, large, tmp_path):
    """Before Linux 3.14 there was no MemAvailable."""
    shown = tmp_path / "meminfo"
    shown.write_text(content)

    def child():
        own_mounts()
        linux.call("mount", bytes(shown), b"/proc/meminfo", None, _MS_BIND, None)
        start, _ = large
        if content:
            with pytest.raises(MemoryError):
                fpm.PageMap().read(*large)
            return True
        # 32 MiB, of which any machine that runs this has more
        return len(fpm.PageMap().read(start, start + (4 << 20) * PAGE)) == 4 << 20

    assert runas.in_child(child)


@pytest.mark.parametrize("sys", [True, False], ids=["sys", "no sys"])
def test_no_meminfo(sys):
    """As under systemd's ProcSubset=pid: the nodes in /sys tell, or sysinfo."""

    def child():
        own_mounts()
        linux.call("mount", b"none", b"/proc", b"proc", 0, b"subset=pid")
        if not sys:
            linux.call("mount", b"none", b"/sys", b"tmpfs", 0, None)
        made = mmap.mmap(-1, 1 << 46, flags=memory.PRIVATE | linux.MAP_NORESERVE)
        start, end = fpm.span(made)
        with pytest.raises(MemoryError):
            fpm.PageMap().read(start, end)
        with pytest.raises(MemoryError):
            fpm.WriteTracker(start, end)
        return len(fpm.PageMap().read(start, start + (4 << 20) * PAGE)) == 4 << 20

    assert runas.in_child(child)
