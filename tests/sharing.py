"""Shared memory mapped in every way there is, each page of its file in the state that is asked for.

A layout has one letter a page: S in swap, s in swap with a copy in RAM (the swap cache), C in the
page cache and not mapped, P mapped as well, F fallocated and never written, a dot for a hole. Over
these a private mapping may have pages of its own: o in memory, O in swap, a dot for none.
"""

import contextlib
import itertools
import mmap
import os
import time

import backed
import linux
import memory
import odd
import oracle
import oracle_files
import swap
from linux import PAGE
from needs import Absent, need
from oracle_files import FilePage

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_MS_REMOUNT = 32

#: Every state next to swap, in short runs and in long ones.
MIXED = "SS.CPFSSSS.SSSSSSSSSSSSSSSSSSSSSSSCSPPF.S" * 2

#: What the kernel says of the page of a file in each state; S may have a copy, unasked.
TABLE = {
    "s": {FilePage(False, True, True, True)},
    "S": {FilePage(False, True, True, True), FilePage(False, True, True, False)},
    "C": {FilePage(True, False, True, True)},
    "P": {FilePage(True, False, True, True)},
    "F": {FilePage(True, False, False, False)},
    ".": {FilePage(False, False, False, False)},
}


def in_part(pages):
    """A memfd of which the mapping shows neither the first pages nor the last."""
    return backed.mapped(backed.sized_memfd(pages + 12), pages, offset=5)


def twice(pages):
    """A memfd mapped a second time in the same process, two pages further on."""
    made = backed.mapped(backed.sized_memfd(pages + 2), pages)
    other = backed.mapped(os.dup(made.fd), pages, offset=2)
    made.undo.callback(other.close)
    return made


def half_page(pages):
    """A memfd that ends in the middle of the mapping's last page."""
    fd = backed.sized_memfd(pages)
    os.ftruncate(fd, pages * PAGE - PAGE // 2)
    return backed.mapped(fd, pages)


def tmpfs_in_part(pages):
    """A file on a tmpfs of its own, mapped from its fourth page on (root)."""
    return backed.tmpfs(pages, offset=3)


def memfd_private_in_part(pages):
    """A memfd mapped privately, from its fourth page on."""
    return backed.memfd_private(pages, offset=3)


#: Name to maker(pages).
SHARED = {
    maker.__name__: maker
    for maker in (
        backed.shared_anonymous,
        backed.memfd,
        backed.sysv,
        backed.posix,
        backed.tmpfs,
        odd.tmpfs_detached,
        in_part,
        twice,
        half_page,
        tmpfs_in_part,
    )
}
PRIVATE = {
    maker.__name__: maker
    for maker in (backed.memfd_private, backed.tmpfs_private, memfd_private_in_part)
}
READ_ONLY = {"memfd_read_only": backed.memfd_read_only}
KINDS = SHARED | PRIVATE | READ_ONLY


@contextlib.contextmanager
def file_of(made):
    """A descriptor of the file behind a memory, and the number of the first page it shows."""
    (line,) = [line for line in oracle.maps() if line.start == made.start]
    if made.fd >= 0:
        fd = os.dup(made.fd)
    else:
        need(os.geteuid() == 0, "root")
        fd = os.open(f"/proc/self/map_files/{line.start:x}-{line.end:x}", os.O_RDWR)
    try:
        yield fd, line.offset // PAGE
    finally:
        os.close(fd)


def hide(made):
    """Lose the descriptor of the file behind a memory: what is left is the path, or nothing."""
    if made.fd >= 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, made.fd)
        os.close(null)


def _runs(layout, letter):
    """(first, last) of each run of a letter."""
    at = 0
    for found, group in itertools.groupby(layout):
        length = len(list(group))
        if found == letter:
            yield at, at + length
        at += length


def paint(made, layout, own=""):
    """Bring every page of the file into its state."""
    with file_of(made) as (fd, first):
        made.drop()
        _own_pages(made, own)
        punch(fd, first, first + len(layout))
        send_to_swap(fd, first, layout)
        for page, last in _runs(layout, "P"):
            _fill(fd, first + page, first + last)
            made.read(page, last)  # which maps what is in the cache around it, too: C comes later
        for page, last in _runs(layout, "C"):
            _fill(fd, first + page, first + last)
        for page, last in _runs(layout, "F"):
            allocate(fd, first + page, first + last)
    return made


def in_place(made, layout):
    """Assert that the file's pages are what the truth table says of each state."""
    with file_of(made) as (fd, first):
        for page, letter in enumerate(layout):
            assert oracle_files.file_page(fd, first + page) in TABLE[letter], (page, letter)


def punch(fd, page, last):
    """Make holes of pages of a file."""
    mode = _PUNCH_HOLE | _KEEP_SIZE
    linux.call("fallocate", fd, mode, page * PAGE, (last - page) * PAGE)


def allocate(fd, page, last):
    """fallocate(2) pages of a file, which does not grow."""
    linux.call("fallocate", fd, _KEEP_SIZE, page * PAGE, (last - page) * PAGE)


def _fill(fd, page, last):
    """Write pages, as far as the file goes: it must not grow."""
    end = min(last * PAGE, os.fstat(fd).st_size)
    os.pwrite(fd, b"p" * (end - page * PAGE), page * PAGE)


def _own_pages(made, own):
    for letter in "oO":
        for page, last in _runs(own, letter):
            made.write(page, last)
    for page, last in _runs(own, "O"):
        swap.pageout(made.at(page), made.at(last))


def send_to_swap(fd, first, layout):
    """Write the pages marked S or s through a mapping of their own, and send them to swap."""
    with backed.mapped(os.dup(fd), len(layout), offset=first) as window:
        for letter in "Ss":
            for page, last in _runs(layout, letter):
                window.write(page, last)
        swap.pageout(window.start, window.end)
        for page, last in _runs(layout, "s"):
            window.advise(mmap.MADV_WILLNEED, page, last)  # reads them, as far as the swap cache
            _wait_for_copies(fd, first + page, first + last)


def _wait_for_copies(fd, page, last, patience=60.0):
    deadline = time.monotonic() + patience
    while not all(oracle_files.is_incore(fd, at) for at in range(page, last)):
        assert time.monotonic() < deadline, "no copies in the swap cache"


def extremes(pages):
    """Two layouts: of pages that are all in swap, and of pages of which none is."""
    return "S" * pages, ("C.FP" * pages)[:pages]


@contextlib.contextmanager
def huge_in_swap(which):
    """A nameless file of huge pages on a tmpfs (root), those marked True in swap, else holes."""
    each = memory.huge_page_pages()
    counter = f"{memory._THP}/hugepages-{each * PAGE >> 10}kB/stats/swpout"
    # above all other: a swap file takes no huge page whole
    area = swap.zram_swap(64 << 20, priority=32600)
    with area, backed.mounted("tmpfs", "huge=always") as directory:
        fd = os.open(directory, os.O_RDWR | os.O_TMPFILE, 0o666)
        os.ftruncate(fd, len(which) * each * PAGE)
        with memory.Memory(len(which) * each, backed.FILE_SHARED, fd=fd, align=each * PAGE) as made:
            made.advise(linux.MADV_HUGEPAGE)
            for number, wanted in enumerate(which):
                if wanted:
                    os.pwrite(fd, b"h" * each * PAGE, number * each * PAGE)
                    made.read(number * each, (number + 1) * each)
            need(os.path.exists(counter), "huge pages in swap (Linux 6.10)", Absent)
            before = linux.read_int(counter)
            swap.pageout(made.start, made.end)
            whole = linux.read_int(counter) - before
            need(whole >= sum(which), "huge pages in swap (Linux 6.10)", Absent)
            yield made


def remount(fd, options):
    """Change the options of the file system on which a nameless file is (root)."""
    directory = os.path.dirname(os.readlink(f"/proc/self/fd/{fd}"))
    linux.call("mount", b"none", os.fsencode(directory), b"tmpfs", _MS_REMOUNT, options.encode())


def expected(layout, own=""):
    """Of each page of a painted mapping, whether it is in swap."""
    answers = [letter in "Ss" for letter in layout]
    for page, letter in enumerate(own):
        if letter in "oO":
            answers[page] = letter == "O"
    return answers


def told_by_mincore(made, layout):
    """The same, told without cachestat: a copy in RAM is taken for the page itself."""
    with file_of(made) as (fd, first):
        copies = [oracle_files.is_incore(fd, first + page) for page in range(len(layout))]
    return [real and not copy for real, copy in zip(expected(layout), copies, strict=True)]
