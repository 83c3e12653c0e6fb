"""Read /proc/PID/pagemap without the GIL, from the kernel into the caller's memory."""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ESRCH, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.unistd cimport close

from fastpagemap._kernel cimport abi

from .failures import failure

PAGE_SIZE = abi.sysconf(abi._SC_PAGESIZE)

cdef enum:
    # The kernel gains nothing from larger reads, and drops its lock in between anyway.
    MAX_PREAD_BYTES = 256 * 1024
    # Pages between two checks for a pending signal: 50 ms of touched memory.
    SIGNAL_CHECK_PAGES = 1 << 21
    # Pages that must all read clean before soft-dirty counts as absent: someone may clear the bits
    # of this process just then.
    CLEAN_PROBES = 3
    # Pages to try at most: one that is not present tells nothing.
    MAX_PROBES = 8

PAGE_SHIFT = PAGE_SIZE.bit_length() - 1


cdef ssize_t read_entries(int fd, uint64_t start, uint64_t *entries, size_t count) noexcept nogil:
    """Read one entry a page. Pages past the end of the address space read 0."""
    cdef char *buffer = <char *> entries
    cdef size_t size = count * sizeof(uint64_t), done = 0
    cdef uint64_t offset = (start >> PAGE_SHIFT) * sizeof(uint64_t), first
    cdef ssize_t got
    while done < size:
        got = abi.pread(fd, buffer + done, min(size - done, <size_t> MAX_PREAD_BYTES),
                        offset + done)
        if got > 0:
            done += got
        elif got == 0:
            break
        elif errno != EINTR:
            return -errno
    if done == size:
        return count
    # At the end of the file the address space ends, or the process is gone. The entry of address 0
    # tells which: every address space has it, mapped or not.
    while True:
        got = abi.pread(fd, &first, sizeof(first), 0)
        if got > 0:
            memset(buffer + done, 0, size - done)
            return count
        if got == 0:
            return -ESRCH
        if errno != EINTR:
            return -errno


cdef int written_reads_dirty(int fd) noexcept nogil:
    """Return whether a page just written, in a new mapping, has the bit; -EAGAIN: not present."""
    cdef uint64_t entry = 0
    cdef size_t size = <size_t> 1 << PAGE_SHIFT
    cdef ssize_t got
    cdef void *page = abi.mmap(NULL, size, abi.PROT_READ | abi.PROT_WRITE,
                               abi.MAP_PRIVATE | abi.MAP_ANONYMOUS, -1, 0)
    if page == abi.MAP_FAILED:
        return -errno
    (<char *> page)[0] = 1
    got = read_entries(fd, <uint64_t> page, &entry, 1)
    abi.munmap(page, size)
    if got < 0:
        return got
    if not entry >> abi.PM_PRESENT & 1:
        return -EAGAIN
    return entry >> abi.PM_SOFT_DIRTY & 1


cdef int sees_soft_dirty() noexcept nogil:
    """Find out whether this kernel keeps soft-dirty bits; -errno where that cannot be tried.

    Nothing is cleared: clearing affects the whole process, and disturbs whoever tracks it.
    """
    # Not /proc/self, which shows no memory once the main thread has ended.
    cdef int fd = open(b"/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC)
    cdef int found = 0, clean = 0, tries = 0
    if fd < 0:
        return -errno
    while clean < CLEAN_PROBES:
        found = written_reads_dirty(fd)
        tries += 1
        if found == 0:
            clean += 1
        elif found != -EAGAIN or tries == MAX_PROBES:
            break
    close(fd)
    return found


cdef int check_alive(int fd, object path) except -1:
    """Raise ProcessLookupError if the process has gone meanwhile.

    A scan finds less and less while the memory is torn down, and reports no error. Reading does: if
    it succeeds after a scan, the scan saw all of the memory.
    """
    cdef ssize_t got
    cdef uint64_t entry
    with nogil:
        got = read_entries(fd, 0, &entry, 1)
    if got < 0:
        raise failure(-got, path)
    return 0


# ---- for Python --------------------------------------------------------------------------------

def soft_dirty():
    """Return whether this kernel keeps soft-dirty bits."""
    cdef int found = sees_soft_dirty()
    if found < 0:
        raise failure(-found, "/proc/thread-self/pagemap")
    return found == 1


def read(int fd, object path, uint64_t start, uint64_t[::1] entries):
    """Read one entry a page from `start` on, until `entries` is full."""
    cdef size_t count = entries.shape[0], done = 0, batch
    cdef ssize_t got
    while done < count:
        batch = min(count - done, <size_t> SIGNAL_CHECK_PAGES)
        with nogil:
            got = read_entries(fd, start + (done << PAGE_SHIFT), &entries[done], batch)
        if got < 0:
            raise failure(-got, path)
        done += batch
        PyErr_CheckSignals()
