"""A process that locks its own memory, for as long as a FUSE server does not answer.

A thread of it reads a page of a FUSE file through /proc/self/mem: the kernel holds the lock of its
memory while the server is asked. Another thread waits to change the memory, and so everyone who
wants to look at it waits, too. Run as a script, this file is that process, and its server.

Standard library alone. Killing the server ends the connection, and lets go of the lock. The mount
is in a namespace of its own, which ends with the two processes.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import linux
from needs import Absent, need, refusal

DEVICE = "/dev/fuse"
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 36, 42
#: The name of a file that is looked up for ever: not even SIGKILL ends that.
SLOW = b"slow"
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_DIRECTORY, _FILE = 1, 2
_MEMORY = "/proc/self/mem"
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


class Locked:
    """The process, as a test holds it; leaving the context ends its server, and it."""

    def __init__(self, name="python"):
        need(os.path.exists(DEVICE), DEVICE, Absent)
        self._directory = tempfile.TemporaryDirectory(prefix="fastpagemap-test-")
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, self._directory.name, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid, self._server = self._process.pid, 0
        line = self._process.stdout.readline()
        if not line.strip().isdecimal():
            self.close()
            raise refusal(PermissionError(), f"to mount FUSE: {line.strip()}")
        self._server = int(line)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def slow(self):
        """The path of a file that is looked up for ever."""
        return f"/proc/{self.pid}/root{self._directory.name}/{os.fsdecode(SLOW)}"

    def lock(self):
        """Have it lock its memory; return when that has happened."""
        print("lock", file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "now\n"
        deadline = time.monotonic() + 120
        while self._state() != "D":  # it waits to change its memory
            assert time.monotonic() < deadline
            os.sched_yield()

    def lock_file(self, path):
        """Have it lock a file, by a write of what the server does not answer."""
        print(f"write {path}", file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "now\n"

    def unlock(self):
        """Kill the server: the memory is locked no more."""
        os.kill(self._server, signal.SIGKILL)
        self._server = 0
        assert self._process.stdout.readline() == "unlocked\n"

    def close(self):
        """End the server first, and with it whatever waits for it."""
        for pid in (self._server, self.pid):
            if pid:
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._directory.cleanup()

    def _state(self):
        return linux.stat(self.pid)[0]


# ---- the process ---------------------------------------------------------------------------------


def _run(directory, name):
    linux.die_with_parent()
    told, server = _mounted(directory)
    linux.write_text("/proc/self/comm", name)
    fd = os.open(os.path.join(directory, "file"), os.O_RDONLY)
    page = linux.call("mmap", 0, linux.PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    print(server, flush=True)
    what, _, path = sys.stdin.readline().rstrip("\n").partition(" ")
    if not what:
        return
    use, name, flags = (_write, path, os.O_WRONLY) if path else (_read, _MEMORY, os.O_RDONLY)
    threading.Thread(target=use, args=(os.open(name, flags), page), daemon=True).start()
    os.read(told, 1)  # the server was asked, so the thread holds the lock
    print("now", flush=True)
    if not path:
        mmap.mmap(-1, linux.PAGE).close()
    print("unlocked", flush=True)
    sys.stdin.readline()


def _read(memory, address):
    with contextlib.suppress(OSError):  # the server is gone
        os.pread(memory, 1, address)


def _write(file, address):
    with contextlib.suppress(OSError):
        os.write(file, (ctypes.c_char * linux.PAGE).from_address(address))


def _mounted(directory):
    """Mount FUSE; return a pipe that tells when the server is asked for a page, and its pid."""
    uid, gid = os.getuid(), os.getgid()
    linux.call("unshare", CLONE_NEWNS | (CLONE_NEWUSER if uid else 0))
    if uid:
        linux.write_text("/proc/self/setgroups", "deny")
        linux.write_text("/proc/self/uid_map", f"0 {uid} 1")
        linux.write_text("/proc/self/gid_map", f"0 {gid} 1")
    linux.call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    linux.call("mount", b"fuse", os.fsencode(directory), b"fuse", 0, options.encode())
    told, tell = os.pipe()
    server = os.fork()
    if not server:
        linux.die_with_parent()
        linux.write_text("/proc/self/comm", "fuse server")
        for fd in (0, 1):
            os.close(fd)
        _serve(device, tell)
    os.close(device)
    return told, server


def _serve(device, tell):
    """Answer whatever is asked, but for the content of the file, and for another file."""
    while True:
        request = os.read(device, 1 << 17)
        _, code, number, node, *_ = _IN.unpack_from(request)
        if code == READ:
            os.write(tell, b"!")
        if request[_IN.size :] == SLOW + b"\0":
            continue
        if code not in (READ, FORGET, BATCH_FORGET, INTERRUPT):
            error, answer = _answer(code, node)
            os.write(device, _OUT.pack(_OUT.size + len(answer), error, number) + answer)


def _answer(code, node):
    if code == INIT:
        return 0, struct.pack("=IIIIHHIIHHI", 7, 31, 4096, 0, 16, 12, 4096, 1, 0, 0, 0).ljust(
            64, b"\0"
        )
    if code == LOOKUP:
        return 0, struct.pack("=QQQQII", _FILE, 0, 3600, 3600, 0, 0) + _attributes(_FILE)
    if code == GETATTR:
        return 0, struct.pack("=QII", 3600, 0, 0) + _attributes(node)
    if code == OPEN:
        return 0, struct.pack("=QII", 1, 0, 0)
    return -38, b""  # ENOSYS


def _attributes(node):
    mode = 0o40755 if node == _DIRECTORY else 0o100644
    return struct.pack("=6Q10I", node, 1 << 20, 8, *[0] * 6, mode, 1, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    try:
        _run(*sys.argv[1:])
    except OSError as error:
        print(error, flush=True)
