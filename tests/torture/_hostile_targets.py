"""Targets that mean harm: run as `_hostile_targets.py KIND SEED DIRECTORY`, for ever.

Each has mounts of its own, so that all of them end with it. The kinds: `names` (files with odd and
very long names, renamed all the time), `mounts` (mounted, moved and unmounted around files that are
mapped), `fuse` (a file whose server has fallen silent). Standard library alone.
"""

import contextlib
import ctypes
import mmap
import os
import random
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import linux
from linux import PAGE

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_PRIVATE, _MOVE, _BIND = 1 << 18 | 0x4000, 0x2000, 0x1000
ODD = [
    b"line\nbreak", b"gone (deleted)", b"\\012", b"tab\t", b" blank ", b"\xff\xfe", b"[heap]",
    b"[vdso]", b"memfd:x (deleted)", b"SYSV00000000", b'"quoted"', b"=1+1", b"\x1b[31m", b"n" * 255,
    b"7f0000000000-7f0000001000 rw-p 00000000 00:01 1 x",
]  # fmt: skip


def mount(source, target, kind, flags=0, options=b""):
    """mount(2)."""
    linux.call("mount", source, target, kind, flags, options)


def own_mounts(directory):
    """Give this process mounts of its own, and an empty tmpfs at `directory`."""
    if os.geteuid():
        uid, gid = os.geteuid(), os.getegid()
        linux.call("unshare", _NEWNS | _NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            linux.write_text(f"/proc/self/{name}", text)
    else:
        linux.call("unshare", _NEWNS)
    mount(b"none", b"/", None, _PRIVATE)
    mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, b"size=64m,nr_inodes=20000")
    os.chdir(directory)


def mapped(path, pages, chance):
    """Map a new file of so many pages, some of them written."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.ftruncate(fd, pages * PAGE)
        made = mmap.mmap(fd, pages * PAGE, chance.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE)))
        for page in range(0, pages, chance.randrange(1, 5)):
            made[page * PAGE] = 1
        return made
    finally:
        os.close(fd)


def deep(length, chance):
    """Map a file at the end of a path of so many bytes."""
    top = os.open(".", os.O_RDONLY)
    try:
        name = b"d" * 250
        for _ in range(length // 251):
            os.makedirs(name, exist_ok=True)
            os.chdir(name)
        return mapped(b"end", 4, chance)
    finally:
        os.fchdir(top)
        os.close(top)


def names(chance):
    """Files of odd names: mapped, renamed, replaced, truncated, removed."""
    held = [deep(4096, chance), *(deep(1 << 20, chance) for _ in range(chance.randrange(4)))]
    present = {}
    while True:
        name = chance.choice(ODD)
        act = chance.randrange(6)
        with contextlib.suppress(OSError, ValueError, MemoryError):
            if act <= 1 or name not in present:
                present[name] = mapped(name, chance.randrange(1, 40), chance)
            elif act == 2:
                os.rename(name, chance.choice(ODD))
            elif act == 3:
                os.unlink(name)
            elif act == 4:
                os.truncate(name, PAGE * chance.randrange(40))
            else:
                present.pop(name).madvise(linux.MADV_PAGEOUT)
        if len(present) + len(held) > 64:
            present.clear()


def mounts(chance):
    """File systems mounted over, moved and detached, with files mapped in them."""
    for name in (b"a", b"b", b"c", b"low", b"up", b"work"):
        os.mkdir(name)
    with open("low/file", "wb") as file:
        file.write(b"x" * 8 * PAGE)
    held = []
    while True:
        place = chance.choice((b"a", b"b", b"c"))
        act = chance.randrange(6)
        with contextlib.suppress(OSError, ValueError):
            if act == 0:
                mount(b"tmpfs", place, b"tmpfs", 0, b"size=4m")
            elif act == 1:
                mount(b"o", place, b"overlay", 0, b"lowerdir=low,upperdir=up,workdir=work")
            elif act == 2:
                mount(place, chance.choice((b"a", b"b", b"c")), None, chance.choice((_MOVE, _BIND)))
            elif act == 3:
                linux.call("umount2", place, linux.MNT_DETACH)
            elif act == 4:
                held.append(mapped(place + b"/file", 8, chance))
            else:
                held[chance.randrange(len(held))].madvise(linux.MADV_PAGEOUT)
        del held[:-20]


_INIT, _LOOKUP, _GETATTR, _OPEN, _OPENDIR, _READ = 26, 1, 3, 14, 27, 15


def _attributes(node):
    mode = 0o40777 if node == 1 else 0o100666
    return struct.pack("<6Q10I", node, 16 * PAGE, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


def serve(fuse, silent):
    """Answer the kernel for a FUSE mount with one file, until told to be silent."""
    while True:
        request = os.read(fuse, 1 << 17)
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode == _INIT:
            answer = struct.pack("<4I2H2I9I", 7, 31, 1 << 16, 0, 16, 12, 1 << 16, 1, *[0] * 9)
        elif os.path.exists(silent):
            continue
        elif opcode == _LOOKUP:
            answer = struct.pack("<4QII", 2, 0, 0, 0, 0, 0) + _attributes(2)
        elif opcode == _GETATTR:
            answer = struct.pack("<QII", 0, 0, 0) + _attributes(node)
        elif opcode in (_OPEN, _OPENDIR):
            answer = struct.pack("<QII", 1, 0, 0)
        elif opcode == _READ:
            answer = b"x" * PAGE
        else:
            os.write(fuse, struct.pack("<IiQ", 16, -38, unique))
            continue
        os.write(fuse, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)


def fuse(chance):
    """A file of FUSE, mapped and open many times, whose server answers no more."""
    device = os.open("/dev/fuse", os.O_RDWR)
    os.mkdir("fuse")
    silent = os.path.abspath("silent")
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
    mount(b"fuse", b"fuse", b"fuse", 0, options)
    if os.fork() == 0:
        linux.die_with_parent()
        serve(device, silent)
    os.close(device)
    fd = os.open("fuse/file", os.O_RDWR)
    held = [mmap.mmap(fd, 16 * PAGE, flags) for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)]
    held[1][0] = 1
    for _ in range(20):
        os.dup(fd)
    os.close(os.open(silent, os.O_CREAT | os.O_WRONLY))

    def fault():
        held[0][8 * PAGE]  # for ever, as nobody answers

    threading.Thread(target=fault, daemon=True).start()
    while True:
        made = mapped(b"other", chance.randrange(1, 30), chance)
        time.sleep(0.01)
        made.close()


def main():
    """Make harm until killed."""
    kind, seed, directory = sys.argv[1:]
    linux.die_with_parent()
    ctypes.CDLL(None).alarm(120)
    own_mounts(directory)
    {"names": names, "mounts": mounts, "fuse": fuse}[kind](random.Random(seed))


if __name__ == "__main__":
    main()
