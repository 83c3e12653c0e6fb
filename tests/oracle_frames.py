"""What the kernel says of page frames, eight bytes a read: the slow and obvious way (root)."""

import contextlib
import os

import linux
import oracle
from linux import PAGE

HEAD, TAIL = 1 << 15, 1 << 16
_THP = "/sys/kernel/mm/transparent_hugepage"


@contextlib.contextmanager
def reader(name):
    """Give a function that returns what a file of /proc says of a frame."""
    fd = os.open(f"/proc/{name}", os.O_RDONLY)
    try:
        yield lambda pfn: int.from_bytes(os.pread(fd, 8, 8 * pfn), "little")
    finally:
        os.close(fd)


def values(name, pfns):
    """What a file of /proc says of some frames."""
    with reader(name) as read:
        return [read(int(pfn)) for pfn in pfns]


def pfns(start, end, pid="self"):
    """The frame of each page of a span; 0 where none is."""
    found = [oracle.decode(word) for word in oracle.words(start, end, pid)]
    return [entry.pfn if entry.present else 0 for entry in found]


def folios(start, end, pid="self"):
    """(start, end, first frame mapped, order, flags of the head), frame by frame, tail by tail."""
    rows, last = [], None
    with reader("kpageflags") as flags:
        for index, pfn in enumerate(pfns(start, end, pid)):
            if not pfn:
                last = None
                continue
            address, head = start + index * PAGE, pfn
            while flags(head) & TAIL:
                head -= 1
            size = 1
            while flags(head) & HEAD and flags(head + size) & TAIL:
                size += 1
            if last == (head, pfn - 1) and rows[-1][3]:
                rows[-1][1] += PAGE
            else:
                rows.append([address, address + PAGE, pfn, size.bit_length() - 1, flags(head)])
            last = head, pfn
    return rows


def orders():
    """The orders of large anonymous folios that this kernel can make, but for the largest."""
    names = [name for name in os.listdir(_THP) if os.path.exists(f"{_THP}/{name}/enabled")]
    sizes = sorted(int(name[10:-2]) << 10 for name in names)
    return [(size // PAGE).bit_length() - 1 for size in sizes[:-1]]


@contextlib.contextmanager
def allowed(order):
    """Have the kernel make folios of an order where it is advised to, and of no other but that."""
    with linux.alone(_THP), contextlib.ExitStack() as undo:
        for other in orders():
            path = f"{_THP}/hugepages-{(PAGE << other) >> 10}kB/enabled"
            with open(path) as file:
                before = file.read().partition("[")[2].partition("]")[0]
            linux.write_text(path, "madvise" if other == order else "never")
            undo.callback(linux.write_text, path, before)
        yield
