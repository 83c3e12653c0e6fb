"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when all is written.

    If anything fails, what was there before is there still, and no half a file. What is no
    regular file (a pipe, /dev/stdout) is written to as it is.

    Raises
    ------
    OSError
        It cannot be written; the message has the path.
    """
    try:
        special = os.path.lexists(path) and not stat.S_ISREG(os.stat(path).st_mode)
        with _straight(path) if special else _beside(path) as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write {path}: {reason}") from error


@contextlib.contextmanager
def _straight(path: str) -> Iterator[BinaryIO]:
    with open(path, "wb") as file:
        yield file


@contextlib.contextmanager
def _beside(path: str) -> Iterator[BinaryIO]:
    target = os.path.realpath(path)  # a link stays one
    directory, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with open(handle, "wb") as file:
            yield file
        with contextlib.suppress(OSError):  # a file system without modes
            os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode(target: str) -> int:
    """Return the mode that a file had, or that a new one gets."""
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
