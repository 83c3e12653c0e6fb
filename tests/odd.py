"""Makers of memory that is shared memory and does not look it, or looks it and is not.

Device and path in maps tell little: what counts is whether the pages belong to a tmpfs.
"""

import contextlib
import os

import backed
import linux
from linux import PAGE
from needs import Absent, need

_MEMFD_SECRET = 447


def dev_zero(pages):
    """/dev/zero, mapped privately, every third page written: a file in maps, yet anonymous."""
    return backed.mapped(os.open("/dev/zero", os.O_RDWR), pages, backed.FILE_PRIVATE).write(step=3)


def secret(pages):
    """memfd_secret(2), every other page written: never swapped, and on no file system."""
    try:
        fd = linux.syscall(_MEMFD_SECRET, 0)
    except OSError as error:
        raise Absent("secret memory (memfd_secret)") from error
    need(True, "secret memory (memfd_secret)")
    os.ftruncate(fd, pages * PAGE)
    return backed.mapped(fd, pages).write(step=2)


def tmpfs_detached(pages):
    """A file on a tmpfs that is in no table of mounts any more (root), every page written."""
    with backed.mounted("tmpfs") as directory:
        return backed.posix(pages, directory=directory)


def overlay(pages):
    """A file on an overlay file system whose upper layer is a tmpfs (root), every page written."""
    layers = ("lower", "upper", "work")
    with contextlib.ExitStack() as undo:
        below = undo.enter_context(backed.mounted("tmpfs"))
        for name in layers:
            os.mkdir(os.path.join(below, name))
        options = ",".join(f"{name}dir={below}/{name}" for name in layers)
        directory = undo.enter_context(backed.mounted("overlay", options))
        return backed.posix(pages, directory=directory, undo=undo.pop_all())
