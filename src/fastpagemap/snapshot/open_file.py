"""Open a file for reading, without waiting for whoever made it: a named pipe, a device, a lease."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import IO, Any

from .._kernel.failures import IgnoringFileErrors, exists
from .._kernel.own_files import own_file

__all__ = ["Path", "open_to_read", "opened", "read_up_to"]

# Bytes of a file that are read at a time.
_PIECE_BYTES = 1 << 22

_LOOK_FLAGS = os.O_PATH | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@contextlib.contextmanager
def opened(source: Any) -> Iterator[Any]:
    """Open a path, as `open_to_read` does; yield anything else as it is."""
    if isinstance(source, (str, bytes, os.PathLike)):
        with open_to_read(source) as file:
            yield file
    else:
        yield source


def open_to_read(path: Path) -> IO[bytes]:
    """Open a regular file, or a pipe that this process was given (``/dev/stdin``), to read bytes.

    Raises
    ------
    OSError
        It cannot be opened, or is something else: a named pipe would be waited for, and to open a
        device may have effects.
    """
    looked = os.open(path, _LOOK_FLAGS)
    try:
        _check(looked, path)
        # not by its path again: something else may be there by now
        there = exists(own_file("fd"))
        return _open_file(own_file(f"fd/{looked}") if there else path)
    except BlockingIOError:
        raise _failure(errno.EWOULDBLOCK, "another process has a lease on it", path) from None
    except OSError as error:
        if error.errno is None:  # a signal handler's
            raise
        reason = error.strerror or str(error)
        raise _failure(error.errno, reason, path) from None
    finally:
        os.close(looked)


def read_up_to(file: IO[bytes], most: int, begins: bytes = b"") -> bytes:
    """Return a file's content; only its beginning if that is not `begins`, or it is too large."""
    pieces, size = [], 0
    while size <= most and (piece := file.read(_PIECE_BYTES)):
        if not isinstance(piece, bytes):
            raise TypeError(f"{type(piece).__name__} in place of bytes: open the file as binary")
        pieces.append(piece)
        size += len(piece)
        if not pieces[0].startswith(begins):
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check(looked: int, path: Path) -> None:
    """Raise OSError for what is neither a regular file nor one of this process's own pipes."""
    about = os.fstat(looked)
    kind = stat.S_IFMT(about.st_mode)
    if kind == stat.S_IFREG or (kind == stat.S_IFIFO and _is_open(about, looked)):
        return
    if kind == stat.S_IFDIR:
        raise _failure(errno.EISDIR, os.strerror(errno.EISDIR), path)
    what = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}.get(kind, "a device")
    raise _failure(errno.EINVAL, f"{what}, and no file", path)


def _failure(number: int, reason: str, path: Path) -> OSError:
    return OSError(number, reason, os.fspath(path))


def _is_open(about: os.stat_result, looked: int) -> bool:
    """Return whether another descriptor of this process than `looked` is of that file."""
    with IgnoringFileErrors():  # no /proc
        for name in os.listdir(own_file("fd")):
            with IgnoringFileErrors():  # that of the listing itself is closed by now
                if int(name) != looked and os.path.samestat(os.fstat(int(name)), about):
                    return True
    return False


def _open_file(path: Path) -> IO[bytes]:
    handle = os.open(path, _READ_FLAGS)
    try:
        os.set_blocking(handle, True)
        # Unbuffered: between two reads of a pipe Ctrl-C is noticed.
        return open(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise
