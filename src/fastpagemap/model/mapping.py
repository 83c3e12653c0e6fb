"""One line of /proc/PID/maps."""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from .entry import PAGE_SIZE

__all__ = ["KERNEL_HALF", "KERNEL_PATHS", "UNKNOWN_PATH", "Mapping", "listed", "looks_shmem"]

KERNEL_PATHS = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]", "[vectors]", "[sigpage]", "[timens")
"""How the paths of the kernel's own mappings begin: it shows them, and no process may write there.

Unlike [heap], [stack] and [anon:NAME], these are not ordinary memory.
"""
UNKNOWN_PATH = "[unknown]"
"""The path of a mapping where nothing but its addresses is known: entries alone were saved."""
# The kernel's own tmpfs: shared anonymous memory, memfds, SysV, buffers of graphics drivers. It is
# device 0:1 since Linux 5. Before, it had another number, below 0:10 or so, but the same names.
_KERNEL_TMPFS = os.makedev(0, 1)
_KERNEL_NAMES = re.compile(
    r"/(dev/zero|SYSV[0-9a-f]{8}|memfd:.*|i915|drm mm object) \(deleted\)", re.DOTALL
)
KERNEL_HALF = 1 << 63
"""The address where the kernel's half of the address space begins."""


class Mapping(NamedTuple):
    """One line of /proc/PID/maps: a range of addresses with the same rights and the same file.

    Attributes
    ----------
    start, end : int
        Addresses in bytes; `end` is the first one after the mapping.
    permissions : str
        Four characters as in maps: ``rwxp``; the last one is ``s`` if the mapping is shared.
    offset : int
        Offset in the file where the mapping starts, in bytes.
    device : int
        The device of the file, as in ``os.stat(path).st_dev``; 0 if there is no file. For files
        on overlayfs and btrfs the kernel shows another device here than in ``st_dev``.
    inode : int
        The file's inode, 0 if there is no file.
    path : str
        As in maps, decoded with ``os.fsdecode``: a file's path (followed by `` (deleted)`` once it
        is unlinked), a name in brackets (``[heap]``, ``[anon:NAME]``), or empty. It is
        ``[unknown]`` for entries that were saved without maps.

    Examples
    --------
    >>> mapping = fpm.PageMap().mappings()[0]
    >>> mapping.pages * fpm.PAGE_SIZE == mapping.end - mapping.start
    True
    """

    start: int
    end: int
    permissions: str
    offset: int
    device: int
    inode: int
    path: str

    @property
    def pages(self) -> int:
        """The number of pages in it."""
        return (self.end - self.start) // PAGE_SIZE

    @property
    def shared(self) -> bool:
        """Whether it is mapped MAP_SHARED: writes go to the file, for all processes that map it."""
        return self.permissions[3] == "s"

    @property
    def writable(self) -> bool:
        """Whether it may be written."""
        return self.permissions[1] == "w"

    @property
    def anonymous(self) -> bool:
        """Whether it has no file, and is not a mapping of the kernel, such as ``[vdso]``.

        Shared anonymous memory is not: the kernel gives it a file (``/dev/zero (deleted)``).
        """
        # A SysV segment may have inode 0, but it has a device.
        return not (
            self.inode or self.device or self.path.startswith((*KERNEL_PATHS, UNKNOWN_PATH))
        )


def listed(mappings: Iterable[Mapping]) -> list[Mapping]:
    """Return mappings as a list; raise TypeError for what is something else.

    They may be rows of another kind, if these have a start and an end.
    """
    found = list(mappings) if isinstance(mappings, Iterable) else [mappings]
    for each in found:
        if not (isinstance(each, Mapping) or (hasattr(each, "start") and hasattr(each, "end"))):
            raise TypeError(
                f"a {type(mappings).__name__} of {type(each).__name__}: a list of mappings is "
                "needed, as from PageMap.mappings()"
            )
    return found


def looks_shmem(mapping: Mapping) -> bool:
    """Return whether a mapping's device or path says that it is of shared memory, on any kernel.

    A tmpfs that is mounted elsewhere than on /dev/shm looks like any file system.
    """
    path, device = mapping.path, mapping.device
    if path.startswith("["):
        return path.startswith("[anon_shmem:")
    if device == _KERNEL_TMPFS or path.startswith("/dev/shm/"):
        return True
    # A file on a disk may have such a name, too.
    return not os.major(device) and _KERNEL_NAMES.fullmatch(path) is not None
