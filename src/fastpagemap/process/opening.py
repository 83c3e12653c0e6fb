"""Look at a file that was found by O_PATH, without asking a server and without effects."""

import os
from typing import NamedTuple

from .._kernel import lookup, pagecache
from .._kernel.descriptor import Descriptor, open_file
from .._kernel.failures import tells_of_file
from .._kernel.own_files import own_file

__all__ = [
    "Stat",
    "is_btrfs",
    "is_proc",
    "is_tmpfs",
    "look",
    "pass_over",
    "reopen",
    "reopen_quietly",
]

# PROC_SUPER_MAGIC of linux/magic.h.
_PROC = 0x9FA0
# mm/shmem.c, shmem_encode_fh: inode and generation. No other file system's are so long.
_TMPFS_HANDLE = (1, 12)
# fs/btrfs/export.c, FILEID_BTRFS_WITHOUT_PARENT: no other file system has that number.
_BTRFS_HANDLE = (0x4D, 20)


class Stat(NamedTuple):
    """What the kernel knows of a file without asking a server. Times are in ns.

    `local`: whether its data are on this machine for sure.
    """

    device: int
    inode: int
    mode: int
    local: bool
    size: int
    changed: int
    modified: int


def look(file: Descriptor) -> Stat:
    """Return what the kernel knows of a file; no server of a file system is asked."""
    return Stat(*lookup.stat(file.fd))


def is_tmpfs(file: Descriptor) -> bool:
    """Return whether a file is on a tmpfs for sure.

    To ask for the type of a file system, some ask a server: an overlay asks any of its layers. A
    handle is made in memory. If it is not like that of a tmpfs, nothing is asked.
    """
    try:
        return lookup.handle(file.fd) == _TMPFS_HANDLE and (
            pagecache.file_system(file.fd) == pagecache.TMPFS_MAGIC
        )
    except OSError as error:
        pass_over(error)
        return False


def is_proc(fd: int) -> bool:
    """Return whether an open file is one of /proc."""
    return pagecache.file_system(fd) == _PROC


def is_btrfs(file: Descriptor) -> bool:
    """Return whether a file is on btrfs for sure: by its handle, which is made in memory."""
    try:
        return lookup.handle(file.fd) == _BTRFS_HANDLE
    except OSError as error:
        pass_over(error)
        return False


def reopen(file: Descriptor) -> Descriptor:
    """Open a file that was found by O_PATH for reading."""
    # O_NONBLOCK: do not wait for the holder of a lease.
    return open_file(_link(file), os.O_RDONLY | os.O_NONBLOCK)


def reopen_quietly(file: Descriptor) -> tuple[Descriptor, bool]:
    """Open a file as `reopen` does; return whether to map it leaves its access time alone, too."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    path = _link(file)
    try:
        return open_file(path, flags | os.O_NOATIME), True
    except PermissionError:  # which only its owner may ask for
        return open_file(path, flags), False


def _link(file: Descriptor) -> str:
    """Return the path of a descriptor of this process."""
    return own_file(f"fd/{file.fd}")


def pass_over(error: OSError) -> None:
    """Raise an error again that does not tell about the file."""
    if not tells_of_file(error):
        try:
            raise error
        finally:
            # Else it and this frame would keep each other, and all that the frames below hold open.
            del error
