"""One line of /proc/PID/maps."""

from typing import NamedTuple

from .entry import PAGE_SIZE

__all__ = ["KERNEL_HALF", "Mapping"]

# Unlike [heap], [stack] and [anon:NAME], these are not ordinary memory.
_SPECIAL = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]", "[vectors]", "[sigpage]", "[timens")
KERNEL_HALF = 1 << 63
"""The address where the kernel's half of the address space begins."""


class Mapping(NamedTuple):
    """One line of /proc/PID/maps: a range of addresses with the same rights and the same file.

    Attributes
    ----------
    start, end : int
        Addresses in bytes; `end` is the first one after the mapping.
    permissions : str
        Four characters as in maps: ``rwxp``, ``s`` in the last place for shared.
    offset : int
        Offset in the file where the mapping starts, in bytes.
    device : int
        The device of the file, as in ``os.stat(path).st_dev``; 0 if there is no file. For files
        on overlayfs and btrfs the kernel shows another device here than in ``st_dev``.
    inode : int
        The file's inode, 0 if there is no file.
    path : str
        As in maps, decoded with ``os.fsdecode``: a file's path (with `` (deleted)`` after it once
        it is unlinked), a name in brackets (``[heap]``, ``[anon:NAME]``), or empty.

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
        """How many pages it spans."""
        return (self.end - self.start) // PAGE_SIZE

    @property
    def shared(self) -> bool:
        """Whether it was mapped MAP_SHARED: writes reach the file and all who map it."""
        return self.permissions[3] == "s"

    @property
    def writable(self) -> bool:
        """Whether it may be written."""
        return self.permissions[1] == "w"

    @property
    def anonymous(self) -> bool:
        """Whether it has no file, and is none of the kernel's own, such as ``[vdso]``.

        Shared anonymous memory has a file of the kernel's own (``/dev/zero (deleted)``).
        """
        # A SysV segment may have inode 0, but it has a device.
        return not (self.inode or self.device or self.path.startswith(_SPECIAL))
