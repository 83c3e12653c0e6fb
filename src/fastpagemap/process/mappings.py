"""The mappings of a process: all of them from the text of /proc/PID/maps, a few one by one."""

import errno
import os

from .._kernel import procmaps
from ..model.mapping import KERNEL_HALF, Mapping
from .process import Process

__all__ = ["mappings", "parse_maps", "within"]

# Mappings to ask for one by one, before reading the text of all is cheaper.
_MAX_QUERIES = 64


def mappings(process: Process) -> list[Mapping]:
    """Return all mappings of a process, in address order."""
    return parse_maps(process, process.read_own("maps"))


def parse_maps(process: Process, text: bytes) -> list[Mapping]:
    """Parse lines as /proc/PID/maps has them, each with its newline."""
    found = procmaps.parse_maps(text, Mapping, os.fsdecode)
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
        # ENOTTY before Linux 6.11; a path beyond 4096 bytes
        if error.errno not in (errno.ENOTTY, errno.ENAMETOOLONG):
            raise
    return [
        mapping
        for mapping in mappings(process)
        if start < mapping.end and mapping.start < min(end, KERNEL_HALF)
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
