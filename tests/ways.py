"""Ways to change memory, each done to a few pages of it.

A way that begins before the memory is tracked is a generator, which yields in between.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import tempfile

import backed
import linux
import memory
import oracle
import uring
from linux import PAGE
from memory import PRIVATE, READ, READ_WRITE

MREMAP_FIXED = 2
PTRACE_POKEDATA, PTRACE_ATTACH, PTRACE_DETACH = 5, 16, 17
PROCESS_VM_WRITEV = {"x86_64": 311, "aarch64": 271}
FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAKE_OP, ADD_ONE = 5, 1 << 28 | 1 << 12
BYTE = b"\7"


class Place:
    """Pages `first` to `last` of a memory, which begins at the beginning of its file."""

    def __init__(self, made, first, last):
        self.made, self.first, self.last = made, first, last
        self.start, self.size = made.at(first), (last - first) * PAGE
        self.offset = first * PAGE

    @property
    def fd(self):
        """The file's descriptor; a way that needs one cannot be gone without."""
        if self.made.fd < 0:
            raise OSError(errno.EBADF, "no file")
        return self.made.fd

    @property
    def view(self):
        return memoryview((ctypes.c_char * self.size).from_address(self.start)).cast("B")


def store(place):
    place.made.write(place.first, place.last, value=BYTE[0])


def in_fork(act):
    """Do something in a forked child; OSError if it cannot."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            linux.die_with_parent()
            act()
            status = 0
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, "in a child")


def store_after_fork(place):
    in_fork(lambda: None)
    store(place)


def store_of_child(place):
    """Of one that was forked, and has written there, before."""
    own, childs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            linux.die_with_parent()
            own.close()
            for value in (1, BYTE[0]):
                place.made.write(place.first, place.last, value=value)
                childs.send(b"x")
                childs.recv(1)
        os._exit(0)
    childs.close()
    answered = own.recv(1)
    yield
    own.send(b"x")
    answered = answered and own.recv(1)
    own.close()
    os.waitpid(pid, 0)
    if not answered:
        raise OSError(errno.ENOMEM, "the child ended")


def store_elsewhere(place):
    """Through a mapping that was written to before."""
    other = mmap.mmap(place.fd, place.offset + place.size)
    for value in (1, BYTE[0]):
        for at in range(place.offset, place.offset + place.size, PAGE):
            other[at] = value
        if value == 1:
            yield
    other.close()


def read(place):
    with open("/dev/urandom", "rb", buffering=0) as file:
        file.readinto(place.view)


@contextlib.contextmanager
def direct(place):
    """A file of as many bytes, to be read past the page cache."""
    with tempfile.NamedTemporaryFile(dir=backed.disk_directory()) as file:
        file.write(BYTE * place.size)
        file.flush()
        os.fsync(file.fileno())
        fd = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
        try:
            yield fd
        finally:
            os.close(fd)


def direct_read(place):
    with direct(place) as fd:
        os.preadv(fd, [place.view], 0)


def uring_read(place):
    with direct(place) as fd, uring.Ring() as ring:
        ring.read(fd, place.start, place.size)


def uring_read_pinned(place):
    with direct(place) as fd, uring.Ring() as ring:
        ring.register(place.start, place.size)
        yield
        ring.read(fd, place.start, place.size, registered=True)


def process_vm_writev(place):
    content = ctypes.create_string_buffer(BYTE * place.size)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(content), place.size)
    remote = (ctypes.c_size_t * 2)(place.start, place.size)
    linux.syscall(PROCESS_VM_WRITEV[os.uname().machine], os.getpid(), local, 1, remote, 1, 0)


def proc_mem(place):
    with open("/proc/self/mem", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), BYTE * place.size, place.start)


def ptrace(place):
    parent = os.getpid()

    def poke():
        linux.call("ptrace", PTRACE_ATTACH, parent, 0, 0)
        os.waitpid(parent, 0)
        try:
            for at in range(place.start, place.start + place.size, PAGE):
                linux.call("ptrace", PTRACE_POKEDATA, parent, at, BYTE[0])
        finally:
            linux.call("ptrace", PTRACE_DETACH, parent, 0, 0)

    in_fork(poke)


def futex(place):
    number = FUTEX[os.uname().machine]
    for at in range(place.start, place.start + place.size, PAGE):
        linux.syscall(number, at, FUTEX_WAKE_OP, 0, 0, at, ADD_ONE)


def pwrite(place):
    os.pwrite(place.fd, BYTE * place.size, place.offset)


def splice(place):
    reader, writer = os.pipe()
    try:
        for at in range(place.offset, place.offset + place.size, PAGE):
            os.write(writer, BYTE * PAGE)
            os.splice(reader, place.fd, PAGE, offset_dst=at)
    finally:
        os.close(reader)
        os.close(writer)


def copy_file_range(place):
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(BYTE * place.size)
        file.flush()
        os.copy_file_range(file.fileno(), place.fd, place.size, 0, place.offset)


def fallocate(mode):
    def act(place):
        linux.call(
            "fallocate", place.fd, mode | linux.FALLOC_FL_KEEP_SIZE, place.offset, place.size
        )

    return act


def truncate(place):
    size = os.fstat(place.fd).st_size
    os.ftruncate(place.fd, place.offset)
    os.ftruncate(place.fd, size)


def advise(*advices):
    def act(place):
        for each in advices:
            place.made.advise(each, place.first, place.last)

    return act


def page_out(place):
    place.made.advise(linux.MADV_PAGEOUT, place.first, place.last)
    place.made.read(place.first, place.last)


def lock(place):
    place.made.lock(place.first, place.last)
    linux.call("munlock", place.start, place.size)


def merge(place):
    (line,) = [line for line in oracle.maps() if line.start <= place.start < line.end]
    if line.path or place.size > 100 * PAGE:
        raise OSError(
            errno.EINVAL, "only private anonymous memory is merged, and huge pages slowly"
        )
    memory.merge(place.made, place.first, place.last)


def protect(place):
    for protection in (READ, READ_WRITE):
        place.made.protect(protection, place.first, place.last)


def map_anew(place):
    place.made.map(PRIVATE, first=place.first, last=place.last)


def move_there(place):
    other = linux.call("mmap", 0, place.size, READ_WRITE, PRIVATE, -1, 0)
    flags = linux.MREMAP_MAYMOVE | MREMAP_FIXED
    linux.call("mremap", other, place.size, place.size, flags, place.start)


def move_away(place):
    linux.call("mremap", place.start, place.size, 2 * place.size, linux.MREMAP_MAYMOVE)


#: By what the documentation calls them.
WAYS = {
    "a store": store,
    "a store, after a fork": store_after_fork,
    "`read(2)` into it": read,
    "`O_DIRECT` read into it": direct_read,
    "io_uring reads into it": uring_read,
    "io_uring reads into a buffer registered before": uring_read_pinned,
    "`process_vm_writev(2)`": process_vm_writev,
    "`/proc/PID/mem`": proc_mem,
    "`ptrace(2)`": ptrace,
    "a futex operation": futex,
    "a store of a child, forked before": store_of_child,
    "a store through another mapping, used before": store_elsewhere,
    "`write(2)` to the file": pwrite,
    "`splice(2)` to the file": splice,
    "`copy_file_range(2)` to the file": copy_file_range,
    "`fallocate(2)`: a hole punched": fallocate(linux.FALLOC_FL_PUNCH_HOLE),
    "`fallocate(2)`: a range zeroed": fallocate(linux.FALLOC_FL_ZERO_RANGE),
    "`ftruncate(2)` down and up": truncate,
    "`MADV_REMOVE`": advise(linux.MADV_REMOVE),
    "`MADV_DONTNEED`": advise(mmap.MADV_DONTNEED),
    "`MADV_FREE`, and reclaimed": advise(linux.MADV_FREE, linux.MADV_PAGEOUT),
    "`MADV_GUARD_INSTALL`, and removed": advise(linux.MADV_GUARD_INSTALL, linux.MADV_GUARD_REMOVE),
    "`MADV_POPULATE_WRITE`": advise(linux.MADV_POPULATE_WRITE),
    "`MADV_POPULATE_READ`": advise(linux.MADV_POPULATE_READ),
    "`MADV_COLLAPSE`": advise(linux.MADV_COLLAPSE),
    "`MADV_PAGEOUT`, and read": page_out,
    "merged with equal pages (KSM)": merge,
    "`mlock(2)`": lock,
    "`mprotect(2)`, and back": protect,
    "mapped anew": map_anew,
    "`mremap(2)` of other memory there": move_there,
    "`mremap(2)` to elsewhere": move_away,
}
