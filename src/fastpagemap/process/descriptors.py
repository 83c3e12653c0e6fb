"""The descriptors of a process: which of them are of a mapping's file, and whether it is leased."""

import functools
import itertools
import os
import re

from ..model.mapping import Mapping
from .opening import pass_over
from .process import Process

__all__ = ["Descriptors"]

# More are not looked at.
_MAX_DESCRIPTORS = 1 << 16
_INODE = re.compile(rb"^ino:\s*(\d+)", re.MULTILINE)
# Who opens a file with such a lease sends its holder a signal, which may end it.
_LEASE = re.compile(rb"^lock:\s.* LEASE +(?:BREAKING|\S+ +WRITE) ", re.MULTILINE)
# fdinfo of a usual file has some hundred bytes, but there may be many locks.
_MAX_INFO_BYTES = 1 << 16


class _Group:
    """The descriptors with one path: names by the inode, None before Linux 5.14."""

    def __init__(self) -> None:
        self.names: dict[int | None, str] = {}
        self.leased: set[int | None] = set()


class Descriptors:
    """The descriptors of one process by the file that they lead to; no file is asked anything.

    The kernel makes the text of a descriptor's link, and of its fdinfo, from what it has in memory.
    A stat would ask the server of a FUSE or network file system, which need not answer.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._groups: dict[str, _Group] = {}

    def name(self, mapping: Mapping) -> str | None:
        """Return the name of a descriptor with the path and the inode of a mapping, if any."""
        names = self._group(mapping.path).names
        return names.get(mapping.inode) or names.get(None)

    def is_leased(self, path: str, inode: int) -> bool:
        """Return whether to open a file that this process has open might break a lease of it.

        The kernel gives such a lease only on a file that nobody else has open. So its descriptor
        has the path of its mappings. Not seen is a lease of another process, nor one whose
        descriptor was closed: it lasts as long as a mapping.
        """
        leased = self._group(path).leased
        return inode in leased or None in leased or len(self.all) >= _MAX_DESCRIPTORS

    def _group(self, path: str) -> _Group:
        group = self._groups.get(path)
        if group is None:
            group = self._groups[path] = _Group()
            for name in self._names.get(hash(os.fsencode(path)), ()):
                self._add(group, name)
        return group

    @functools.cached_property
    def all(self) -> list[str]:
        """The names of the descriptors, of the first 65,536."""
        directory = self._process.open("fd", os.O_RDONLY | os.O_DIRECTORY)
        with os.scandir(directory.fd) as entries:
            return [entry.name for entry in itertools.islice(entries, _MAX_DESCRIPTORS)]

    @functools.cached_property
    def _names(self) -> dict[int, list[str]]:
        """The names of the descriptors, by the hash of the path that each leads to."""
        found: dict[int, list[str]] = {}
        for name in self.all:
            try:
                path = self._process.readlink(f"fd/{name}")
            except OSError as error:  # closed meanwhile, or a path of more than a page
                pass_over(error)
            else:
                found.setdefault(hash(path), []).append(name)
        return found

    def _add(self, group: _Group, name: str) -> None:
        try:
            text = self._process.read(f"fdinfo/{name}", _MAX_INFO_BYTES)
        except OSError as error:
            pass_over(error)
            return
        found = _INODE.search(text)
        inode = int(found[1]) if found else None
        group.names[inode] = name
        if len(text) == _MAX_INFO_BYTES or _LEASE.search(text):
            group.leased.add(inode)
