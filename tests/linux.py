"""The system calls that the laboratory needs and Python does not offer, errno made into OSError.

Standard library alone, so that a bare child interpreter can use it too.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import time

PAGE = os.sysconf("SC_PAGESIZE")

MS_BIND = 0x1000
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
MAP_HUGETLB = 0x40000
MADV_FREE = 8
MADV_REMOVE = 9
MADV_MERGEABLE = 12
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_PAGEOUT = 21
MADV_POPULATE_READ = 22
MADV_POPULATE_WRITE = 23
MADV_COLLAPSE = 25
MADV_GUARD_INSTALL = 102
MADV_GUARD_REMOVE = 103
MLOCK_ONFAULT = 1
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 0x10
MNT_DETACH = 2
MREMAP_MAYMOVE = 1
_PF_KTHREAD = 0x00200000
MS_SYNC = 4
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
OVERLAYFS_MAGIC = 0x794C7630
TMPFS_MAGIC = 0x01021994

# System calls from 424 on have one number on every architecture.
PIDFD_OPEN = 434
PROCESS_MADVISE = 440
CACHESTAT = 451
CLONE_VM = 0x100
# mbind(2) is older; the C library does not have it.
MBIND = {"x86_64": 237, "aarch64": 235}
MPOL_BIND, MPOL_INTERLEAVE = 2, 3
MPOL_MF_STRICT, MPOL_MF_MOVE = 1, 2

# No function's int may be read as a long: the upper half of the register is not defined.
_LONG_RESULTS = {"mmap", "mremap", "shmat", "syscall"}
_libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """Call the C library's `name`; -1 becomes the errno's OSError."""
    function = getattr(_libc, name)
    function.restype = ctypes.c_long if name in _LONG_RESULTS else ctypes.c_int
    ctypes.set_errno(0)
    result = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")
    return result


def syscall(number, *arguments):
    """A system call by its number."""
    return call("syscall", number, *arguments)


def filesystem(path):
    """The magic number of the file system that `path` (or an open descriptor) is on."""
    answer = (ctypes.c_long * 64)()
    if isinstance(path, int):
        call("fstatfs", path, answer)
    else:
        call("statfs", os.fsencode(path), answer)
    return answer[0]


def die_with_parent():
    """Have the kernel kill this process when its parent ends, in whatever way."""
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL))


def process_madvise(pid, start, end, advice):
    """Advise the kernel about another process's memory; return the bytes it took note of."""
    pidfd = syscall(PIDFD_OPEN, pid, 0)
    try:
        span = (ctypes.c_size_t * 2)(start, end - start)
        return syscall(PROCESS_MADVISE, pidfd, span, 1, advice, 0)
    finally:
        os.close(pidfd)


def read_int(path):
    """The one number in a file of /sys or /proc."""
    with open(path) as file:
        return int(file.read())


@contextlib.contextmanager
def alone(directory):
    """Keep other runs of these tests from changing the same settings of the machine meanwhile."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def stat(pid):
    """The fields of /proc/PID/stat, from the state on. The name before it may hold any bytes."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].decode().split()


def is_running(pid):
    """Whether a process is there, and neither a zombie nor ending."""
    try:
        return stat(pid)[0] not in "ZX"
    except OSError:
        return False


def wait_until_asleep(pid, patience=60.0):
    """Wait while another process still runs, or waits for a disk; not for one that has ended.

    Who has just answered goes on to wait for the next command, and touches its memory until then.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            state = stat(pid)[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state not in "RD":
            return
        os.sched_yield()
    raise TimeoutError(f"process {pid} still runs after {patience} s: {state}")


def is_kernel_thread(pid):
    """Whether a process is a thread of the kernel, as far as /proc shows it."""
    try:
        return bool(int(stat(pid)[6]) & _PF_KTHREAD)
    except OSError:
        return False


def meminfo(name):
    """A line of /proc/meminfo in bytes; 0 if there is none of that name."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def write_text(path, text):
    """Set a file of /sys or /proc."""
    with open(path, "w") as file:
        file.write(str(text))
