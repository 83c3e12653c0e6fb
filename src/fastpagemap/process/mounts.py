"""The mounts that a process sees: of which type the file system of each device is."""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from .._kernel.descriptor import open_file
from .._kernel.lines import Lines
from .._kernel.own_files import own_file

__all__ = ["Mount", "Mounts", "own_mounts", "parse_mounts", "unescape"]

# The first " - " ends the optional fields: no field before it can have a blank in it.
_MOUNT = re.compile(
    rb"^\d+ \d+ (\d+):(\d+) (\S+) (\S+) \S+ (?:\S+ )*?- (\S+) \S* (.*)$", re.MULTILINE
)
_OCTAL = re.compile(rb"\\([0-7]{3})")
# A user may make mounts, and their paths are long: 100,000 usual ones fit.
_MAX_BYTES = 1 << 24
# Many mounts may show one file system, and type and options are the same for all.
_MAX_PER_DEVICE = 16


class Mount(NamedTuple):
    """A line of mountinfo: `root` of a file system, at `point`; `kind` is the type of it."""

    root: bytes
    point: bytes
    kind: bytes
    options: bytes


Mounts = dict[int, list[Mount]]
"""The mounts of each device, the first 16 of them."""


def unescape(text: bytes) -> bytes:
    """Decode mountinfo's octal escapes of blanks and backslashes."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)


def own_mounts() -> Mounts:
    """Return the mounts that this process sees."""
    table = own_file("mountinfo")
    return parse_mounts(Lines(open_file(table, os.O_RDONLY), table))


def parse_mounts(texts: Iterable[bytes]) -> Mounts:
    """Parse the lines of a mountinfo, its first 16 MiB, by device."""
    found: Mounts = {}
    size = 0
    for text in texts:
        for major, minor, *fields in _MOUNT.findall(text):
            mounts = found.setdefault(os.makedev(int(major), int(minor)), [])
            if len(mounts) < _MAX_PER_DEVICE:
                root, point, kind, options = fields
                mounts.append(Mount(unescape(root), unescape(point), kind, options))
        size += len(text)
        if size > _MAX_BYTES:
            break
    return found
