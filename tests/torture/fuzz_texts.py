"""The texts that the kernel shows of a process, damaged, and real ones of files with odd names.

A real process's directory in /proc is replaced by one of files: maps, smaps, mountinfo. Whatever
is in them, parsing ends soon, in rows or in an exception. Names of real files survive unchanged.
"""

import contextlib
import ctypes
import io
import mmap
import os
import re
import sys
import tempfile
import time

import _torture  # isort: skip
import numpy as np

import backed
import fastpagemap as fpm
import linux
import oracle
from fastpagemap.process.files import Files
from fastpagemap.process.mappings import mappings
from fastpagemap.process.process import Process
from fastpagemap.process.smaps import smaps
from linux import PAGE
from needs import Missing

EXPECTED = (ValueError, OverflowError, OSError, MemoryError)
#: Seconds of processor time for a text of a MiB or less.
LONGEST = 3
_NUMBERS = [
    b"0",
    b"f" * 16,
    b"f" * 17,
    b"9" * 40,
    b"-1",
    b"ffffffffff600000",
    b"",
    b"0x10",
    b"\xff",
]
_PIECES = [
    b"\n",
    b" ",
    b"-",
    b":",
    b"\\012",
    b"\\040",
    b"\\",
    b"\\134012",
    b" - ",
    b"\t",
    b"\0",
    b"/",
]
_PIECES += [b" (deleted)", b"rw-p", b"kB", b"Swap:", b"VmFlags:", b"\xc3", b"\xff\xfe", b"a" * 5000]


def _descriptors_of(path):
    """The descriptors of this process that are of a path."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == path:
                yield int(name)


#: What the kernel writes: numbers of 64 bits, and a blank between the inode and the path.
_HEX = rb"[0-9a-f]{1,16}"
_LIKE = re.compile(rb"%b-%b [^ ]{4} %b [^ ]{1,10} [0-9]{1,18}(?: |$)" % (_HEX, _HEX, _HEX))


class Texts:
    """A process of whose directory in /proc this decides the content."""

    def __init__(self, stack):
        self.directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastpagemap-"))
        self.process = Process(os.getpid())
        (number,) = _descriptors_of(f"/proc/{os.getpid()}")
        fake = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        os.dup2(fake, number)
        os.close(fake)
        self.real = {}
        for name in ("maps", "smaps", "mountinfo"):
            with open(f"/proc/self/{name}", "rb") as file:
                self.real[name] = file.read()

    def show(self, name, text):
        """Make this the content of a file of the process's."""
        with open(os.path.join(self.directory, name), "wb") as file:
            file.write(text)

    def parse(self, name):
        """What the library makes of it."""
        if name == "maps":
            return mappings(self.process)
        if name == "smaps":
            return list(smaps(self.process, "Rss", "Swap", "VmFlags"))
        return Files(self.process).mounts


def damaged(chance, text):
    """A part of a text, with a few bytes, numbers, words or lines changed."""
    lines = text.split(b"\n")
    first = chance.randrange(len(lines))
    text = bytearray(b"\n".join(lines[first : first + chance.choice([1, 3, 30, 400])]) + b"\n")
    for _ in range(chance.choice([0, 1, 1, 2, 5, 30])):
        at, way = chance.randrange(len(text) + 1), chance.randrange(6)
        if way == 0 and text:
            text[at % len(text)] = chance.randrange(256)
        elif way == 1:
            del text[at : at + chance.choice([1, 3, 50, 500])]
        elif way == 2:
            text[at:at] = chance.choice(_PIECES)
        elif way == 3:
            text[at:at] = text[max(0, at - chance.randint(0, 200)) : at]
        elif way == 4:
            end = text.find(b" ", at)
            text[at : max(at, end)] = chance.choice(_NUMBERS)
        else:
            text[at:at] = chance.choice([b"/", b" ", b"\\", b"0"]) * chance.choice(
                [10, 4096, 300000]
            )
    return bytes(text)


def try_damaged(texts, chance, counts):
    """Parse something that no kernel shows."""
    name = chance.choice(sorted(texts.real))
    text = damaged(chance, texts.real[name])
    texts.show(name, text)
    began = time.process_time()
    try:
        rows = texts.parse(name)
        counts[f"{name} parsed"] += 1
    except EXPECTED:
        counts[f"{name} refused"] += 1
        return
    finally:
        took = time.process_time() - began
        assert took < LONGEST, f"{took:.1f} s for {len(text)} bytes of {name}"
    if name == "maps":
        compare(rows, text)


def try_saved(texts, chance, counts):
    """Take something for saved maps: what is accepted can be saved, and loaded again."""
    text = damaged(chance, texts.real[chance.choice(["maps", "smaps"])])
    words = np.full(chance.choice([1, 600]), 1 << 63, np.uint64)
    found = _LIKE.search(text)
    start = int(found[0].partition(b"-")[0], 16) if found and chance.random() < 0.9 else 0
    start = min(start, 1 << 62) // PAGE * PAGE
    try:
        taken = fpm.Snapshot.from_entries(words, start, maps=io.BytesIO(text))
    except (ValueError, MemoryError):
        counts["saved maps refused"] += 1
        return
    file = io.BytesIO()
    taken.save(file)
    file.seek(0)
    assert fpm.Snapshot.load(file).mappings == taken.mappings
    counts["saved maps taken"] += 1


def compare(rows, text):
    """Where every line is one of maps, in order, each row is what the slow parser makes of it."""
    lines = [oracle.maps_line(line) for line in text.split(b"\n")[:-1] if _LIKE.match(line)]
    if len(lines) != text.count(b"\n"):
        return
    last = 0
    for line in lines:
        if line is None or line.start < last or not line.start < line.end < 1 << 64:
            return
        last = line.end
    for row, line in zip(rows, lines, strict=True):
        told = row.start, row.end, row.permissions, row.offset
        assert told == line[:4], (row, line)
        if b"\\" not in line.path:
            assert os.fsencode(row.path) == line.path.lstrip(b" "), (row, line)


def odd_name(chance):
    """A file name of any bytes; often of those that the kernel escapes."""
    pieces = [b"\n", b"\\", b"012", b"\\012", b" ", b"\t", b"(deleted)", b"\xff", b"a", b"-", b"#"]
    name = b"".join(chance.choice(pieces) for _ in range(chance.randint(1, 30)))
    return name if name not in (b".", b"..") else b"dots"


def try_name(texts, chance, counts):
    """Map a file of an odd name: mappings() and smaps give back that name."""
    path = os.path.join(os.fsencode(texts.directory), b"x" + odd_name(chance))
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, PAGE)
        with mmap.mmap(fd, PAGE) as mapped, fpm.PageMap() as pm:
            first = ctypes.c_char.from_buffer(mapped)
            start = ctypes.addressof(first)
            del first
            (found,) = [m for m in pm.mappings() if m.start == start]
            if os.geteuid() == 0 or b"\\012" not in path:
                assert os.fsencode(found.path) == path, (found.path, path)
            (found,) = [m for m, _ in smaps(Process(), "Rss") if m.start == start]
            if os.geteuid() == 0 or b"\\012" not in path:
                assert os.fsencode(found.path) == path, (found.path, path)
        counts["odd names of files"] += 1
    finally:
        os.close(fd)
        os.unlink(path)


def try_mount(texts, chance, counts):
    """Mount at an odd name: a file there is found to be shared memory all the same (root)."""
    place = os.path.join(os.fsencode(texts.directory), b"m" + odd_name(chance))
    os.mkdir(place)
    try:
        linux.call("mount", b"none", place, b"tmpfs", 0, b"")
        try:
            with open(os.path.join(place, b"file"), "wb+") as file:
                file.truncate(8 * PAGE)
                with backed.mapped(os.dup(file.fileno()), 8) as made, fpm.PageMap() as pm:
                    made.write(0, 4)
                    unknown = pm.unknown(made.start, made.end)
                    assert not unknown.any(), place
                    assert pm.present(made.start, made.end).sum() == 4
        finally:
            linux.call("umount2", place, linux.MNT_DETACH)
        counts["odd mount points"] += 1
    except PermissionError:
        counts["mounts not allowed"] += 1
    finally:
        os.rmdir(place)


def main():
    """Return the exit status."""
    given = _torture.arguments()
    with contextlib.ExitStack() as stack:
        texts = Texts(stack)

        def one_round(chance, counts):
            for _ in range(20):
                try_damaged(texts, chance, counts)
                try_saved(texts, chance, counts)
            with contextlib.suppress(Missing):
                try_name(texts, chance, counts)
            if os.geteuid() == 0 and chance.random() < 0.1:
                try_mount(texts, chance, counts)

        return _torture.run(one_round, given)


if __name__ == "__main__":
    sys.exit(main())
