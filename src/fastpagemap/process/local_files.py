"""The files of any file system on this machine, opened to ask which of their pages are cached."""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .._kernel import pagecache
from .._kernel.descriptor import Descriptor
from ..model.mapping import Mapping
from .backing import Backings
from .opening import Stat, is_tmpfs, pass_over, reopen_quietly

__all__ = ["STACKED", "LocalFiles", "Opened"]

# File systems of the kernel itself, whose files are opened without asking a server, and that only
# root can mount: no stranger can have the device of one given to another file system.
_LOCAL = frozenset(
    b"ext2 ext3 ext4 xfs btrfs f2fs bcachefs jfs nilfs2 vfat msdos exfat ntfs3 erofs squashfs "
    b"iso9660 udf".split()
)
# Their files show pages that the file systems below have.
STACKED = frozenset({0x794C7630, 0xF15F})  # overlayfs, ecryptfs


class Opened(NamedTuple):
    """A file opened for reading; `quiet`: to map it leaves its access time as it is."""

    file: Descriptor
    quiet: bool
    tmpfs: bool
    pages: int


class LocalFiles:
    """Opens the files that one process has mapped, if that cannot wait and has no effect."""

    def __init__(self, backings: Backings) -> None:
        self._backings = backings
        self._files = backings.files

    def kind(self, mapping: Mapping) -> bytes:
        """Return the type of a mapping's file system as in mountinfo; empty if it is not known."""
        mounts = self._files.mounts.get(mapping.device, [])
        return mounts[0].kind if mounts else b""

    def is_local(self, mapping: Mapping) -> bool:
        """Return whether a mapping's file system is one of the kernel's own, or a tmpfs."""
        return self.kind(mapping) in _LOCAL or self._backings.is_shmem(mapping) is True

    def opened(self, mapping: Mapping) -> Iterator[Opened]:
        """Yield a mapping's file, opened in each way that works."""
        for file, found in self._files.found(mapping, any_device=self.kind(mapping) == b"btrfs"):
            try:
                if not self._may_be_opened(file, found, mapping):
                    continue
                opened = self._open(file, found.size)
            except OSError as error:
                pass_over(error)
                continue
            # What was found is of the mapping's file system, unless maps shows a layer's.
            if pagecache.file_system(opened.file.fd) not in STACKED:
                yield opened
        layer = self._files.layer(mapping, self._is_of_local)
        if layer is not None:
            size = os.fstat(layer.fd).st_size
            yield Opened(layer, False, is_tmpfs(layer), _pages(size))

    def _may_be_opened(self, file: Descriptor, found: Stat, mapping: Mapping) -> bool:
        if not stat.S_ISREG(found.mode):
            return False
        local = self.kind(mapping) in _LOCAL or is_tmpfs(file)
        return local and not self._files.is_leased(mapping, own=True)

    def _is_of_local(self, file: Descriptor, found: Stat) -> bool:
        """Return whether a file in an overlay's layer may be opened."""
        mounts = self._files.own_mounts.get(found.device, [])
        return is_tmpfs(file) or any(mount.kind in _LOCAL for mount in mounts[:1])

    @staticmethod
    def _open(file: Descriptor, size: int) -> Opened:
        opened, quiet = reopen_quietly(file)
        return Opened(opened, quiet, is_tmpfs(file), _pages(size))


def _pages(size: int) -> int:
    return -(-size // os.sysconf("SC_PAGESIZE"))
