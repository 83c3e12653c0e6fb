"""Makers of memory with a file behind it: files on disk, and every kind of shared memory.

All take `pages`; the mapping shows a file that is longer by `offset` pages before it. The
descriptor of the file is the memory's `fd`, -1 where there is none to be had (SysV).
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import tempfile
import time

import linux
import oracle_files
from linux import PAGE
from memory import READ, SHARED, Memory
from needs import Absent, need, refusal

FILE_SHARED, FILE_PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
_SHM_REMAP = 0o40000
_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0
_serial = itertools.count()


def disk_directory():
    """A directory for temporary files on a file system that is not memory itself."""
    for path in ("/var/tmp", tempfile.gettempdir(), os.getcwd()):
        if os.access(path, os.W_OK) and linux.filesystem(path) != linux.TMPFS_MAGIC:
            return path
    raise Absent("a writable directory on a disk")


def mapped(fd, pages, flags=FILE_SHARED, offset=0, undo=None):
    """Map pages of an open file, and make the memory the owner of the descriptor."""
    return Memory(pages, flags, fd=fd, offset=offset, undo=undo)


def _disk_file(pages):
    """A nameless file of written pages on a disk, as a descriptor."""
    with tempfile.TemporaryFile(dir=disk_directory()) as file:
        file.write(b"fastpagemap".ljust(PAGE, b".") * pages)
        file.flush()
        os.fsync(file.fileno())  # dirty pages do not leave memory at once
        return os.dup(file.fileno())


def uncache(fd, first=0, last=None, patience=60.0):
    """Drop pages of a file that are on the disk, and that nobody uses, from the page cache.

    The kernel leaves those that somebody else holds just then, such as compaction to move them.
    """
    pages = range(first, os.fstat(fd).st_size // PAGE if last is None else last)
    deadline = time.monotonic() + patience
    while True:
        os.posix_fadvise(fd, first * PAGE, len(pages) * PAGE, os.POSIX_FADV_DONTNEED)
        stayed = sum(oracle_files.is_incore(fd, page) for page in pages)
        if not stayed:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{stayed} of {len(pages)} pages stayed in the page cache")
        time.sleep(0.01)


def file_shared(pages, offset=0):
    """A file on disk, mapped shared, every page read."""
    memory = mapped(_disk_file(offset + pages), pages, FILE_SHARED, offset)
    memory.read()
    return memory


def file_private(pages, offset=0):
    """A file on disk, mapped privately, every page read: nothing is copied."""
    memory = mapped(_disk_file(offset + pages), pages, FILE_PRIVATE, offset)
    memory.read()
    return memory


def file_copied(pages, offset=0):
    """A file on disk, mapped privately, every page read and every other one written (a copy)."""
    return file_private(pages, offset).write(step=2)


def shared_anonymous(pages):
    """MAP_SHARED | MAP_ANONYMOUS, every page written."""
    return Memory(pages, SHARED).write()


def sized_memfd(pages):
    """A memfd of holes."""
    fd = os.memfd_create("fastpagemap")
    os.ftruncate(fd, pages * PAGE)
    return fd


def memfd(pages, offset=0):
    """A memfd, every page written."""
    return mapped(sized_memfd(offset + pages), pages, FILE_SHARED, offset).write()


def memfd_sparse(pages):
    """A memfd of holes, every third page written."""
    return mapped(sized_memfd(pages), pages).write(step=3)


def memfd_private(pages, offset=0):
    """A memfd with content, mapped privately, all read and every other page written (a copy)."""
    fd = sized_memfd(offset + pages)
    os.pwrite(fd, b"m" * (offset + pages) * PAGE, 0)
    memory = mapped(fd, pages, FILE_PRIVATE, offset)
    memory.read()
    return memory.write(step=2)


def memfd_read_only(pages):
    """A memfd with content, mapped privately and for reading alone, every page read."""
    fd = sized_memfd(pages)
    os.pwrite(fd, b"m" * pages * PAGE, 0)
    memory = Memory(pages, FILE_PRIVATE, READ, fd)
    memory.read()
    return memory


def posix(pages, offset=0, directory="/dev/shm", flags=FILE_SHARED, undo=None):
    """A named file of shared memory, every page written; close() removes the name."""
    path = os.path.join(directory, f"fastpagemap-{os.getpid()}-{next(_serial)}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    undo = undo or contextlib.ExitStack()
    undo.callback(_remove, path)
    os.ftruncate(fd, (offset + pages) * PAGE)
    return mapped(fd, pages, flags, offset, undo).write()


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def tmpfs(pages, offset=0, flags=FILE_SHARED):
    """A file on a tmpfs mounted for it alone (root), every page written; unmounted on close."""
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(mounted("tmpfs"))
        return posix(pages, offset, directory, flags, undo.pop_all())


def tmpfs_private(pages, offset=0):
    """A file on a tmpfs of its own, mapped privately: every page written is a copy."""
    return tmpfs(pages, offset, FILE_PRIVATE)


@contextlib.contextmanager
def bound(source, target):
    """Have a path lead elsewhere; what is mapped of the file there stays, and shows that path."""
    linux.call("mount", os.fsencode(source), os.fsencode(target), None, linux.MS_BIND, None)
    try:
        yield
    finally:
        linux.call("umount2", os.fsencode(target), linux.MNT_DETACH)


@contextlib.contextmanager
def mounted(kind, options=""):
    """A new file system for a while; what is mapped of it lives on."""
    what = f"to mount {kind}"
    directory = tempfile.mkdtemp(prefix="fastpagemap-")
    try:
        source, target = kind.encode(), os.fsencode(directory)
        linux.call("mount", source, target, source, 0, options.encode())
    except OSError as error:
        os.rmdir(directory)
        raise refusal(error, what) from error
    need(True, f"root ({what})")
    try:
        yield directory
    finally:
        linux.call("umount2", target, linux.MNT_DETACH)
        os.rmdir(directory)


def sysv(pages):
    """A SysV segment, every page written."""
    return attached(pages).write()


def attached(pages, flags=0, align=PAGE, undo=None):
    """A new SysV segment, which is gone when the last process detaches from it."""
    segment = linux.call("shmget", _IPC_PRIVATE, pages * PAGE, _IPC_CREAT | 0o600 | flags)
    try:
        memory = Memory(pages, align=align, undo=undo)
        with memory.undone_on_error():
            linux.call("shmat", segment, memory.start, _SHM_REMAP)
    finally:
        linux.call("shmctl", segment, _IPC_RMID, ctypes.c_void_p())
    return memory
