"""A process that holds memory of one layout, to be measured from outside.

Run as a script by `lab.target`, in a bare interpreter: makes the memory, prints its start and its
end, and stays until stdin ends.
"""

import ctypes
import mmap
import os
import sys

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_PAGEOUT = 14, 15, 21
MAP_NORESERVE = 0x4000
MLOCK_ONFAULT = 1
#: parts in which a reservation is touched, evenly spread over it
PARTS = 16

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def call(name, *arguments):
    """Call the C library; -1 becomes an OSError."""
    got = getattr(libc, name)(*map(ctypes.c_size_t, arguments))
    if got in (-1, (1 << 64) - 1):
        raise OSError(ctypes.get_errno(), name)
    return got


def sparse(size, sharing=mmap.MAP_PRIVATE):
    """Map a file of shared memory in which nothing is, and return its address."""
    file = os.memfd_create("sparse")
    os.ftruncate(file, size)
    flags = sharing | MAP_NORESERVE
    return call("mmap", 0, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, 0)


def private(size, advice=MADV_NOHUGEPAGE):
    """Map private memory, aligned to huge pages, and return its address."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    whole = call("mmap", 0, size + HUGE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    start = -(-whole // HUGE) * HUGE
    call("madvise", start, size, advice)
    return start


def touch(start, size, step=1):
    """Write to every `step`th page."""
    if step == 1:
        ctypes.memset(start, 1, size)
    else:
        for address in range(start, start + size, step * PAGE):
            ctypes.memset(address, 1, 1)


def page_out(start, size, run):
    """Send every other run of pages to swap, until they are gone from the page table."""
    processors = os.sched_getaffinity(0)
    for processor in sorted(processors) * 5:
        # it takes no page that is still in another processor's list of new ones
        os.sched_setaffinity(0, {processor})
        for address in range(start, start + size, 2 * run * PAGE):
            call("madvise", address, run * PAGE, MADV_PAGEOUT)
        if left(start, size, run) == 0:
            os.sched_setaffinity(0, processors)
            return
    sys.exit(f"{left(start, size, run)} pages stay in memory")


def left(start, size, run):
    """Count the pages of every other run that are present."""
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(start // PAGE * 8)
        entries = memoryview(file.read(size // PAGE * 8)).cast("Q")
    return sum(
        entries[i] >> 63
        for at in range(0, len(entries), 2 * run)
        for i in range(at, min(at + run, len(entries)))
    )


def small_mappings(count):
    """Touch as many pages, every other one of them read-only, so that none is joined."""
    start = private(count * PAGE)
    touch(start, count * PAGE)
    for address in range(start, start + count * PAGE, 2 * PAGE):
        call("mprotect", address, PAGE, mmap.PROT_READ)
    return start, start + count * PAGE


def make(layout, size, resident):
    """Make the memory; return its span."""
    words = layout.split()
    if layout == "small mappings":
        return small_mappings(size // PAGE)
    if layout == "shadow":
        start = sparse(size)
    elif words[-1] == "shared":
        start = sparse(size, mmap.MAP_SHARED)
    else:
        start = private(size, MADV_HUGEPAGE if layout == "huge" else MADV_NOHUGEPAGE)
    if layout in ("reserved", "shadow"):
        for part in range(PARTS):
            touch(start + size // PARTS * part, resident // PARTS)
    elif words[0] == "every":
        touch(start, size, int(words[1]))
    elif layout != "untouched":
        touch(start, size)
    if words[0] == "swapped":
        page_out(start, size, int(words[1]))
    return start, start + size


def keep(start, end):
    """Have what is present stay, where this user may."""
    libc.mlock2(ctypes.c_size_t(start), ctypes.c_size_t(end - start), MLOCK_ONFAULT)


if __name__ == "__main__":
    span = make(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    if sys.argv[1] != "small mappings":
        keep(*span)
    print(*span, flush=True)
    sys.stdin.read()
