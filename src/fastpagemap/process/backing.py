"""What backs a mapping: shared memory, huge pages of hugetlbfs, or something else."""

import contextlib
import functools
import os

from .._kernel.descriptor import open_memory
from ..model.errors import tells_of_file
from ..model.mapping import Mapping
from .files import Files
from .process import Process

__all__ = ["Backings", "kernel_tmpfs"]

# The kernel fills devtmpfs, which is a tmpfs otherwise.
_TMPFS = (b"tmpfs", b"devtmpfs")
# Names of the kernel's own files on no mounted file system that are not shared memory.
_OTHER_FILES = ("/anon_hugepage", "/[aio]", "anon_inode:")


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


class Backings:
    """What backs the mappings of one process.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.files = Files(process)
        # By device: whether its files are shared memory; None if that cannot be known.
        self._shmem: dict[int, bool | None] = {0: False, kernel_tmpfs(): True}

    def is_shmem(self, mapping: Mapping) -> bool | None:
        """Return whether a mapping is of shared memory (any tmpfs); None if it cannot be known."""
        try:
            shmem = self._shmem[mapping.device]
        except KeyError:
            shmem = self._classify_device(mapping.device)
        if shmem is None and mapping.path.startswith(_OTHER_FILES):
            return False
        return shmem

    def _classify_device(self, device: int) -> bool | None:
        """Find out whether the files of a device are shared memory; None if not known."""
        if os.major(device):  # a file system on a block device
            self._shmem[device] = False
        else:
            for mount in self.files.mounts:
                # A file of an overlay is in one of its layers, of any file system.
                shmem = None if mount.kind == b"overlay" else mount.kind in _TMPFS
                self._shmem.setdefault(mount.device, shmem)
        return self._shmem.setdefault(device, None)

    def is_hugetlb(self, mapping: Mapping) -> bool:
        """Return whether a mapping is of hugetlbfs."""
        if not mapping.device or os.major(mapping.device) or self.is_shmem(mapping):
            return False
        return mapping.device in _kernel_hugetlbfs() or any(
            mount.kind == b"hugetlbfs" and mount.device == mapping.device
            for mount in self.files.mounts
        )
