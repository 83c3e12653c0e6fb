"""The one way this package writes a file: all of it, or nothing.

Root runs it in directories that strangers can write. What a stranger put at a path affects that
path alone: his modes are not kept, no link of his at its end is followed, and once the directory is
open everything is done through that descriptor. Links in the middle of a path are followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .._kernel.descriptor import CWD, Descriptor, duplicate, open_file
from .._kernel.failures import IgnoringFileErrors, exists, tells_of_file
from .._kernel.own_files import own_file

__all__ = ["open_directory", "replace_file"]

# The kernel follows as many links in a row.
_MAX_LINKS = 40
# Mode bits that are kept: not set-uid, set-gid, sticky or writable by everybody. A user who may
# write a file of root's with such a bit can run programs as root.
_KEPT_BITS = 0o775
_NEW_MODE = 0o664
_PRIVATE_MODE = 0o600
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY
_NOFOLLOW_FLAGS = os.O_PATH | os.O_NOFOLLOW
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_UNNAMED_FLAGS = os.O_WRONLY | os.O_TMPFILE


def open_directory(path: str, inside: Descriptor | None = None) -> Descriptor:
    """Open a directory for `replace_file`; make it, and those above it, if it is not there.

    Parameters
    ----------
    path : str
        A symbolic link at its end is followed as `replace_file` does.
    inside : Descriptor, optional
        The directory that the path begins in.

    Raises
    ------
    OSError
        It is no directory, cannot be made, or is a link that another user may have put there.
    """
    path = path.rstrip("/") or "/."
    start = inside.fd if inside else CWD
    try:
        above, name, found = _locate(path, start)
    except FileNotFoundError:
        if not os.path.dirname(path):  # the current directory is gone
            raise
        held = open_directory(os.path.dirname(path), inside)
        above, name, found = _locate(os.path.basename(path), held.fd)
    if found is None:
        with contextlib.suppress(FileExistsError):  # made meanwhile, by whomever
            os.mkdir(name, dir_fd=above.fd)
    return open_file(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, above.fd)


@contextlib.contextmanager
def replace_file(
    path: str, owner: int | None, inside: Descriptor | None = None
) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` once all of it is on the disk.

    If anything fails, the old file is still there. A pipe, a device and a descriptor of this
    process (``/dev/stdout``, ``/dev/fd/3``) are written to directly; a terminal is refused.

    Parameters
    ----------
    path : str
        A symbolic link is followed, and stays, if no other user can have put it there: it, and the
        directory it is in, belong to this user or to root, and nobody else may write there.
    owner : int or None
        The user whose memory the content shows; None if that is not known. Unless it is this user,
        nobody else may read the file (mode 0600). Otherwise a file that belongs to this user keeps
        its mode, and a new one gets what the umask leaves, whatever access control list the
        directory has for new files; neither can be written by everybody.
    inside : Descriptor, optional
        The directory that `path` is in, opened already: only the last part of the path is looked
        up. By default all of it is.

    Raises
    ------
    OSError
        It cannot be written; the message has the path.
    """
    try:
        name = os.path.basename(path) if inside else path
        directory, name, found = _locate(name, inside.fd if inside else CWD)
        about = None if found is None else os.fstat(found.fd)
        if _is_own_descriptor(directory.fd, name):
            # not opened anew: it has a position, and another user may have opened it for us
            writing = _write_to(duplicate(int(name)))
        elif found is None or about is None or stat.S_ISREG(about.st_mode):
            writing = _replace(directory.fd, name, about, owner)
        else:
            writing = _write_to(_special(found, about))
        with writing as file:
            yield file
    except OSError as error:
        if error.errno is None:  # a signal handler's
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write {path or repr(path)}: {reason}") from error


def _locate(path: str, start: int) -> tuple[Descriptor, str, Descriptor | None]:
    """Return a directory, a name in it, and what has that name, if anything has.

    The path begins in the directory `start`.

    A link is looked at and read through one descriptor, so that both are of one and the same link.
    """
    directory = open_file(os.path.dirname(path) or ".", _DIRECTORY_FLAGS, start)
    for _ in range(_MAX_LINKS):
        name = os.path.basename(path)
        if not name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_own_descriptor(directory.fd, name):
            return directory, name, None
        try:
            found = open_file(name, _NOFOLLOW_FLAGS, directory.fd)
        except FileNotFoundError:
            return directory, name, None
        about = os.fstat(found.fd)
        if not stat.S_ISLNK(about.st_mode):
            return directory, name, found
        if not _is_trusted_link(about, os.fstat(directory.fd)):
            raise _refusal("a symbolic link", "name the file it leads to")
        path = os.readlink("", dir_fd=found.fd)
        directory = open_file(os.path.dirname(path) or ".", _DIRECTORY_FLAGS, directory.fd)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _is_own_descriptor(directory: int, name: str) -> bool:
    """Return whether it is /proc/self/fd/N, to which /dev/stdout and /dev/fd lead."""
    if not (name.isascii() and name.isdecimal() and len(name) < 10):
        return False
    try:
        # Once the main thread has ended, the first is empty, and still meant as this process's.
        own = [os.stat("/proc/self/fd"), os.stat(own_file("fd"))]
    except OSError as error:  # no /proc
        if not tells_of_file(error):
            raise
        return False
    about = os.fstat(directory)
    return any(os.path.samestat(about, each) for each in own)


def _is_trusted_link(link: os.stat_result, directory: os.stat_result) -> bool:
    """Return whether no other user can have put a link there.

    Stricter than the kernel's fs.protected_symlinks, which may be off, and which lets the owner of
    a directory lead others anywhere. A sticky directory does not help: another user may have moved
    a link of root's there, out of a directory of their own.
    """
    trusted = _is_trusted_owner(link) and _is_trusted_owner(directory)
    # users whom an access control list names may write if the group bit says so
    closed = not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    # a second name: anybody may have made it, where fs.protected_hardlinks is off
    return trusted and closed and link.st_nlink < 2


def _is_trusted_owner(about: os.stat_result) -> bool:
    return about.st_uid in (0, os.geteuid())


def _refusal(what: str, instead: str) -> PermissionError:
    return PermissionError(
        errno.EACCES, f"it is {what} that another user may have put there: {instead}"
    )


def _special(found: Descriptor, about: os.stat_result) -> Descriptor:
    """Open a path that is neither a regular file nor a link, without truncating or creating."""
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # The user who made a pipe may read from it, or let us wait for ever.
    if stat.S_ISFIFO(about.st_mode) and not _is_trusted_owner(about):
        raise _refusal("a named pipe", "write to a file, or to a pipe of your own")
    return open_file(own_file(f"fd/{found.fd}"), os.O_WRONLY)


@contextlib.contextmanager
def _write_to(held: Descriptor) -> Iterator[BinaryIO]:
    if os.isatty(held.fd):
        raise OSError(errno.EINVAL, "it is a terminal, and this is no text: take a file or a pipe")
    with open(held.fd, "wb", closefd=False) as file:
        yield file


@contextlib.contextmanager
def _replace(
    directory: int, name: str, old: os.stat_result | None, owner: int | None
) -> Iterator[BinaryIO]:
    """Write a new file in a directory, then rename it to `name`.

    Until then it has no name, if the file system supports that. So nothing is left behind if this
    process is killed.
    """
    temporary = f".fastpagemap-{os.urandom(8).hex()}"
    unnamed = _open_unnamed(directory)
    try:
        held = unnamed or open_file(temporary, _CREATE_FLAGS, directory, _PRIVATE_MODE)
        with open(held.fd, "wb", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(held.fd)  # a full disk may show only now
            _set_mode(held.fd, old, owner)
            if unnamed:
                # Only a rename replaces a file, and only a file with a name can be renamed.
                own = own_file(f"fd/{held.fd}")
                os.link(own, temporary, dst_dir_fd=directory, follow_symlinks=True)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with IgnoringFileErrors():
            os.unlink(temporary, dir_fd=directory)
        raise


def _open_unnamed(directory: int) -> Descriptor | None:
    """Open a new file without a name in a directory; return None where that cannot be."""
    if exists(own_file("fd")):  # through which it gets its name
        try:
            return open_file(".", _UNNAMED_FLAGS, directory, _PRIVATE_MODE)
        except OSError as error:
            if error.errno is None:  # a signal handler's
                raise
    return None


def _set_mode(handle: int, old: os.stat_result | None, owner: int | None) -> None:
    """Give a new file the mode that it is to have, and the group of the file it replaces."""
    user = os.geteuid()
    mode = _NEW_MODE & ~_umask()
    # a file with a second name may be a file of this user's that somebody else linked here
    if old is not None and old.st_uid == user and old.st_nlink < 2:
        mode = old.st_mode & _KEPT_BITS
        with IgnoringFileErrors():  # not a member of that group
            os.fchown(handle, -1, old.st_gid)
        if os.fstat(handle).st_gid != old.st_gid:
            mode &= ~0o070  # what one group was allowed is not another's
    if owner != user:
        mode &= _PRIVATE_MODE
    # The owner of the directory may have named users who are to have access to all that is new
    # there. Until here the mode has kept them out.
    with IgnoringFileErrors():  # there is none, or the file system has no such thing
        os.removexattr(handle, "system.posix_acl_access")
    with IgnoringFileErrors():  # a file system without modes
        os.fchmod(handle, mode)


def _umask() -> int:
    """Return the umask; os.umask would change it for a moment, for all threads."""
    with IgnoringFileErrors(), open(own_file("status"), "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o077
