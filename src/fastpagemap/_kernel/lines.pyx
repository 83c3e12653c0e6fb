"""The text of a file in /proc, a chunk of whole lines at a time.

The process that such a file is about chooses what it says. Directories may be nested until a path
is a MiB long, and each of 65,530 mappings may show it. So longer lines than a usable path makes
have a budget, only a chunk is held at a time, and signals are handled between reads.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EINTR, errno
from libc.string cimport memmove

from fastpagemap._kernel cimport abi

from .failures import failure

cdef enum:
    # The kernel's sequence files give at most so many bytes a read, but for longer lines.
    SEQ_READ_BYTES = 4096
    CHUNK_BYTES = 1 << 16
    # No path that can be opened makes a longer line, not with every byte of it escaped.
    LONG_LINE_BYTES = 1 << 15

# How much of longer lines is read of one file: about a second of the kernel's time.
MAX_LONG_BYTES = 1 << 25


cdef ssize_t read_some(int fd, char *text, size_t capacity, bint *ended) noexcept nogil:
    """Read until the file ends or SEQ_READ_BYTES no longer fit; return how many bytes."""
    cdef size_t done = 0
    cdef ssize_t got
    while capacity - done >= SEQ_READ_BYTES:
        got = abi.read(fd, text + done, capacity - done)
        if got > 0:
            done += got
        elif got == 0:
            ended[0] = True
            break
        elif errno != EINTR:
            return -errno
        elif done == 0:
            return -EINTR
        else:
            break
    return done


cdef ssize_t last_newline(const char *text, size_t start, size_t end) noexcept nogil:
    """Return the place of the last newline from `start` on, or -1."""
    while end > start:
        end -= 1
        if text[end] == c'\n':
            return end
    return -1


cdef class Lines:
    """Iterates over an open file: bytes of whole lines, the last one as it ends.

    The file is a Descriptor, or its number, which is not closed.

    Raises MemoryError if lines of more than 32 KiB come to more than `budget` bytes.
    """

    cdef int fd
    # What owns the descriptor, if this object has to keep it.
    cdef object file
    cdef object path
    cdef char *text
    cdef size_t size, capacity, taken, long_bytes, budget
    cdef bint ended

    def __cinit__(self, object file, object path, size_t budget=MAX_LONG_BYTES):
        self.file = file
        self.fd = file if isinstance(file, int) else file.fd
        self.path = path
        self.budget = budget

    def __dealloc__(self):
        PyMem_Free(self.text)

    def __iter__(self):
        return self

    def __next__(self):
        cdef ssize_t newline = -1
        self.drop()
        while newline < 0 and not self.ended:
            newline = self.fill()
        self.taken = self.size if self.ended else newline + 1
        self.measure()
        if self.taken == 0:
            raise StopIteration
        return PyBytes_FromStringAndSize(self.text, self.taken)

    cdef void drop(self) noexcept:
        """Forget the lines that were given out."""
        if self.taken:
            memmove(self.text, self.text + self.taken, self.size - self.taken)
            self.size -= self.taken
            self.taken = 0

    cdef ssize_t fill(self) except -2:
        """Read more, as much as fits; return the place of the last newline of that, or -1."""
        cdef size_t before = self.size
        cdef ssize_t got
        if self.capacity - self.size < SEQ_READ_BYTES:
            self.grow()
        with nogil:
            got = read_some(self.fd, self.text + self.size, self.capacity - self.size, &self.ended)
        PyErr_CheckSignals()
        if got == -EINTR:
            return -1
        if got < 0:
            raise failure(-got, self.path)
        self.size += got
        return last_newline(self.text, before, self.size)

    cdef int grow(self) except -1:
        cdef size_t capacity = max(2 * self.capacity, <size_t> CHUNK_BYTES)
        cdef char *grown
        if self.long_bytes + self.size > self.budget:
            raise self.too_long()
        grown = <char *> PyMem_Realloc(self.text, capacity)
        if grown is NULL:
            raise MemoryError
        self.text = grown
        self.capacity = capacity
        return 0

    cdef int measure(self) except -1:
        """Add up the long lines among those to be given out, and see whether that is too much."""
        cdef size_t at = 0, end
        cdef ssize_t newline
        while at + LONG_LINE_BYTES < self.taken:
            newline = last_newline(self.text, at, at + LONG_LINE_BYTES)
            if newline < 0:
                end = at + LONG_LINE_BYTES
                while end < self.taken and self.text[end] != c'\n':
                    end += 1
                self.long_bytes += end - at
                newline = end
            at = newline + 1
        if self.long_bytes > self.budget:
            raise self.too_long()
        return 0

    cdef object too_long(self):
        return MemoryError(
            f"{self.path}: more than {self.budget >> 20} MiB of lines that are longer than any "
            "path that can be opened")


def read_all(int fd, object path, most=None):
    """Return the content of a file that is at its beginning, or its first `most` bytes.

    Raises MemoryError if all of it is wanted and comes to more than 32 MiB.
    """
    cdef size_t budget = MAX_LONG_BYTES if most is None else most
    cdef Lines file = Lines(fd, path, budget)
    while not file.ended and (most is None or file.size < budget):
        file.fill()
    return PyBytes_FromStringAndSize(file.text, file.size if most is None
                                     else min(file.size, budget))
