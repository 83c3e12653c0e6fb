"""/proc/PID/pagemap read without the GIL, from the kernel into the caller's memory."""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, ESRCH, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.unistd cimport close

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport BATCH, QUESTIONS, Sinks, decode_batch, decoded_t, page_t

from .decoding import QUESTION_NUMBERS
from .failures import failure

PAGE_SIZE = abi.sysconf(abi._SC_PAGESIZE)

cdef enum:
    # Bytes a pread: the kernel gains nothing from more, and drops its lock in between anyway.
    CHUNK = 256 * 1024
    # Pages between two looks for a pending signal: 50 ms of touched memory.
    SLAB = 1 << 21

PAGE_SHIFT = PAGE_SIZE.bit_length() - 1


cdef ssize_t read_entries(int fd, uint64_t start, uint64_t *entries, size_t count) noexcept nogil:
    """Read one entry a page. Pages past the end of the address space read 0."""
    cdef char *buffer = <char *> entries
    cdef size_t size = count * sizeof(uint64_t), done = 0
    cdef uint64_t offset = (start >> PAGE_SHIFT) * sizeof(uint64_t), first
    cdef ssize_t got
    while done < size:
        got = abi.pread(fd, buffer + done, min(size - done, <size_t> CHUNK), offset + done)
        if got > 0:
            done += got
        elif got == 0:
            break
        elif errno != EINTR:
            return -errno
    if done == size:
        return count
    # Nothing more to read: either the address space ends here, or the process is gone. The page
    # at address 0 is inside every address space, mapped or not.
    while True:
        got = abi.pread(fd, &first, sizeof(first), 0)
        if got > 0:
            memset(buffer + done, 0, size - done)
            return count
        if got == 0:
            return -ESRCH
        if errno != EINTR:
            return -errno


cdef bint sees_soft_dirty() noexcept nogil:
    """Find out whether this kernel keeps soft-dirty bits; False where that cannot be tried.

    A page of a new mapping that was just written has the bit where it exists. Nothing is cleared:
    that would be global to the process, and disturb whoever tracks it.
    """
    cdef uint64_t entry = 0
    cdef size_t size = <size_t> 1 << PAGE_SHIFT
    cdef void *page
    cdef int fd = open(b"/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return False
    page = abi.mmap(NULL, size, abi.PROT_READ | abi.PROT_WRITE,
                       abi.MAP_PRIVATE | abi.MAP_ANONYMOUS, -1, 0)
    if page != abi.MAP_FAILED:
        (<char *> page)[0] = 1
        if read_entries(fd, <uint64_t> page, &entry, 1) < 0:
            entry = 0
        abi.munmap(page, size)
    close(fd)
    return entry >> abi.PM_SOFT_DIRTY & 1


cdef ssize_t read_decoded(int fd, uint64_t start, size_t count,
                          const decoded_t *into, size_t at) noexcept nogil:
    """Decode while reading: each batch of entries goes everywhere it is wanted, and is dropped."""
    cdef uint64_t[BATCH] scratch
    cdef uint64_t *entries
    cdef size_t done = 0, batch
    cdef ssize_t got
    if into.entries is not NULL and not into.answers and into.pages is NULL:
        return read_entries(fd, start, into.entries + at, count)
    while done < count:
        batch = min(count - done, <size_t> BATCH)
        entries = &scratch[0] if into.entries is NULL else into.entries + at + done
        got = read_entries(fd, start + (done << PAGE_SHIFT), entries, batch)
        if got < 0:
            return got
        decode_batch(entries, batch, at + done, into)
        done += batch
    return count


cdef ssize_t count_spans(int fd, const uint64_t *starts, const uint64_t *ends, size_t spans,
                         decoded_t *into, size_t *span, uint64_t *at) noexcept nogil:
    """Count some of the spans, each into its own place, from where `span` and `at` stand.

    Comes back after a slab's worth of pages with both moved on, so that the caller can look for
    signals. Each span costs at least one read, whatever its length: that counts as well.
    """
    cdef ssize_t budget = SLAB, pages, got
    cdef int question
    while span[0] < spans and budget > 0:
        pages = (ends[span[0]] - at[0]) >> PAGE_SHIFT
        pages = min(pages, budget)
        got = read_decoded(fd, at[0], pages, into, 0)
        if got < 0:
            return got
        budget -= pages + 64
        at[0] += <uint64_t> pages << PAGE_SHIFT
        if at[0] == ends[span[0]]:
            span[0] += 1
            at[0] = starts[span[0]] if span[0] < spans else 0
            for question in range(<int> QUESTIONS):
                if into.counts[question] is not NULL:
                    into.counts[question] += 1
    return 0


# ---- for Python --------------------------------------------------------------------------------

def soft_dirty():
    """Return whether this kernel keeps soft-dirty bits."""
    return sees_soft_dirty()


def read(int fd, object path, uint64_t start, uint64_t[::1] entries):
    """Read one entry a page from `start` on, as many as `entries` holds."""
    cdef size_t count = entries.shape[0], done = 0, slab
    cdef ssize_t got
    while done < count:
        slab = min(count - done, <size_t> SLAB)
        with nogil:
            got = read_entries(fd, start + (done << PAGE_SHIFT), &entries[done], slab)
        if got < 0:
            raise failure(-got, path)
        done += slab
        PyErr_CheckSignals()


def read_masks(int fd, object path, uint64_t start, size_t count, dict masks):
    """Fill `masks`, arrays of `count` bytes by the question's name, from one pass."""
    cdef Sinks sinks = Sinks(masks, count)
    cdef size_t done = 0, slab
    cdef ssize_t got
    while done < count:
        slab = min(count - done, <size_t> SLAB)
        with nogil:
            got = read_decoded(fd, start + (done << PAGE_SHIFT), slab, &sinks.into, done)
        if got < 0:
            raise failure(-got, path)
        done += slab
        PyErr_CheckSignals()


def read_pages(int fd, object path, uint64_t start, page_t[::1] pages):
    """Read and decode a page of every field, as many as `pages` holds."""
    cdef decoded_t into
    cdef size_t count = pages.shape[0], done = 0, slab
    cdef ssize_t got
    memset(&into, 0, sizeof(into))
    while done < count:
        slab = min(count - done, <size_t> SLAB)
        into.pages = &pages[0]
        with nogil:
            got = read_decoded(fd, start + (done << PAGE_SHIFT), slab, &into, done)
        if got < 0:
            raise failure(-got, path)
        done += slab
        PyErr_CheckSignals()


def read_counts(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
                tuple questions, uint64_t[:, ::1] counts):
    """Count pages: `counts[i, j]` grows by how often question i is answered yes in span j."""
    cdef decoded_t into
    cdef size_t spans = starts.shape[0], span = 0
    cdef uint64_t at
    cdef ssize_t got
    cdef int row
    if ends.shape[0] != starts.shape[0] or counts.shape[1] != starts.shape[0]:
        raise ValueError("starts, ends and the rows of counts differ in length")
    if counts.shape[0] != len(questions):
        raise ValueError(f"{counts.shape[0]} rows of counts for {len(questions)} questions")
    if not spans or not questions:
        return
    memset(&into, 0, sizeof(into))
    into.answers = True
    for row, name in enumerate(questions):
        into.counts[<int> QUESTION_NUMBERS[name]] = &counts[row, 0]
    at = starts[0]
    while span < spans:
        with nogil:
            got = count_spans(fd, &starts[0], &ends[0], spans, &into, &span, &at)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
