"""The mappings of a process: all of them from /proc/PID/maps, or a few by PROCMAP_QUERY."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from .._kernel import procmaps
from .._kernel.failures import IgnoringFileErrors, is_refusal
from .._kernel.lines import Lines
from .._kernel.ranges import Ranges
from ..model.mapping import KERNEL_HALF, Mapping
from .process import Process

__all__ = ["mappings", "parse_line", "ranges", "within"]

# More queries for single mappings would cost more than to read and parse all of maps.
_MAX_QUERIES = 64


def mappings(process: Process) -> list[Mapping]:
    """Return all mappings of a process, in address order.

    Raises
    ------
    MemoryError
        Its paths come to more than 64 MiB, or those longer than 32 KiB to more than 32 MiB.
    """
    parser = procmaps.Parser(Mapping, os.fsdecode)
    escaped = False
    for text in process.lines("maps"):
        parser.feed(text)
        escaped = escaped or b"\\012" in text
    process.check_alive()
    if escaped:
        return [_with_newline(process, mapping) for mapping in parser.rows]
    return parser.rows


def ranges(process: Process, *, listed: bool = True) -> Ranges:
    """Return the mappings as ranges, without an object for each.

    Unless all that maps lists is wanted, ``[vsyscall]``, in the kernel's half, may be left out:
    then it may cost less. No other thread may read the process meanwhile. Nor is it certain
    afterwards that all is about the memory that ``pagemap`` shows: see `Process.check_alive`.
    Raises MemoryError as `mappings` does.
    """
    found = Ranges()
    if not listed and found.query(process.maps):
        return found
    for text in _read_again(process):
        found.feed(text)
    if not found:  # the thread that it is read through has ended
        for text in process.lines("maps"):
            found.feed(text)
    return found


def _read_again(process: Process) -> Iterable[bytes]:
    """Read maps through the descriptor that is open, if a sandbox lets it begin anew.

    To open the file once more would cost a tenth of all that is asked of a small process.
    """
    with IgnoringFileErrors():
        os.lseek(process.maps, 0, os.SEEK_SET)
        return Lines(process.maps, f"{process.path}/maps")
    return process.lines("maps")


def parse_line(process: Process, parser: procmaps.Parser[Mapping], line: bytes) -> Mapping:
    """Parse one line, with its newline. The parser keeps paths that occur again."""
    parser.feed(line)
    mapping = parser.rows.pop()
    return _with_newline(process, mapping) if b"\\012" in line else mapping


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
            if found and mapping.start < at:  # it has grown over those found before
                procmaps.cut_back(found, mapping.start)
            found.append(mapping)
            at = mapping.end
        if at >= end:
            return found
    except ProcessLookupError:
        raise process.gone() from None
    except OSError as error:
        # Before Linux 6.11, or forbidden. ENAMETOOLONG: a path of more than 4096 bytes.
        if error.errno != errno.ENAMETOOLONG and not is_refusal(error):
            raise
    return [
        mapping
        for mapping in mappings(process)
        if start < mapping.end and mapping.start < min(end, KERNEL_HALF)
        if mapping.inode or mapping.device or not files
    ]


def _with_newline(process: Process, mapping: Mapping) -> Mapping:
    r"""Put back newlines in a mapping's path, which maps shows as ``\012``.

    A file name with a backslash and these three digits looks the same. The link in map_files tells
    the two apart, if this user may read it. If not, a newline is assumed, which is far more likely.
    """
    if "\\012" not in mapping.path:
        return mapping
    path = mapping.path.replace("\\012", "\n")
    with IgnoringFileErrors():
        path = os.fsdecode(process.readlink(f"map_files/{mapping.start:x}-{mapping.end:x}"))
    return mapping._replace(path=path)
