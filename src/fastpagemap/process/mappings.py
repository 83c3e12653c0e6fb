"""The mappings of a process: all of them from /proc/PID/maps, or a few by PROCMAP_QUERY."""

import errno
import os

from .._kernel import procmaps
from ..model.mapping import KERNEL_HALF, Mapping
from .process import Process

__all__ = ["mappings", "parse_maps", "within"]

# More queries for single mappings would cost more than to read and parse all of maps.
_MAX_QUERIES = 64


def mappings(process: Process) -> list[Mapping]:
    """Return all mappings of a process, in address order."""
    return parse_maps(process, process.read_own("maps"))


def parse_maps(process: Process, text: bytes) -> list[Mapping]:
    """Parse lines of /proc/PID/maps, each with its newline."""
    found = procmaps.parse_maps(text, Mapping, os.fsdecode)
    if b"\\012" in text:
        for index, mapping in enumerate(found):
            if "\\012" in mapping.path:
                found[index] = mapping._replace(path=_path_with_newline(process, mapping))
    return found


def within(process: Process, start: int, end: int, *, files: bool = False) -> list[Mapping]:
    """Return the mappings, or only those of files, that overlap a span, in address order.

    Up to 64 are queried one by one (Linux 6.11), at a cost that does not grow with the number of
    mappings of the process. ``[vsyscall]``, in the kernel's half, is never among them.
    """
    found: list[Mapping] = []
    at = start
    try:
        while at < end and len(found) < _MAX_QUERIES:
            stop = min(end, KERNEL_HALF)
            mapping = procmaps.query(
                process.maps, process.path, at, stop, files, Mapping, os.fsdecode
            )
            if mapping is None:
                return found
            found.append(mapping)
            at = mapping.end
        if at >= end:
            return found
    except ProcessLookupError:
        raise process.gone() from None
    except OSError as error:
        # ENOTTY: before Linux 6.11. ENAMETOOLONG: a path of more than 4096 bytes.
        if error.errno not in (errno.ENOTTY, errno.ENAMETOOLONG):
            raise
    return [
        mapping
        for mapping in mappings(process)
        if start < mapping.end and mapping.start < min(end, KERNEL_HALF)
        if mapping.inode or mapping.device or not files
    ]


def _path_with_newline(process: Process, mapping: Mapping) -> str:
    r"""Return the path of a mapping that maps shows with ``\012``, the kernel's newline escape.

    A file name with a backslash and these three digits looks the same. The link in map_files tells
    the two apart, if this user may read it. If not, a newline is assumed, which is far more likely.
    """
    try:
        return os.fsdecode(process.readlink(f"map_files/{mapping.start:x}-{mapping.end:x}"))
    except OSError:
        return mapping.path.replace("\\012", "\n")
