"""The slow, obvious twin of what fastpagemap says of entries and mappings. It never imports it.

Bits and their meaning are those of the kernel's admin-guide/mm/pagemap.rst; nothing here is clever,
one page at a time, so that a reader can see that it is right. What the files of shared memory add
to it is in oracle_files.py; compare.py holds fastpagemap's answers against both.
"""

import ctypes
import mmap
import os
import re
import sys
from typing import NamedTuple

from linux import PAGE

# The kernel keeps the topmost of the 32 swap types for entries that are no swap (device-private,
# migration, poison, markers): nine at most, and which depends on its configuration. Types are given
# out lowest first.
FIRST_SPECIAL_TYPE = 23


class Entry(NamedTuple):
    """One 64-bit word of pagemap, exactly as the bits say; the fields of PAGE_DTYPE."""

    pfn: int
    swap_offset: int
    swap_type: int
    present: bool
    swapped: bool
    file: bool
    guard: bool
    uffd_wp: bool
    exclusive: bool
    soft_dirty: bool


def decode(word):
    """Take one entry apart, bit by bit."""
    present, swapped = bool(word >> 63 & 1), bool(word >> 62 & 1)
    low = word & ((1 << 55) - 1)
    return Entry(
        pfn=low if present else 0,
        swap_offset=low >> 5 if swapped else 0,
        swap_type=low & 31 if swapped else 0,
        present=present,
        swapped=swapped,
        file=bool(word >> 61 & 1),
        guard=bool(word >> 58 & 1),
        uffd_wp=bool(word >> 57 & 1),
        exclusive=bool(word >> 56 & 1),
        soft_dirty=bool(word >> 55 & 1),
    )


class Meaning(NamedTuple):
    """What one entry alone says of its page, as the masks define it."""

    present: bool
    swapped: bool
    shared: bool
    exclusive: bool
    soft_dirty: bool


def meaning(word, has_file=True):
    """Interpret one entry; of shared memory, `swapped` is but the half that entries can tell.

    `has_file`: whether a file is mapped there. Where none is, a page with FILE in its entry is the
    huge zero page.
    """
    entry = decode(word)
    real = entry.swapped and not entry.guard and entry.swap_type < FIRST_SPECIAL_TYPE
    return Meaning(
        present=entry.present,
        swapped=real,
        shared=entry.present and entry.file and has_file,
        exclusive=entry.present and entry.exclusive,
        soft_dirty=entry.soft_dirty,
    )


#: What the slow twin says to each question that entries answer by themselves.
TWINS = {
    "present": lambda word: meaning(word).present,
    "swapped": lambda word: meaning(word).swapped,
    "shared": lambda word: meaning(word).shared,
    "exclusive": lambda word: meaning(word).exclusive,
    "soft_dirty": lambda word: meaning(word).soft_dirty,
    "uffd_wp": lambda word: decode(word).uffd_wp,
    "guard": lambda word: decode(word).guard,
    "not_present": lambda word: not decode(word).present,
    "empty": lambda word: not decode(word).present and not decode(word).swapped,
}


def words(start, end, pid="self"):
    """The entries of a span, eight bytes a read; 0 where the file of entries ends."""
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        return [_word(fd, address) for address in range(start, end, PAGE)]
    finally:
        os.close(fd)


def many_words(start, end, pid="self"):
    """The same in bytes, a mebibyte a read: for whole processes, where eight would take hours."""
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        offset, stop = start // PAGE * 8, end // PAGE * 8
        pieces = range(offset, stop, 1 << 20)
        return b"".join(os.pread(fd, min(stop - at, 1 << 20), at) for at in pieces)
    finally:
        os.close(fd)


def _word(fd, address):
    offset = address // PAGE * 8
    return int.from_bytes(os.pread(fd, 8, offset), sys.byteorder)


class MapsLine(NamedTuple):
    """One line of maps, the path as the raw bytes the kernel wrote."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: bytes


_MAPS_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([0-9]+) *(.*)",
    re.DOTALL,
)


def maps_line(line):
    """Parse one line of maps or smaps, without its newline; None when it is not such a line."""
    match = _MAPS_LINE.fullmatch(line)
    if match is None:
        return None
    start, end, permissions, offset, device, inode, path = match.groups()
    return MapsLine(
        int(start, 16),
        int(end, 16),
        permissions.decode(),
        int(offset, 16),
        device.decode(),
        int(inode),
        path,
    )


def maps(pid="self"):
    """Every line of /proc/PID/maps, in order."""
    with open(f"/proc/{pid}/maps", "rb") as file:
        return [maps_line(line) for line in file.read().split(b"\n")[:-1]]


def have_files(start, end, pid="self"):
    """Of each page of a span, whether its mapping has a file, or is of the kernel's own pages."""
    answer = [False] * ((end - start) // PAGE)
    for line in maps(pid):
        first, last = max(start, line.start), min(end, line.end)
        if first < last and (line.inode or line.device != "00:00" or line.path.startswith(b"[v")):
            count = (last - first) // PAGE
            answer[(first - start) // PAGE : (last - start) // PAGE] = [True] * count
    return answer


def smaps(pid="self"):
    """/proc/PID/smaps: {(start, end): {field: bytes}}, and "VmFlags" as a set of names."""
    answer = {}
    with open(f"/proc/{pid}/smaps", "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    for line in lines:
        header = maps_line(line)
        if header is not None:
            fields = answer[header.start, header.end] = {}
            continue
        name, value = line.decode().split(":", 1)
        if name == "VmFlags":
            fields[name] = set(value.split())
        elif value.endswith(" kB"):
            fields[name] = int(value[:-3]) * 1024
    return answer


_SWAP_OF_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) |^Swap: +(\d+) kB$", re.MULTILINE)


def swap_sums(pid="self"):
    """The `Swap:` of every mapping in smaps, in bytes, by (start, end); faster than smaps()."""
    with open(f"/proc/{pid}/smaps", "rb") as file:
        found = _SWAP_OF_MAPPING.findall(file.read())  # a header and a sum, in turns
    spans = [(int(start, 16), int(end, 16)) for start, end, _ in found[::2]]
    return dict(zip(spans, [int(swap) * 1024 for _, _, swap in found[1::2]], strict=True))


def zero_pfn():
    """The frame of the zero page (root), from a page that was only ever read."""
    with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0]
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return decode(words(start, start + PAGE)[0]).pfn


def counts_twice(line, pid="self"):
    """Whether smaps may count what is under a mapping's own pages: where it is not writable."""
    if "s" in line.permissions or "w" in line.permissions or not line.inode:
        return False
    entries = map(decode, words(line.start, line.end, pid))
    return any(entry.swapped or (entry.present and not entry.file) for entry in entries)
