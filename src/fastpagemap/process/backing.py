"""What backs a mapping: shared memory, huge pages of hugetlbfs, or something else."""

import contextlib
import functools
import os

from .._kernel import lookup
from .._kernel.descriptor import open_memory
from ..model.errors import tells_of_file
from ..model.mapping import Mapping
from .files import Files
from .mappings import within
from .opening import pass_over
from .process import Process

__all__ = ["Backings", "kernel_tmpfs"]

# The kernel fills devtmpfs, which is a tmpfs otherwise.
_TMPFS = (b"tmpfs", b"devtmpfs")
# A file there may show pages of a file on a tmpfs. A rootfs is a tmpfs or a ramfs.
_MAYBE_TMPFS = (b"overlay", b"fuse", b"rootfs", b"aufs", b"unionfs", b"sdcardfs", b"shiftfs")


@functools.cache
def kernel_tmpfs() -> int:
    """Return the device of the kernel's own tmpfs: memfd, SysV and MAP_ANONYMOUS files."""
    file = open_memory("fastpagemap")
    return os.fstat(file.fd).st_dev


@functools.cache
def _kernel_hugetlbfs() -> frozenset[int]:
    """Return the devices of the kernel's own hugetlbfs: one for each page size."""
    found = set()
    sizes: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # a kernel without hugetlb
        sizes = os.listdir("/sys/kernel/mm/hugepages")
    for name in sizes:
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        flags = os.MFD_HUGETLB | (size.bit_length() - 1) << os.MFD_HUGE_SHIFT
        try:
            file = open_memory("fastpagemap", flags)
            found.add(os.fstat(file.fd).st_dev)
        except OSError as error:
            if not tells_of_file(error):
                raise
    return frozenset(found)


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
        (ring,) = within(Process(), address, address + 1)
        return ring.device
    finally:
        lookup.aio_destroy(address)


class Backings:
    """What backs the mappings of one process.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.files = Files(process, kernel_tmpfs())
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
