"""/proc/PID/maps to Mapping."""

import errno
import os
from typing import NamedTuple

from . import maps
from .entry import PAGE_SIZE
from .process import Process

__all__ = ["Mapping", "mappings", "within"]

# [heap], [stack] and [anon:NAME] are memory like any other; these are not
_SPECIAL = ("[vdso]", "[vvar", "[vsyscall]", "[uprobes]", "[vectors]", "[sigpage]", "[timens")


# mappings asked for one by one, before the text of all is cheaper
_FEW = 64
# where the kernel's half of the address space begins
_KERNEL = 1 << 63


class Mapping(NamedTuple):
    """One line of /proc/PID/maps: a range of addresses with the same rights and the same file.

    Attributes
    ----------
    start, end : int
        Addresses in bytes; `end` is the first one after the mapping.
    permissions : str
        Four characters as in maps: ``rwxp``, ``s`` in the last place for shared.
    offset : int
        Where in the file the mapping starts, in bytes.
    device : int
        The device of the file, as in ``os.stat(path).st_dev``; 0 if there is no file. On
        overlayfs and btrfs the kernel shows another one here than in ``st_dev``.
    inode : int
        The file's inode, 0 if there is no file.
    path : str
        As in maps, decoded with ``os.fsdecode``: a file's path, with `` (deleted)`` behind it once
        it is unlinked, a name in brackets (``[heap]``, ``[anon:NAME]``), or empty.
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
        """Whether it was mapped MAP_SHARED: writes reach the file and everyone who maps it."""
        return self.permissions[3] == "s"

    @property
    def writable(self) -> bool:
        """Whether it may be written."""
        return self.permissions[1] == "w"

    @property
    def anonymous(self) -> bool:
        """Whether no file is behind it, nor the kernel itself, as behind ``[vdso]``.

        Shared anonymous memory has a file of the kernel's own (``/dev/zero (deleted)``).
        """
        # a SysV segment may have the inode 0, but it has a device
        return not (self.inode or self.device or self.path.startswith(_SPECIAL))


def mappings(process: Process) -> list[Mapping]:
    """Return all mappings of a process, in address order."""
    text = process.read_own("maps")
    found = maps.parse_maps(text, Mapping, os.fsdecode)
    if b"\\012" in text:
        for index, mapping in enumerate(found):
            if "\\012" in mapping.path:
                found[index] = mapping._replace(path=_path_with_newline(process, mapping))
    return found


def within(process: Process, start: int, end: int, *, files: bool = False) -> list[Mapping]:
    """Return the mappings, or only those of files, that lie in a span or reach into it, in order.

    A few are asked for one by one, where the kernel can be (Linux 6.11): that costs no more in a
    process of many mappings. The gates of the kernel (``[vsyscall]``) are not among them.
    """
    found: list[Mapping] = []
    at = start
    try:
        while at < end and len(found) < _FEW:
            stop = min(end, _KERNEL)
            mapping = maps.query(process.maps, process.path, at, stop, files, Mapping, os.fsdecode)
            if mapping is None:
                return found
            found.append(mapping)
            at = mapping.end
        if at >= end:
            return found
    except ProcessLookupError:
        raise process.gone() from None
    except OSError as error:
        # ENOTTY before Linux 6.11; a path beyond 4096 bytes
        if error.errno not in (errno.ENOTTY, errno.ENAMETOOLONG):
            raise
    return [
        mapping
        for mapping in mappings(process)
        if start < mapping.end and mapping.start < min(end, _KERNEL)
        if mapping.inode or mapping.device or not files
    ]


def _path_with_newline(process: Process, mapping: Mapping) -> str:
    r"""Return a path in which maps shows ``\012``: the kernel's way to write a newline.

    A backslash and three digits look the same there. The link in map_files tells, where it may be
    read; otherwise the far more likely newline is assumed.
    """
    try:
        return os.fsdecode(process.readlink(f"map_files/{mapping.start:x}-{mapping.end:x}"))
    except OSError:
        return mapping.path.replace("\\012", "\n")
