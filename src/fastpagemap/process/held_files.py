"""Files of shared memory that no mapping need show: held by descriptors, or on a mounted tmpfs."""

import itertools
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .._kernel import descriptor
from .._kernel.descriptor import Descriptor, open_file, open_resolved
from .._kernel.lines import read_all
from .descriptors import Descriptors
from .leases import Leases
from .mounts import own_mounts
from .opening import Stat, is_tmpfs, look, pass_over, reopen
from .process import Process

__all__ = ["Found", "Segment", "Tmpfs", "deleted_files", "files_on", "mounted_tmpfs"]
__all__ += ["open_found", "segments"]

_SEGMENTS = "/proc/sysvipc/shm"
_INSIDE = descriptor.RESOLVE_NO_XDEV | descriptor.RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class Found(NamedTuple):
    """A file of shared memory, opened for reading."""

    path: str
    file: Descriptor
    about: Stat


class Segment(NamedTuple):
    """A SysV segment: its id, how many have attached it, and its swapped bytes."""

    number: int
    attached: int
    swapped: int


def deleted_files(process: Process) -> Iterator[Found]:
    """Yield the files of shared memory without a path that descriptors of a process hold.

    A memfd has none from the first. What has a path is found on its tmpfs. Each file is yielded
    once, but those that the process holds a lease on.
    """
    descriptors = Descriptors(process)
    seen: set[tuple[int, int]] = set()
    for name in descriptors.all:
        try:
            path = os.fsdecode(process.readlink(f"fd/{name}"))
            if not path.endswith(" (deleted)"):
                continue
            file = process.open(f"fd/{name}", os.O_PATH)
            about = look(file)
            key = about.device, about.inode
            if key in seen or not _is_shared_memory(file, about):
                continue
            seen.add(key)
            if not descriptors.is_leased(path, about.inode):
                yield Found(path, reopen(file), about)
        except OSError as error:  # closed meanwhile
            pass_over(error)


class Tmpfs(NamedTuple):
    """A tmpfs: its device, and where this process sees all of it, unless another is mounted there.

    Of these, the first that shows it is taken.
    """

    device: int
    points: list[bytes]


def mounted_tmpfs() -> list[Tmpfs]:
    """Return each tmpfs that this process sees mounted; nothing of them is looked at."""
    found = [
        Tmpfs(device, [mount.point for mount in mounts if mount.root == b"/"])
        for device, mounts in own_mounts().items()
        if mounts[0].kind in (b"tmpfs", b"devtmpfs")
    ]
    return [tmpfs for tmpfs in found if tmpfs.points]


def files_on(tmpfs: Tmpfs, leases: Leases, most: int) -> Iterator[Found | None]:
    """Yield the files on a tmpfs; None after `most` names."""
    for point in tmpfs.points:
        top = _top(point, tmpfs.device)
        if top is not None:
            for number, found in enumerate(_below(top, point, leases, most)):
                if number == most:
                    yield None
                    return
                yield from found
            return


def open_found(path: str, device: int, inode: int, leases: Leases) -> Found | None:
    """Open a file that `files_on` has found; None if it is not there any more."""
    try:
        file = open_resolved(path, os.O_PATH, descriptor.RESOLVE_NO_SYMLINKS)
        about = look(file)
        if (about.device, about.inode) == (device, inode):
            return next(iter(_opened(path, file, leases)), None)
    except FileNotFoundError:
        pass
    return None


def _top(point: bytes, device: int) -> Descriptor | None:
    """Open a mount point; None if another file system is mounted over it, or it is hidden."""
    try:
        found = open_file(point, os.O_PATH | os.O_DIRECTORY)
        return found if look(found).device == device else None
    except OSError as error:
        pass_over(error)
        return None


def _below(top: Descriptor, point: bytes, leases: Leases, most: int) -> Iterator[list[Found]]:
    """Yield, for each name below a directory and on its mount, the file that it is, if it is.

    Of more than `most` names, one more is yielded.
    """
    waiting = [b"."]
    while waiting:
        where = waiting.pop()
        for entry in _listed(top, where, most + 1):
            name = os.path.join(where, os.fsencode(entry.name))
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            found = []
            if entry.is_file(follow_symlinks=False):
                path = os.fsdecode(os.path.join(point, name.removeprefix(b"./")))
                try:
                    found = _opened(path, open_resolved(name, os.O_PATH, _INSIDE, top.fd), leases)
                except OSError as error:  # removed meanwhile, or something is mounted over it
                    pass_over(error)
            yield found


def _listed(top: Descriptor, where: bytes, most: int) -> list[os.DirEntry[str]]:
    for flags in (_DIRECTORY | os.O_NOATIME, _DIRECTORY):  # the first for its owner alone
        try:
            directory = open_resolved(where, flags, _INSIDE, top.fd)
            with os.scandir(directory.fd) as entries:
                return list(itertools.islice(entries, most))
        except OSError as error:
            pass_over(error)
    return []


def _opened(path: str, file: Descriptor, leases: Leases) -> list[Found]:
    """Return a file, opened for reading, if it is one of shared memory without a lease on it."""
    about = look(file)
    if not _is_shared_memory(file, about) or leases.cover(about, path, exact=True):
        return []
    return [Found(path, reopen(file), about)]


def _is_shared_memory(file: Descriptor, about: Stat) -> bool:
    return stat.S_ISREG(about.mode) and is_tmpfs(file)


def segments() -> list[Segment]:
    """Return the SysV segments of this ipc namespace."""
    try:
        file = open_file(_SEGMENTS, os.O_RDONLY)
        head, *lines = read_all(file.fd, _SEGMENTS).splitlines()
    except OSError as error:
        pass_over(error)
        return []
    rows = [dict(zip(head.split(), map(int, line.split()), strict=False)) for line in lines]
    return [Segment(row[b"shmid"], row[b"nattch"], row.get(b"swap", 0)) for row in rows]
