"""The files of any file system on this machine, opened to ask which of their pages are cached."""

import functools
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .._kernel import pagecache
from .._kernel.descriptor import Descriptor
from ..model.entry import page_count
from ..model.mapping import Mapping
from .backing import Backings
from .leases import Leases
from .mounts import Mounts
from .opening import Stat, is_btrfs, is_tmpfs, pass_over, reopen_quietly

__all__ = ["STACKED", "LocalFiles", "Opened"]

# File systems of the kernel itself, whose files are opened without asking a server.
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

    def mincore_tells(self) -> bool:
        """Return whether mincore may be asked what of it is cached, and then tells the truth.

        To map a file for it may change its access time. And it calls a swapped page with a copy in
        the swap cache cached.
        """
        return self.quiet and not (self.tmpfs and pagecache.swap_in_use())


class LocalFiles:
    """Opens the files that one process has mapped, if that cannot wait and has no effect."""

    def __init__(self, backings: Backings) -> None:
        self._backings = backings
        self._files = backings.files
        self._leases = Leases()
        # By the device of a file: whether it is of a file system of the kernel's own.
        self._local: dict[int, bool] = {}
        # Files of those that are. As long as one is held, no other file system has its device.
        self._held: list[Descriptor] = []

    def kind(self, mapping: Mapping) -> bytes:
        """Return the type of a mapping's file system as in mountinfo; empty if it is not known."""
        return _kind(self._files.mounts, mapping.device)

    def has_subvolumes(self, mapping: Mapping) -> bool:
        """Return whether another file of the file system may look the same in maps.

        Files of two subvolumes may have one inode; and one path, where one is mounted over the
        other.
        """
        return self.kind(mapping) == b"btrfs"

    def is_local(self, mapping: Mapping) -> bool:
        """Return whether a mapping's file system is one of the kernel's own, or a tmpfs."""
        return self.kind(mapping) in _LOCAL or self._backings.is_shmem(mapping) is True

    def opened(self, mapping: Mapping) -> Iterator[Opened]:
        """Yield a mapping's file, opened in each way that works."""
        any_device = self.has_subvolumes(mapping)
        for file, found in self._files.found(mapping, any_device=any_device):
            try:
                if not self._may_be_opened(file, found, mapping):
                    continue
                opened = self._open(file, found.size)
                # What was found is of the mapping's file system, unless maps shows a layer's.
                if pagecache.file_system(opened.file.fd) in STACKED:
                    continue
            except OSError as error:
                pass_over(error)
                continue
            yield opened
        layer = self._files.layer(mapping, functools.partial(self._has_no_effect, mapping))
        if layer is not None:
            size = os.fstat(layer.fd).st_size
            yield Opened(layer, False, is_tmpfs(layer), page_count(size))

    def _may_be_opened(self, file: Descriptor, found: Stat, mapping: Mapping) -> bool:
        if not stat.S_ISREG(found.mode):
            return False
        if self._files.is_leased(mapping, own=True):  # also where /proc/locks cannot be read
            return False
        return self._has_no_effect(mapping, file, found)

    def _has_no_effect(self, mapping: Mapping, file: Descriptor, found: Stat) -> bool:
        """Return whether to open a file cannot wait, and breaks no lease of any process."""
        return self._is_sure(file, found) and not self._leases.cover(
            found, mapping.path, exact=is_tmpfs(file)
        )

    def _is_sure(self, file: Descriptor, found: Stat) -> bool:
        """Return whether a file that is held is on a file system of the kernel's own, or a tmpfs.

        The table of mounts that said so of its device was read before the file was found. Since
        then its process may have unmounted that, and had the device given to a file system with a
        server. So the table is read again. btrfs shows devices that are in no table.
        """
        if is_tmpfs(file) or is_btrfs(file):
            return True
        device = found.device
        if device not in self._local:
            self._local[device] = _kind(self._files.mounts, device) in _LOCAL and (
                _kind(self._files.mounts_now(), device) in _LOCAL
            )
            if self._local[device]:
                self._held.append(file)
        return self._local[device]

    @staticmethod
    def _open(file: Descriptor, size: int) -> Opened:
        opened, quiet = reopen_quietly(file)
        return Opened(opened, quiet, is_tmpfs(file), page_count(size))


def _kind(mounts: Mounts, device: int) -> bytes:
    """Return the type of a device's file system in a table of mounts; empty if it has none."""
    return mounts[device][0].kind if device in mounts else b""
