"""The leases of the machine: to open a file that has one sends its holder a signal."""

from __future__ import annotations

import errno
import functools
import os
import re

from .._kernel.descriptor import open_file
from .._kernel.lines import Lines
from ..model.errors import UnsupportedError
from .mounts import own_mounts
from .namespaces import is_foreign, shows_all
from .opening import Stat, pass_over

__all__ = ["Leases"]

_LOCKS = "/proc/locks"
# To open a file for reading breaks such a lease, which may end its holder.
_LEASE = re.compile(
    rb" (?:LEASE|DELEG) +(?:BREAKING|\S+ +WRITE) .* ([0-9a-f]+):([0-9a-f]+):(\d+) \d+ \S+$",
    re.MULTILINE,
)
# Any user may take many locks. While the kernel lists them nobody else can take one, and it walks
# those before again for each read: some 80,000 fit.
_MAX_BYTES = 1 << 22
# One read gives 4096 bytes of whole lines, however much room it has. For the next one the kernel
# counts lines from the first: if one of those has gone meanwhile, one that stays is not listed.
_ONE_READ_BYTES = 3 << 10
# So a longer list is read several times: the same line is hardly left out each time.
_READINGS = 3


class Leases:
    """The leases for writing that this pid namespace shows, as they are when first asked for.

    Parameters
    ----------
    most : int, optional
        How many bytes of locks are looked at.
    """

    def __init__(self, most: int = _MAX_BYTES) -> None:
        self._most = most
        self._failed = False

    def tell(self, device: int, inode: int) -> bool | None:
        """Return whether a file has a lease; None if the list may lack one.

        It does in a pid namespace that does not show the process that took it.
        """
        files = self._files
        return (device, inode) in files if files is not None and self._is_complete else None

    @functools.cached_property
    def _is_complete(self) -> bool:
        return not self._failed and shows_all() and not is_foreign()

    def cover(self, found: Stat, path: str, *, exact: bool = False) -> bool:
        """Return whether to open a file for reading would break a lease.

        The kernel shows the device of the file system. Where `found` may have another one, as on
        btrfs, the inode alone is compared. `exact`: it has that one.

        Raises
        ------
        UnsupportedError
            There are too many locks to look at.
        """
        if self._files is None:
            why = (
                f"{_LOCKS} has more than {self._most >> 20} MiB: whether a process holds a lease "
                "on it, which would break if it were opened, is not known"
            )
            raise UnsupportedError(errno.EOPNOTSUPP, why, path)
        devices = {device for device, inode in self._files if inode == found.inode}
        if exact or (devices and found.device in self._devices):
            return found.device in devices
        return bool(devices)

    @functools.cached_property
    def _files(self) -> frozenset[tuple[int, int]] | None:
        """Device and inode of each file with such a lease; None if there are too many locks."""
        files: set[tuple[int, int]] = set()
        try:
            for _ in range(_READINGS):
                size = self._add_to(files)
                if size > self._most:
                    return None
                if size <= _ONE_READ_BYTES:
                    break
        except OSError as error:
            pass_over(error)
            self._failed = True
        return frozenset(files)

    def _add_to(self, files: set[tuple[int, int]]) -> int:
        """Add the files that the list has; return its bytes, or more than may be looked at."""
        size = 0
        for text in Lines(open_file(_LOCKS, os.O_RDONLY), _LOCKS):
            for major, minor, inode in _LEASE.findall(text):
                files.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
            size += len(text)
            if size > self._most:
                break
        return size

    @functools.cached_property
    def _devices(self) -> frozenset[int]:
        """The devices of the file systems that this process sees."""
        try:
            return frozenset(own_mounts())
        except OSError as error:
            pass_over(error)
            return frozenset()
