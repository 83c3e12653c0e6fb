# cython: language_level=3, freethreading_compatible=True
"""A profiler's sampling loop: how much of a span is in RAM, by time, without the GIL."""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset, strerror
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.signal cimport SA_RESTART, sigaction, sigaction_t, sigemptyset
from posix.time cimport ITIMER_PROF, itimerval, nanosleep, setitimer, timespec
from posix.unistd cimport close

from fastpagemap cimport core

cdef extern from "<signal.h>" nogil:
    enum: SIGPROF

PRESENT = core.PAGE_PRESENT
SWAP_ENTRY = core.PAGE_SWAP_ENTRY
SHARED = core.PAGE_SHARED
EXCLUSIVE = core.PAGE_EXCLUSIVE
SOFT_DIRTY = core.PAGE_SOFT_DIRTY


cdef ssize_t checked(ssize_t got) except -1:
    if got < 0:
        raise OSError(-got, strerror(-got).decode())
    return got


cdef class Files:
    """The files of a process that fastpagemap reads."""

    cdef int pagemap, maps

    def __cinit__(self, pid="self"):
        self.pagemap = self.maps = -1
        self.pagemap = checked(opened(f"/proc/{pid}/pagemap".encode()))
        self.maps = checked(opened(f"/proc/{pid}/maps".encode()))

    def __dealloc__(self):
        close(self.pagemap)
        close(self.maps)


cdef int opened(const char *path) noexcept nogil:
    cdef int fd = open(path, O_RDONLY | O_CLOEXEC)
    return fd if fd >= 0 else -errno


def sample(Files files, uint64_t start, size_t count, int64_t[::1] present, long every_ns):
    """Count the pages present, once for each element of `present`, some ns apart."""
    cdef timespec pause
    cdef Py_ssize_t i
    pause.tv_sec, pause.tv_nsec = 0, every_ns
    with nogil:
        for i in range(present.shape[0]):
            present[i] = core.count_pages(files.pagemap, files.maps, start, count,
                                          core.PAGE_PRESENT)
            nanosleep(&pause, NULL)


def mask(Files files, uint64_t start, uint8_t[::1] out, int question):
    """Fill a mask; return how many pages are in it."""
    cdef ssize_t got
    with nogil:
        got = core.fill_mask(files.pagemap, files.maps, start, out.shape[0], question, &out[0])
    return checked(got)


def count(Files files, uint64_t start, size_t count, int question, bint with_maps=True):
    """Count pages."""
    return checked(core.count_pages(files.pagemap, files.maps if with_maps else -1, start, count,
                                    question))


def entries(Files files, uint64_t start, uint64_t[::1] out):
    """Read entries."""
    return checked(core.read_entries(files.pagemap, start, out.shape[0], &out[0]))


def decode(const uint64_t[::1] entries, int question, uint8_t[::1] out):
    """Answer a question about entries; return for how many it is yes."""
    return checked(core.decode(&entries[0], entries.shape[0], question, &out[0]))


def regions(Files files, uint64_t start, uint64_t end, uint64_t anyof, int room):
    """Return the regions, at most `room` a call."""
    cdef core.region_t[64] found
    cdef ssize_t got, i
    answer = []
    while start < end:
        got = checked(core.scan_regions(files.pagemap, start, end, 0, anyof, 0, anyof,
                                        found, min(room, 64), &start))
        for i in range(got):
            answer.append((found[i].start, found[i].end, found[i].categories))
    return answer


def frames(int fd, const uint64_t[::1] numbers, uint64_t[::1] out):
    """Read what an open /proc/kpage* says of page frames."""
    cdef ssize_t got
    with nogil:
        got = core.read_frames(fd, &numbers[0], numbers.shape[0], &out[0])
    return checked(got)


# ---- from a signal handler ---------------------------------------------------------------------

cdef struct Watched:
    int pagemap
    uint64_t start
    size_t count
    ssize_t last
    int samples

cdef Watched watched


cdef void on_signal(int number) noexcept nogil:
    cdef int before = errno
    watched.last = core.count_pages(watched.pagemap, -1, watched.start, watched.count,
                                    core.PAGE_PRESENT)
    watched.samples += 1
    (&errno)[0] = before


def start_profile(Files files, uint64_t start, size_t count, int every_us):
    """Count the pages present of a span in a handler of SIGPROF from now on."""
    cdef sigaction_t action
    cdef itimerval timer
    watched.pagemap, watched.start, watched.count = files.pagemap, start, count
    watched.samples, watched.last = 0, -1
    memset(&action, 0, sizeof(action))
    action.sa_handler = on_signal
    action.sa_flags = SA_RESTART
    sigemptyset(&action.sa_mask)
    sigaction(SIGPROF, &action, NULL)
    timer.it_interval.tv_sec = timer.it_value.tv_sec = 0
    timer.it_interval.tv_usec = timer.it_value.tv_usec = every_us
    setitimer(ITIMER_PROF, &timer, NULL)


def stop_profile():
    """Stop; return how many samples were taken, and the last one."""
    cdef itimerval timer
    memset(&timer, 0, sizeof(timer))
    setitimer(ITIMER_PROF, &timer, NULL)
    return watched.samples, watched.last
