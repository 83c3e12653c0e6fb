"""/proc/PID/maps: read whole, parsed, or asked for one address."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_INCREF, PyObject
from libc.errno cimport EINTR, ENOENT, errno
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memset, strcmp, strlen, strncmp

from fastpagemap._kernel cimport abi

import os

from .failures import failure

cdef enum:
    # Bytes for the longest name of an anonymous mapping, [anon:...]; what does not fit is none.
    MAX_NAME_BYTES = 128

# as CPython has them: for building one object in place
cdef extern from "Python.h":
    ctypedef object (*allocfunc)(type, Py_ssize_t)
    void *PyType_GetSlot(type, int)
    int Py_tp_alloc
    void PyObject_GC_UnTrack(PyObject *)
    int PyTuple_SetItem(object, Py_ssize_t, PyObject *) except -1


cdef ssize_t read_some(int fd, char *text, size_t size, size_t capacity) noexcept nogil:
    """Read on, until the file ends (then 0) or little capacity is left; return what was read."""
    cdef size_t done = size
    cdef ssize_t got
    while capacity - done >= 4096:  # the most that the kernel's sequence files give at a time
        got = abi.read(fd, text + done, capacity - done)
        if got > 0:
            done += got
        elif got == 0:
            break
        elif errno != EINTR:
            return -errno
    return done - size


cdef inline uint64_t number(const char **at, int base) noexcept nogil:
    """Read an unsigned number and the one character behind it, but never the end of the line."""
    cdef uint64_t value = 0
    cdef int digit
    while at[0][0] != c'\n':
        digit = at[0][0]
        at[0] += 1
        if c'0' <= digit <= c'9':
            digit -= c'0'
        elif base == 16 and c'a' <= digit <= c'f':
            digit -= c'a' - 10
        else:
            break
        value = value * base + digit
    return value


def read_all(int fd, object path):
    """Return the whole of a file that can only be read from its beginning on."""
    cdef size_t size = 0, capacity = 0
    cdef ssize_t got = -1
    cdef char *text = NULL
    cdef char *grown
    try:
        while got:
            if capacity - size < 4096:
                capacity = max(4 * capacity, <size_t> 16384)
                grown = <char *> PyMem_Realloc(text, capacity)
                if grown is NULL:
                    raise MemoryError
                text = grown
            with nogil:
                got = read_some(fd, text, size, capacity)
            if got < 0:
                raise failure(-got, path)
            size += got
        # One copy: the limited API cannot shrink a bytes object.
        return PyBytes_FromStringAndSize(text, size)
    finally:
        PyMem_Free(text)


cdef list RIGHTS = [r + w + x + s for s in "ps" for x in "-x" for w in "-w" for r in "-r"]


cdef inline int put(object row, Py_ssize_t index, object value) except -1:
    Py_INCREF(value)
    return PyTuple_SetItem(row, index, <PyObject *> value)


def parse_maps(bytes text, type row_type, object fsdecode):
    """Parse /proc/PID/maps: a list of one `row_type`, a tuple, for each line's seven fields.

    Between two reads of the file the process may merge or grow a mapping, which then shows twice:
    what came later is kept, and what it overlaps is cut back to where it starts.
    """
    cdef const char *begin = text
    cdef const char *at = begin
    cdef const char *end = begin + len(text)
    cdef const char *line
    cdef uint64_t start, stop, offset, major, minor, inode, last = 0
    cdef uint64_t known_major = 0, known_minor = 0
    cdef object device = 0, last_stop = 0
    cdef allocfunc alloc = <allocfunc> PyType_GetSlot(row_type, Py_tp_alloc)
    cdef list rows = []
    # what repeats from line to line is made once
    cdef dict paths = {}
    while at < end:
        line = <const char *> memchr(at, c'\n', end - at)
        if line is NULL:
            raise ValueError(f"no whole line of /proc/PID/maps: {at[:end - at]!r}")
        start = number(&at, 16)
        stop = number(&at, 16)
        if line - at < 5:
            raise ValueError(f"no line of /proc/PID/maps: {begin[:line - begin]!r}")
        rights = RIGHTS[(at[0] == c'r') + 2 * (at[1] == c'w') + 4 * (at[2] == c'x')
                        + 8 * (at[3] == c's')]
        at += 5
        offset = number(&at, 16)
        major = number(&at, 16)
        minor = number(&at, 16)
        inode = number(&at, 10)
        if major != known_major or minor != known_minor:
            known_major, known_minor = major, minor
            device = os.makedev(major, minor)
        while at[0] == c' ':
            at += 1
        path = ""
        if at < line:
            raw = at[:line - at]
            path = paths.get(raw)
            if path is None:
                path = paths[raw] = fsdecode(raw)
        if start < last:
            cut_back(rows, start)
        # as tuple.__new__(row_type, ...) does, without a first tuple that is copied
        row = alloc(row_type, 7)
        if start != last:
            last_stop = start
        put(row, 0, last_stop)
        last_stop = stop
        put(row, 1, last_stop)
        put(row, 2, rights)
        put(row, 3, offset)
        put(row, 4, device)
        put(row, 5, inode)
        put(row, 6, path)
        # ints and a str make no cycle: the collector would only find that out, 20,000 times
        PyObject_GC_UnTrack(<PyObject *> row)
        rows.append(row)
        last = stop
        at = line + 1
    return rows


cdef int cut_back(list rows, uint64_t start) except -1:
    """Let no row reach beyond `start`."""
    while rows and rows[len(rows) - 1][1] > start:
        row = rows.pop()
        if row[0] < start:
            rows.append(row._replace(end=start))
    return 0


cdef int query_mapping(int maps, abi.procmap_query *query) noexcept nogil:
    query.size = sizeof(query[0])
    while abi.ioctl(maps, abi.PROCMAP_QUERY, query) < 0:
        if errno != EINTR:
            return -errno
    return 0


cdef bint is_anonymous(const abi.procmap_query *query, const char *name) noexcept nogil:
    """Return whether no file is behind a mapping, nor the kernel itself, as behind [vdso]."""
    if query.inode or query.dev_major or query.dev_minor:
        return False
    return (query.vma_name_size == 0 or strcmp(name, b"[heap]") == 0
            or strcmp(name, b"[stack]") == 0 or strncmp(name, b"[anon:", 6) == 0)


cdef bint is_mapped(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil:
    """Return whether a span is all mapped: to be asked afterwards, as it may have been unmapped.

    A scan for pages that are not present does not report what is not mapped, nor what is mapped
    and not walked: those who have not seen what is mapped have to ask for `anonymous`.
    """
    cdef abi.procmap_query query
    cdef char[MAX_NAME_BYTES] name
    while start < end:
        memset(&query, 0, sizeof(query))
        query.query_addr = start
        if anonymous:
            query.vma_name_addr = <uint64_t> &name[0]
            query.vma_name_size = MAX_NAME_BYTES
        if query_mapping(maps, &query) < 0 or (anonymous and not is_anonymous(&query, name)):
            return False
        start = query.vma_end
    return True


def query(int fd, object path, uint64_t start, uint64_t end, bint files, type row_type,
          object fsdecode):
    """Return the first mapping, or if `files` the first one of a file, that reaches into a span.

    `fd` is an open /proc/PID/maps. Returns None where there is none; raises OSError with ENOTTY
    where the kernel has no PROCMAP_QUERY (before Linux 6.11).
    """
    cdef abi.procmap_query query
    cdef char[4096] name
    cdef int problem
    memset(&query, 0, sizeof(query))
    query.query_flags = abi.PROCMAP_COVERING_OR_NEXT
    if files:
        query.query_flags |= abi.PROCMAP_FILE_BACKED
    query.query_addr = start
    with nogil:
        problem = query_mapping(fd, &query)
        if problem == 0 and query.vma_start < end:
            # once more for its name, which costs more than all the rest
            query.vma_name_addr = <uint64_t> &name[0]
            query.vma_name_size = sizeof(name)
            problem = query_mapping(fd, &query)
    if problem == -ENOENT:
        return None
    if problem < 0:
        raise failure(-problem, path)
    if query.vma_start >= end:
        return None
    return row_type(
        query.vma_start, query.vma_end, RIGHTS[query.vma_flags & 15], query.vma_offset,
        os.makedev(query.dev_major, query.dev_minor), query.inode,
        fsdecode(name[:strlen(name)] if query.vma_name_size else b""))
