"""What can be done to pages of memory, step by step, for random histories: nothing here crashes.

Memory is touched through the kernel, which says EFAULT where the process would get a signal.
"""

import contextlib
import functools
import mmap
import os

import linux
import memory


@functools.cache
def _zeros():
    return os.open("/dev/zero", os.O_RDONLY)


@functools.cache
def _sink():
    return os.memfd_create("sink")


def _touch(function, fd, made, first, last, step=1):
    for page in range(first, last, step):
        with contextlib.suppress(OSError):
            linux.call(function, fd, made.at(page), 1, 0)


def write(made, first, last):
    """Write into every page that may be written."""
    _touch("pread", _zeros(), made, first, last)


def write_some(made, first, last):
    """Write into every third page that may be written."""
    _touch("pread", _zeros(), made, first, last, 3)


def read(made, first, last):
    """Read from every page that may be read: untouched ones become the zero page."""
    _touch("pwrite", _sink(), made, first, last)


def advise(advice, made, first, last):
    """madvise(2)."""
    made.advise(advice, first, last)


def protect(protection, made, first, last):
    """mprotect(2)."""
    made.protect(protection, first, last)


def remap(flags, protection, made, first, last):
    """Put new memory in the place of what is there."""
    made.map(flags, protection, first=first, last=last)


def file_of(made):
    """The memory's own file of shared memory, of which every other page is there at first."""
    if not hasattr(made, "file"):
        made.file = os.memfd_create("fastpagemap")
        made.undo.callback(os.close, made.file)
        os.ftruncate(made.file, 2 * made.pages * linux.PAGE)
        for page in range(0, 2 * made.pages, 2):
            os.pwrite(made.file, b"f", page * linux.PAGE)
    return made.file


def show_file(flags, offset, made, first, last):
    """Map pages of the file."""
    made.map(flags, memory.READ_WRITE, file_of(made), offset + first, first, last)


def allocate(mode, made, first, last):
    """fallocate(2) on pages of the file."""
    size = (last - first) * linux.PAGE
    linux.call("fallocate", file_of(made), mode, first * linux.PAGE, size)


def truncate(made, first, last):
    """Cut the file off; what is mapped beyond can no more be touched."""
    os.ftruncate(file_of(made), last * linux.PAGE)


def grow(made, first, last):
    """Give the file its first size again."""
    os.ftruncate(file_of(made), 2 * made.pages * linux.PAGE)


def unmap(made, first, last):
    """Leave a hole."""
    made.unmap(first, last)


STEPS = {
    "write": write,
    "write some": write_some,
    "read": read,
    "drop": functools.partial(advise, mmap.MADV_DONTNEED),
    "free": functools.partial(advise, linux.MADV_FREE),
    "guard": functools.partial(advise, linux.MADV_GUARD_INSTALL),
    "page out": functools.partial(advise, linux.MADV_PAGEOUT),
    "forbid": functools.partial(protect, memory.NONE),
    "write-protect": functools.partial(protect, memory.READ),
    "allow": functools.partial(protect, memory.READ_WRITE),
    "new private": functools.partial(remap, memory.PRIVATE, memory.READ_WRITE),
    "new shared": functools.partial(remap, memory.SHARED, memory.READ_WRITE),
    "new read-only": functools.partial(remap, memory.PRIVATE, memory.READ),
    "file shared": functools.partial(show_file, mmap.MAP_SHARED, 0),
    "file shifted": functools.partial(show_file, mmap.MAP_SHARED, 5),
    "file private": functools.partial(show_file, mmap.MAP_PRIVATE, 0),
    "allocate": functools.partial(allocate, 0),
    "punch": functools.partial(allocate, 3),  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    "truncate": truncate,
    "grow": grow,
    "unmap": unmap,
}


def carry_out(made, name, first, last):
    """Take one step on pages `first` to `last`, as far as the layout there allows it."""
    if first < last:
        with contextlib.suppress(OSError):
            STEPS[name](made, first, last)
