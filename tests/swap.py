"""Real swap, made and taken away, and memory sent into it.

Whose an area is stands in its header's label, "fpm-test-PID"; areas of a run that crashed are taken
away by the next. Neither mkswap nor swapon is needed: the header is written here.
"""

import contextlib
import errno
import glob
import itertools
import os
import re
import struct
import tempfile
import time
from typing import NamedTuple

import backed
import linux
import memory
import oracle
from linux import PAGE
from needs import Missing, need, refusal

_CONTROL = "/sys/class/zram-control"
_FILE_PREFIX = "fastpagemap-swap-"
_PREFER = 0x8000  # SWAP_FLAG_PREFER: the low bits are a priority
_PRIORITY = 32000  # above whatever the machine has, so that pages go where the test wants them
_HEADER = 1024  # after the boot block: version, last page, bad pages, uuid[16], label[16]


class Area(NamedTuple):
    """One line of /proc/swaps."""

    path: str
    kind: str
    size: int
    used: int
    priority: int


def areas():
    """All swap there is now."""
    with open("/proc/swaps") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [
        Area(
            path.replace(r"\040(deleted)", ""),
            kind,
            int(size) * 1024,
            int(used) * 1024,
            int(priority),
        )
        for path, kind, size, used, priority in rows
    ]


@contextlib.contextmanager
def zram_swap(size, priority=_PRIORITY):
    """Swap on compressed memory, used before all other: pages leave RAM at once (root)."""
    clean_up()
    try:
        number = linux.read_int(f"{_CONTROL}/hot_add")
    except OSError as error:
        raise refusal(error, "zram swap") from error
    path = f"/dev/zram{number}"
    try:
        linux.write_text(f"/sys/block/zram{number}/disksize", size)
        with _swapped_on(path, size, priority):
            yield path
    finally:
        _remove_zram(number)


@contextlib.contextmanager
def file_swap(size, priority=_PRIORITY, directory=None):
    """Swap on a file on disk, used before all other: pages linger in the swap cache (root)."""
    clean_up()
    handle, path = tempfile.mkstemp(prefix=_FILE_PREFIX, dir=directory or backed.disk_directory())
    try:
        with open(handle, "wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, size)
        with _swapped_on(path, size, priority):
            yield path
    finally:
        os.unlink(path)


@contextlib.contextmanager
def any_swap(size):
    """Swap of whichever kind can be had: zram, else what the machine already has, else a file.

    It stands back behind an area that a test asked for by its kind. What the machine has may be
    another run's, which goes when that ends: it is known by its priority.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(zram_swap(size, _PRIORITY - 1))
        except Missing:
            present = [area for area in areas() if area.priority < _PRIORITY - 1]
            path = (
                present[0].path if present else stack.enter_context(file_swap(size, _PRIORITY - 1))
            )
        yield path


@contextlib.contextmanager
def _swapped_on(path, size, priority):
    kind = "zram swap" if "zram" in path else "file swap"
    try:
        _write_header(path, size)
        linux.call("swapon", os.fsencode(path), _PREFER | priority)
    except OSError as error:
        raise refusal(error, kind) from error
    need(True, kind)
    try:
        yield
    finally:
        linux.call("swapoff", os.fsencode(path))


def _write_header(path, size):
    """What mkswap does: an empty area with our label."""
    label = f"fpm-test-{os.getpid()}".encode()
    header = bytearray(PAGE)
    struct.pack_into("=III16s16s", header, _HEADER, 1, size // PAGE - 1, 0, b"", label)
    header[-10:] = b"SWAPSPACE2"
    with open(path, "r+b", buffering=0) as device:
        device.write(header)


def _remove_zram(number):
    linux.write_text(f"/sys/block/zram{number}/reset", 1)
    linux.write_text(f"{_CONTROL}/hot_remove", number)


def _is_orphan(path):
    """Whether a run of this laboratory that is no more made this area.

    Anybody can put a file of that name there, a link or a pipe. What is root's stays what it is:
    directories for all are sticky.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(path, flags), "rb", buffering=0) as area:
            if os.fstat(area.fileno()).st_uid != 0:
                return False
            header = area.read(PAGE)
    except OSError:
        return False
    match = re.search(rb"fpm-test-(\d+)\0", header[_HEADER : _HEADER + 60])
    return match is not None and not os.path.exists(f"/proc/{int(match[1])}")


def clean_up():
    """Take away the swap that a crashed run left behind."""
    if os.geteuid():
        return
    with contextlib.suppress(Missing):
        files = glob.glob(os.path.join(backed.disk_directory(), _FILE_PREFIX + "*"))
        for path in filter(_is_orphan, files):
            _swapoff_quietly(path)
            os.unlink(path)
    for path in filter(_is_orphan, glob.glob("/dev/zram*")):
        _swapoff_quietly(path)
        _remove_zram(int(path.removeprefix("/dev/zram")))


def _swapoff_quietly(path):
    with contextlib.suppress(OSError):  # it was not even on
        linux.call("swapoff", os.fsencode(path))


def pageout(start, end, pid="self", patience=60.0):
    """Send the pages of a span out of their page table, and see that they went.

    The kernel takes no page that still waits in some processor's list of new ones, and looks at
    the list of the processor it runs on alone: so it is asked from one after the other. It takes
    none that is mapped twice, nor the zero page: these must not be in the span.
    """
    deadline = time.monotonic() + patience
    processors = os.sched_getaffinity(0)
    try:
        for processor in itertools.cycle(processors):
            _advise_pageout(start, end, pid)
            stayed = sum(oracle.decode(word).present for word in oracle.words(start, end, pid))
            if not stayed:
                return
            if time.monotonic() > deadline:
                break
            os.sched_setaffinity(0, {processor})
    finally:
        os.sched_setaffinity(0, processors)
    pages = (end - start) // PAGE
    raise RuntimeError(f"{stayed} of {pages} pages of {start:#x}-{end:#x} stayed in memory")


def leave_other_areas():
    """Have pages go to the area with the highest priority from now on, on every processor.

    Each one uses up its cluster of 512 slots first, in whichever area it is (seen on Linux 6.18).
    """
    processors = os.sched_getaffinity(0)
    try:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            with memory.touched(1024) as made:
                _advise_pageout(made.start, made.end, "self")
    finally:
        os.sched_setaffinity(0, processors)


def _advise_pageout(start, end, pid):
    try:
        if pid == "self":
            linux.call("madvise", start, end - start, linux.MADV_PAGEOUT)
        else:
            linux.process_madvise(pid, start, end, linux.MADV_PAGEOUT)
    except OSError as error:
        if error.errno != errno.ENOMEM:  # a hole: what is beside it was advised all the same
            raise
