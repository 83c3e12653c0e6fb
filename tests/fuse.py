"""A FUSE file system with one file, whose server counts what it is asked (root).

A server need not answer. One that does, and counts, shows as well who would have waited for it.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile

import linux
from needs import Absent, need, refusal

FILE = "f"
_HEADER, _ANSWER = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_COUNT = struct.Struct("=Q")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _STATFS, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 14, 17, 18, 25, 26
_INTERRUPT, _BATCH_FORGET = 36, 42
#: What the kernel sends of itself, or on close.
_UNASKED = {_FORGET, _RELEASE, _FLUSH, _INIT, _INTERRUPT, _BATCH_FORGET}
_BACKING_OPEN = 1 << 30 | 16 << 16 | 229 << 8 | 1
_INIT_EXT, _PASSTHROUGH_HIGH, _OPENED_PASSTHROUGH = 1 << 30, 1 << 5, 1 << 7
_NO_SUCH_FILE, _NO_SUCH_CALL = -2, -38


class Server:
    """Answers for one file of a size; with `backing`, it is that file that is mapped."""

    def __init__(self, device, counter, size, backing=None, inode=2):
        self.device, self.counter, self.size, self.backing = device, counter, size, backing
        self.inode = inode

    def serve(self):
        """Answer until the file system is gone."""
        while True:
            try:
                request = os.read(self.device, 1 << 17)
            except OSError:
                return
            _, kind, number, node, _, _, pid, _, _ = _HEADER.unpack_from(request)
            if kind not in _UNASKED and of_this_group(pid):
                (count,) = _COUNT.unpack_from(self.counter)
                _COUNT.pack_into(self.counter, 0, count + 1)
            if kind in (_FORGET, _BATCH_FORGET):
                continue
            error, answer = self.answer(kind, node, request[_HEADER.size :].rstrip(b"\0"))
            os.write(self.device, _ANSWER.pack(16 + len(answer), error, number) + answer)

    def answer(self, kind, node, body):
        """(error, answer) to a request."""
        if kind == _INIT:
            flags = (_INIT_EXT, _PASSTHROUGH_HIGH, 1) if self.backing else (0, 0, 0)
            fields = (7, 44, 1 << 16, flags[0], 16, 12, 1 << 16, 1, 32, 0, *flags[1:], *[0] * 9)
            return 0, struct.pack("<IIIIHHIIHHIIHHI6I", *fields)[:64]
        if kind == _LOOKUP:
            if body != FILE.encode():
                return _NO_SUCH_FILE, b""
            return 0, struct.pack("<QQQQII", 2, 0, 0, 0, 0, 0) + self.attributes(2)
        if kind == _GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if kind == _STATFS:
            return 0, struct.pack("<5Q10I", *[0] * 5, 4096, 255, 4096, *[0] * 7)
        if kind == _OPEN and self.backing:
            fd = os.open(self.backing, os.O_RDWR)
            number = fcntl.ioctl(
                self.device, _BACKING_OPEN, bytearray(struct.pack("<iIQ", fd, 0, 0))
            )
            return 0, struct.pack("<QIi", 7, _OPENED_PASSTHROUGH, number)
        if kind == _OPEN:
            return 0, struct.pack("<QII", 7, 0, 0)
        return (0, b"") if kind in _UNASKED else (_NO_SUCH_CALL, b"")

    def attributes(self, node):
        """Return struct fuse_attr."""
        mode, size = (0o40755, 0) if node == 1 else (0o100666, self.size)
        inode = 1 if node == 1 else self.inode
        return struct.pack(
            "<QQQQQQ10I", inode, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
        )


def of_this_group(pid):
    """Whether a process is of these tests: others on the machine look everywhere as well."""
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return True


class Mounted:
    """A mounted one: where, and what its server was asked."""

    def __init__(self, directory, counter):
        self.directory, self.counter = directory, counter
        self.path = os.path.join(directory, FILE)

    def asked(self):
        """How many requests the server has had."""
        return _COUNT.unpack_from(self.counter)[0]


@contextlib.contextmanager
def mounted(size=1 << 16, backing=None, place=None, inode=2, disk=None):
    """Mount a new one for a while, in a new directory or at a place.

    Its file has an inode; with `disk`, the file system has the device of that disk.
    """
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        raise refusal(error, "FUSE") from error
    directory = place or tempfile.mkdtemp(prefix="fastpagemap-")
    counter = mmap.mmap(-1, _COUNT.size)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    with contextlib.ExitStack() as stack:
        if place is None:
            stack.callback(os.rmdir, directory)
        target = directory.encode()
        try:
            kind, source = (b"fuseblk", disk.encode()) if disk else (b"fuse", b"fastpagemap")
            linux.call("mount", source, target, kind, 0, options.encode())
        except OSError as error:
            os.close(device)
            raise refusal(error, "FUSE") from error
        stack.callback(linux.call, "umount2", target, linux.MNT_DETACH)
        pid = os.fork()
        if pid == 0:
            try:
                linux.die_with_parent()
                Server(device, counter, size, backing, inode).serve()
            finally:
                os._exit(0)
        os.close(device)
        stack.callback(os.waitpid, pid, 0)
        stack.callback(os.kill, pid, 9)
        found = Mounted(directory, counter)
        os.stat(found.path)
        assert found.asked()
        yield found


@contextlib.contextmanager
def passed_through(backing):
    """Mount one whose file shows the pages of another (Linux 6.9); give its open file."""
    with mounted(os.path.getsize(backing), backing) as fuse:
        try:
            fd = os.open(fuse.path, os.O_RDWR)
        except OSError as error:
            raise Absent("FUSE in passthrough (Linux 6.9)") from error
        need(True, "FUSE in passthrough (Linux 6.9)")
        try:
            yield fd
        finally:
            os.close(fd)
