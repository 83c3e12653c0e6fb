"""What backs a mapping: shared memory, huge pages of hugetlbfs, or something else."""

import errno
import functools
import mmap
import os

from .._kernel import lookup, pagecache, procmaps
from .._kernel.descriptor import open_memory
from .._kernel.own_files import own_file
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..model.span import span
from .files import Files
from .opening import pass_over
from .process import Process

__all__ = ["Backings", "has_no_cache", "kernel_tmpfs"]

# The kernel fills devtmpfs, which is a tmpfs otherwise.
_TMPFS = (b"tmpfs", b"devtmpfs")
# A file there may show pages of a file on a tmpfs. A rootfs is a tmpfs or a ramfs.
_MAYBE_TMPFS = (b"overlay", b"fuse", b"rootfs", b"aufs", b"unionfs", b"sdcardfs", b"shiftfs")
# Sizes of huge pages that any architecture has: 64 KiB to 16 GiB.
_HUGETLB_SHIFTS = range(16, 35)


@functools.cache
def kernel_tmpfs() -> int:
    """Return the device of the kernel's own tmpfs: memfd, SysV and MAP_ANONYMOUS files."""
    # Not by a memfd: a sandbox may forbid memfd_create, and cannot forbid memory.
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as page:
        return _device_at(span(page)[0])


@functools.cache
def _kernel_hugetlbfs() -> frozenset[int]:
    """Return the devices of the kernel's own hugetlbfs: one for each page size."""
    found = set()
    for shift in _HUGETLB_SHIFTS:
        try:
            found.add(_hugetlbfs_of(shift))
        except OSError as error:
            # This machine has no pages of that size, or none but small ones.
            if error.errno not in (errno.EINVAL, errno.ENODEV):
                raise
    return frozenset(found)


def _hugetlbfs_of(shift: int) -> int:
    """Return the device of the kernel's own hugetlbfs of one page size; no page is reserved."""
    flags = pagecache.HUGETLB_FLAGS | shift << os.MFD_HUGE_SHIFT
    flags -= (flags & 1 << 31) << 1  # mmap takes a signed int
    try:
        with mmap.mmap(-1, 1 << shift, flags=flags, prot=mmap.PROT_READ) as page:
            return _device_at(span(page)[0])
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    # The address space of this process is limited: a memfd needs none.
    file = open_memory("fastpagemap", os.MFD_HUGETLB | shift << os.MFD_HUGE_SHIFT)
    return os.fstat(file.fd).st_dev


def _device_at(address: int) -> int:
    """Return the device of the file that this process has mapped at an address."""
    with open(own_file("maps"), "rb") as file:
        found = procmaps.parse_maps(file.read(), Mapping, os.fsdecode)
    return next(mapping.device for mapping in found if mapping.start <= address < mapping.end)


@functools.cache
def _anonymous_inodes() -> int:
    """Return the device of the kernel's anonymous inodes: eventfd, io_uring, perf."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


@functools.cache
def _aio() -> int:
    """Return the device of the kernel's aio rings."""
    address = lookup.aio_setup()
    try:
        return _device_at(address)
    finally:
        lookup.aio_destroy(address)


class Backings:
    """What backs the mappings of one process.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.files: Files = Files(process, kernel_tmpfs())
        # By device: whether its files are shared memory; None if that cannot be known.
        self._shmem: dict[int, bool | None] = {0: False, kernel_tmpfs(): True}

    def is_shmem(self, mapping: Mapping) -> bool | None:
        """Return whether a mapping is of shared memory (any tmpfs); None if it cannot be known."""
        device = mapping.device
        try:
            return self._shmem[device]
        except KeyError:
            # A file system on a block device has no pages in a tmpfs.
            shmem = False if os.major(device) else self._is_tmpfs(mapping)
        self._shmem[device] = shmem
        return shmem

    def _is_tmpfs(self, mapping: Mapping) -> bool | None:
        """Find out whether a device without a disk is a tmpfs, by a mapping of it."""
        kinds = [mount.kind for mount in self.files.mounts.get(mapping.device, [])[:1]]
        if not kinds and _is_unmounted(mapping):
            return False
        if kinds and kinds[0] != b"rootfs":
            kind = kinds[0].partition(b".")[0]  # fuse.sshfs
            return None if kind in _MAYBE_TMPFS else kind in _TMPFS
        # In no table: it was unmounted, or is mounted where neither process sees it.
        return self.files.is_on_tmpfs(mapping) or None

    def is_hugetlb(self, mapping: Mapping) -> bool:
        """Return whether a mapping is of hugetlbfs."""
        if not mapping.device or os.major(mapping.device) or self.is_shmem(mapping):
            return False
        mounts = self.files.mounts.get(mapping.device, [])
        return any(mount.kind == b"hugetlbfs" for mount in mounts) or (
            mapping.device in _kernel_hugetlbfs()
        )


def has_no_cache(mapping: Mapping) -> bool:
    """Return whether a mapping has no file, or one of the kernel's own without a page cache."""
    if not (mapping.inode or mapping.device):
        return True
    try:
        if mapping.path.startswith("anon_inode:"):
            return mapping.device == _anonymous_inodes()
    except OSError as error:  # a sandbox may refuse to make one
        pass_over(error)
    # Nobody else has this file, and a private mapping leaves nothing in it.
    private = mapping.path.startswith("/anon_hugepage") and not mapping.shared
    return private and mapping.device in _kernel_hugetlbfs()


def _is_unmounted(mapping: Mapping) -> bool:
    """Return whether a mapping is of a file system of the kernel's own, other than its tmpfs.

    The name alone does not tell: it may be that of any file.
    """
    path, device = mapping.path, mapping.device
    try:
        if path.startswith("anon_inode:"):
            return device == _anonymous_inodes()
        if path.startswith("/[aio]"):
            return device == _aio()
    except OSError as error:  # a sandbox may refuse to make one
        pass_over(error)
    return path.startswith("/anon_hugepage") and device in _kernel_hugetlbfs()
