"""The file that backs a mapping: its file system, and the ways to open it."""

import errno
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .._kernel.descriptor import CWD, Descriptor, open_file
from ..model.errors import tells_of_file
from ..model.mapping import Mapping
from .process import Process

__all__ = ["Files", "Mount"]

_MOUNT = re.compile(rb"^\d+ \d+ (\d+):(\d+) \S+ (\S+) .* - (\S+) \S+ (.*)$", re.MULTILINE)
_OCTAL = re.compile(rb"\\([0-7]{3})")
_LAYERS = re.compile(rb"(?:upperdir|lowerdir\+?|datadir\+)=([^,]*)")


class Mount(NamedTuple):
    """A line of mountinfo; `kind` is the type of the file system."""

    device: int
    point: bytes
    kind: bytes
    options: bytes


def _unescape(text: bytes) -> bytes:
    """Decode mountinfo's octal escapes of blanks and backslashes."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)


class Files:
    """The files that one process has mapped.

    It caches what it finds: make a new one for each public call, because that goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.process = process

    @functools.cached_property
    def mounts(self) -> list[Mount]:
        """The mounts of this process and of the one that is read."""
        with open("/proc/self/mountinfo", "rb") as file:
            text = file.read()
        try:
            text += self.process.read("mountinfo")
        except OSError as error:
            _pass_over(error)
        return [
            Mount(os.makedev(int(major), int(minor)), _unescape(point), kind, options)
            for major, minor, point, kind, options in _MOUNT.findall(text)
        ]

    def is_device(self, mapping: Mapping) -> bool:
        """Return whether a mapping is known to be of a character device.

        /dev/zero is on a tmpfs, but a private mapping of it holds anonymous memory.
        """
        try:
            about = os.stat(mapping.path, follow_symlinks=False)
        except ValueError:
            return False
        except OSError as error:
            _pass_over(error)
            return False
        same = (about.st_dev, about.st_ino) == (mapping.device, mapping.inode)
        return same and stat.S_ISCHR(about.st_mode)

    def descriptors(self, mapping: Mapping) -> Iterator[Descriptor]:
        """Yield a mapping's file, opened in each way that works.

        Raises
        ------
        OSError
            There are too many open files, or there is too little memory, to try all ways.
        """
        for open_by in (
            self._by_map_files,
            self._by_process_descriptor,
            self._by_path,
            self._by_layers,
        ):
            try:
                found = open_by(mapping)
            except OSError as error:
                _pass_over(error)
                continue
            yield found

    def _by_map_files(self, mapping: Mapping) -> Descriptor:
        """Open the file through the mapping itself (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)."""
        name = f"map_files/{mapping.start:x}-{mapping.end:x}"
        return _open_same(name, self.process.directory, mapping)

    def _by_process_descriptor(self, mapping: Mapping) -> Descriptor:
        """Open the file through a descriptor of the process that is read."""
        descriptor = self._process_descriptors.get((mapping.device, mapping.inode, mapping.path))
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "no descriptor of it", mapping.path)
        return _open_same(self.process.where(f"fd/{descriptor}"), self.process.directory, mapping)

    @functools.cached_property
    def _process_descriptors(self) -> dict[tuple[int, int, str], str]:
        """One of the process's descriptors for each file, by device, inode and path.

        The path too: a SysV segment, which has no descriptor, may have the inode of a memfd.
        """
        found = {}
        directory = self.process.open("fd", os.O_RDONLY | os.O_DIRECTORY)
        for name in os.listdir(directory.fd):
            try:
                about = os.stat(name, dir_fd=directory.fd)
                path = os.readlink(name, dir_fd=directory.fd)
                found[about.st_dev, about.st_ino, path] = name
            except OSError as error:
                _pass_over(error)
        return found

    def _by_path(self, mapping: Mapping) -> Descriptor:
        """Open the file by its path, under the process's root or under this one's."""
        if not mapping.path.startswith("/") or mapping.path.endswith(" (deleted)"):
            raise FileNotFoundError(errno.ENOENT, "it has no path", mapping.path)
        try:
            root = self.process.where(f"root{mapping.path}")
            return _open_same(root, self.process.directory, mapping)
        except OSError as error:
            _pass_over(error)
        return _open_same(mapping.path, CWD, mapping)

    def _by_layers(self, mapping: Mapping) -> Descriptor:
        """Open the file in the layer of the overlay that it is mapped from.

        Overlayfs shows the inode, size and times of the file in the layer, but its own device.
        """
        # Asked through the mapping: another overlay may be mounted at its path by now.
        name = f"map_files/{mapping.start:x}-{mapping.end:x}"
        about = os.stat(name, dir_fd=self.process.directory)
        path = os.fsencode(mapping.path)
        for mount in self.mounts:
            if mount.kind != b"overlay" or mount.device != about.st_dev:
                continue
            rest = os.path.relpath(path, mount.point)
            for layer in (_unescape(part) for part in _LAYERS.findall(mount.options)):
                for directory in layer.split(b":"):
                    try:
                        return _open_if(os.path.join(directory, rest), CWD, _same_file(about))
                    except OSError as error:
                        _pass_over(error)
        raise FileNotFoundError(errno.ENOENT, "in no layer that can be seen", mapping.path)


def _pass_over(error: OSError) -> None:
    """Raise an error again that does not tell about the file."""
    if not tells_of_file(error):
        raise error


def _open_same(path: str, directory: int, mapping: Mapping) -> Descriptor:
    """Open a file for reading, if it is the one that is mapped."""

    def same(about: os.stat_result) -> bool:
        return (about.st_dev, about.st_ino) == (mapping.device, mapping.inode)

    return _open_if(path, directory, same)


def _same_file(other: os.stat_result) -> Callable[[os.stat_result], bool]:
    """Return a function that tells whether a file is the same one, apart from its device."""

    def same(about: os.stat_result) -> bool:
        return all(
            getattr(about, name) == getattr(other, name)
            for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        )

    return same


def _open_if(
    path: str | bytes, directory: int, is_wanted: Callable[[os.stat_result], bool]
) -> Descriptor:
    """Open a regular file for reading, if it is the one wanted.

    Checked before it is opened: the path may lead to another file by now, or to a pipe or a device,
    where opening has side effects.
    """
    found = open_file(path, os.O_PATH, directory)
    about = os.fstat(found.fd)
    if not stat.S_ISREG(about.st_mode) or not is_wanted(about):
        raise FileNotFoundError(errno.ENOENT, "another file by now", path)
    # O_NONBLOCK: do not wait for the holder of a lease.
    return open_file(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_NONBLOCK)
