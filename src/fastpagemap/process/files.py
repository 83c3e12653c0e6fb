"""The file behind a mapping: what it is on, and how to open it."""

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Callable, Generator
from typing import NamedTuple

from ..model.mapping import Mapping
from .process import Process

__all__ = ["Files", "Mount"]

_MOUNT = re.compile(rb"^\d+ \d+ (\d+):(\d+) \S+ (\S+) .* - (\S+) \S+ (.*)$", re.MULTILINE)
_OCTAL = re.compile(rb"\\([0-7]{3})")
_LAYERS = re.compile(rb"(?:upperdir|lowerdir\+?|datadir\+)=([^,]*)")


class Mount(NamedTuple):
    """A line of mountinfo."""

    device: int
    point: bytes
    kind: bytes
    options: bytes


def _plain(text: bytes) -> bytes:
    """Undo mountinfo's way to write blanks and backslashes."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)


class Files:
    """The files that one process has mapped.

    What is found out is kept: to be made anew for every call from outside, as it goes stale.
    """

    def __init__(self, process: Process) -> None:
        self.process = process

    @functools.cached_property
    def mounts(self) -> list[Mount]:
        """What this process and that one have mounted."""
        with open("/proc/self/mountinfo", "rb") as file:
            text = file.read()
        with contextlib.suppress(OSError):
            text += self.process.read("mountinfo")
        return [
            Mount(os.makedev(int(major), int(minor)), _plain(point), kind, options)
            for major, minor, point, kind, options in _MOUNT.findall(text)
        ]

    def is_device(self, mapping: Mapping) -> bool:
        """Return whether a mapping is of a device, as far as can be seen.

        /dev/zero is on a tmpfs, but what a private mapping of it holds is memory like any other.
        """
        try:
            about = os.stat(mapping.path, follow_symlinks=False)
        except (OSError, ValueError):
            return False
        same = (about.st_dev, about.st_ino) == (mapping.device, mapping.inode)
        return same and stat.S_ISCHR(about.st_mode)

    def descriptors(self, mapping: Mapping) -> Generator[int, None, None]:
        """Yield descriptors of a mapping's file, opened in one way after the other.

        Each is closed when the next one is asked for.
        """
        for way in (
            self._by_map_files,
            self._by_process_descriptor,
            self._by_path,
            self._by_layers,
        ):
            try:
                fd = way(mapping)
            except OSError:
                continue
            try:
                yield fd
            finally:
                os.close(fd)

    def _by_map_files(self, mapping: Mapping) -> int:
        """Open the file through the mapping itself (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)."""
        name = f"map_files/{mapping.start:x}-{mapping.end:x}"
        return _open_same(name, self.process.directory, mapping)

    def _by_process_descriptor(self, mapping: Mapping) -> int:
        """Open the file through a descriptor that the process has of it."""
        descriptor = self._process_descriptors.get((mapping.device, mapping.inode, mapping.path))
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "no descriptor of it", mapping.path)
        return _open_same(f"fd/{descriptor}", self.process.directory, mapping)

    @functools.cached_property
    def _process_descriptors(self) -> dict[tuple[int, int, str], str]:
        """One of the process's descriptors for each file, by device, inode and path.

        The path, because SysV segments have no descriptors, but inodes that memfds have too.
        """
        found = {}
        directory = os.open("fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.process.directory)
        try:
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    about = os.stat(name, dir_fd=directory)
                    path = os.readlink(name, dir_fd=directory)
                    found[about.st_dev, about.st_ino, path] = name
        finally:
            os.close(directory)
        return found

    def _by_path(self, mapping: Mapping) -> int:
        """Open the file by its path, as the process sees it, or as this one does."""
        if not mapping.path.startswith("/") or mapping.path.endswith(" (deleted)"):
            raise FileNotFoundError(errno.ENOENT, "it has no path", mapping.path)
        with contextlib.suppress(OSError):
            return _open_same(f"root{mapping.path}", self.process.directory, mapping)
        return _open_same(mapping.path, None, mapping)

    def _by_layers(self, mapping: Mapping) -> int:
        """Open the file in the layer of the overlay that it is mapped from.

        Overlayfs shows inode, size and times of the file in the layer, and another device.
        """
        # asked of the mapping itself: at its path may be another overlay by now
        name = f"map_files/{mapping.start:x}-{mapping.end:x}"
        about = os.stat(name, dir_fd=self.process.directory)
        path = os.fsencode(mapping.path)
        for mount in self.mounts:
            if mount.kind != b"overlay" or mount.device != about.st_dev:
                continue
            rest = os.path.relpath(path, mount.point)
            for layer in (_plain(part) for part in _LAYERS.findall(mount.options)):
                for directory in layer.split(b":"):
                    with contextlib.suppress(OSError):
                        return _open_if(os.path.join(directory, rest), None, _same_file(about))
        raise FileNotFoundError(errno.ENOENT, "in no layer that can be seen", mapping.path)


def _open_same(path: str, directory: int | None, mapping: Mapping) -> int:
    """Open a file for reading, if it is the one that is mapped."""

    def same(about: os.stat_result) -> bool:
        return (about.st_dev, about.st_ino) == (mapping.device, mapping.inode)

    return _open_if(path, directory, same)


def _same_file(other: os.stat_result) -> Callable[[os.stat_result], bool]:
    """Return a test for being the same file, but for the device."""

    def same(about: os.stat_result) -> bool:
        return all(
            getattr(about, name) == getattr(other, name)
            for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        )

    return same


def _open_if(
    path: str | bytes, directory: int | None, right: Callable[[os.stat_result], bool]
) -> int:
    """Open a file for reading, if it is the right one.

    Looked at before it is opened: what stands at a path may be another file by now, or a pipe or
    a device, on which opening has effects.
    """
    found = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        about = os.fstat(found)
        if not stat.S_ISREG(about.st_mode) or not right(about):
            raise FileNotFoundError(errno.ENOENT, "another file by now", path)
        # without waiting for whoever holds a lease on it
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{found}", flags)
    finally:
        os.close(found)
