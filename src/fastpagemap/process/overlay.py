"""The file of an overlay's layer that a mapping shows.

The kernel gives no way to it. It shows a file of an overlay with the inode, size and times of the
file in the layer, but a file that was mapped before it was copied up goes on showing the lower one.
So the layer's file is looked for, and is taken only if it can be no other.
"""

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

from .._kernel import descriptor, pagecache
from .._kernel.descriptor import Descriptor, open_resolved
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from .mounts import Mount, Mounts, unescape
from .opening import Stat, is_tmpfs, look, pass_over, reopen
from .process import Process
from .smaps import size_of, smaps

__all__ = ["Layers"]

_LAYER = re.compile(rb"(?:^|,)(upperdir|lowerdir\+?)=([^,]*)")
# A file's content may then lie in another layer than its name.
_APART = re.compile(rb"(?:^|,)(?:metacopy=on|datadir|lowerdir=[^,]*::)")
_MAX_LAYERS = 500  # as in the kernel
# Readings of smaps for one question, after the first.
_MAX_REREADS = 4
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_NO_LINKS = descriptor.RESOLVE_NO_SYMLINKS  # nor magic ones
_BELOW = _NO_LINKS | descriptor.RESOLVE_IN_ROOT | descriptor.RESOLVE_NO_XDEV


class _Place(NamedTuple):
    """A file in a layer; `upper`: it may have been copied up after it was mapped."""

    layer: bytes
    rest: bytes
    upper: bool


class Layers:
    """Finds the files in layers that one process has mapped; caches what it finds."""

    def __init__(self, process: Process, own_mounts: Mounts, mounts: Mounts) -> None:
        self._process = process
        self._own = own_mounts
        self._mounts = mounts
        self._places: dict[tuple[int, int, str], _Place | None] = {}
        self._rereads = _MAX_REREADS

    def opened(
        self, mapping: Mapping, usable: Callable[[Descriptor, Stat], bool]
    ) -> Descriptor | None:
        """Open the layer's file, if it is sure which one that is, and usable."""
        key = mapping.device, mapping.inode, mapping.path
        try:
            if key not in self._places:
                self._places[key] = None
                self._places[key] = self._place(mapping)
            place = self._places[key]
            return None if place is None else self._open(place, mapping, usable)
        except OSError as error:
            pass_over(error)
            return None

    def _shown(self, mapping: Mapping) -> Stat:
        """Look at the file as the overlay shows it, through the mapping."""
        return look(self._process.open(f"map_files/{mapping.start:x}-{mapping.end:x}", os.O_PATH))

    def _place(self, mapping: Mapping) -> _Place:
        """Find the layer and the path in it."""
        device = mapping.device
        if not _overlays(self._own, device):  # before Linux 6.8 maps shows the layer's device
            device = self._shown(mapping).device
        # Another process's mounts say nothing: it chose their layers, in directories that it sees.
        mounts = _overlays(self._own, device)
        if mounts and not _APART.search(mounts[0].options):
            layers = _layers(mounts[0])[:_MAX_LAYERS]
            for rest in _paths(mapping, self._mounts.get(device, []) + mounts):
                there = [layer for layer in layers if _has(layer, rest)]
                if there:
                    upper = there[0] == layers[0] and b"upperdir=" in mounts[0].options
                    if upper and len(there) > 1:
                        break  # it may show either
                    return _Place(there[0], rest, upper)
        raise FileNotFoundError(errno.ENOENT, "in no layer that is sure", mapping.path)

    def _open(
        self, place: _Place, mapping: Mapping, usable: Callable[[Descriptor, Stat], bool]
    ) -> Descriptor:
        """Open the file in its layer, if it is the one that is mapped."""
        shown = self._shown(mapping)
        found = _find(place.layer, place.rest)
        about = look(found)
        exact = (about.device, about.inode) == (mapping.device, mapping.inode)
        regular = stat.S_ISREG(about.mode) and usable(found, about)
        if not regular or not (exact or _is_like(about, shown)):
            raise FileNotFoundError(errno.ENOENT, "another file in the layer", mapping.path)
        file = reopen(found)
        if exact or not place.upper or (is_tmpfs(found) and self._is_as_swapped(file, mapping)):
            return file
        raise FileNotFoundError(errno.ENOENT, "it may show another layer", mapping.path)

    def _is_as_swapped(self, file: Descriptor, mapping: Mapping) -> bool:
        """Return whether as much of a file is swapped as smaps says of a shared mapping.

        A file that was copied up, and got another name since, has no trace of the lower one.
        """
        while mapping.shared:
            evicted = pagecache.evicted(
                file.fd, mapping.path, mapping.offset // PAGE_SIZE, mapping.pages
            )
            if self._totals.get(mapping[:2]) == evicted * PAGE_SIZE:
                return True
            if not self._rereads:
                break
            self._rereads -= 1  # pages come and go meanwhile
            del self._totals
        return False

    @functools.cached_property
    def _totals(self) -> dict[tuple[int, int], int]:
        """The bytes of swap that smaps says of each mapping."""
        with contextlib.suppress(MemoryError, ProcessLookupError):
            return {
                (mapping.start, mapping.end): size_of(fields["Swap"])
                for mapping, fields in smaps(self._process, "Swap")
                if "Swap" in fields
            }
        return {}


def _overlays(mounts: Mounts, device: int) -> list[Mount]:
    return [mount for mount in mounts.get(device, []) if mount.kind == b"overlay"]


def _is_like(about: Stat, shown: Stat) -> bool:
    """Return whether a file is as the overlay shows it: all but the device."""
    names = ("inode", "size", "changed", "modified")
    return all(getattr(about, name) == getattr(shown, name) for name in names)


def _layers(mount: Mount) -> list[bytes]:
    """Return the directories of an overlay's layers, from the top; none if some have no full path.

    They are as who mounted it wrote them.
    """
    found: list[bytes] = []
    for kind, text in _LAYER.findall(mount.options):
        names = [unescape(text)]
        if kind == b"lowerdir":
            names = [name.replace(b"\\:", b":") for name in re.split(rb"(?<!\\):", names[0])]
        found = names + found if kind == b"upperdir" else found + names
    return found if all(name.startswith(b"/") for name in found) else []


def _paths(mapping: Mapping, mounts: list[Mount]) -> list[bytes]:
    """Return the paths that a mapping's file may have in the overlay."""
    path = os.fsencode(mapping.path)
    found: dict[bytes, None] = {}
    for mount in mounts:
        point = mount.point.rstrip(b"/") + b"/"
        if path.startswith(point):
            found[mount.root.rstrip(b"/") + b"/" + path.removeprefix(point)] = None
    return list(found)


def _find(layer: bytes, rest: bytes) -> Descriptor:
    """Find a file by O_PATH in a layer that is on this machine."""
    try:
        # An overlay holds its layers' directories: the kernel has them in memory.
        resolve = _NO_LINKS | descriptor.RESOLVE_CACHED
        directory = open_resolved(layer, _DIRECTORY, resolve)
    except FileNotFoundError as error:  # which is not to say that the layer lacks the file
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), error.filename) from None
    if not look(directory).local:
        raise OSError(errno.EREMOTE, os.strerror(errno.EREMOTE), os.fsdecode(layer))
    return open_resolved(rest, os.O_PATH, _BELOW, directory.fd)


def _has(layer: bytes, rest: bytes) -> bool:
    """Return whether a layer has anything at a path, but a directory."""
    try:
        return not stat.S_ISDIR(look(_find(layer, rest)).mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
