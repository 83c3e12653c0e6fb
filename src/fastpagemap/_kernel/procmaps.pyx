"""/proc/PID/maps: parsed, or queried for one address."""

from cpython.ref cimport PyObject
from libc.errno cimport EINTR, ENOENT, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset, strlen

from fastpagemap._kernel cimport abi

import os

from .failures import failure

cdef enum:
    # The longest name of an anonymous mapping, [anon:...], fits.
    MAX_NAME_BYTES = 128
    # The paths of one process: about half a million of usual ones.
    MAX_PATH_BYTES = 1 << 26

cdef extern from "Python.h":
    ctypedef object (*newfunc)(type, object, PyObject *)
    void *PyType_GetSlot(type, int)
    int Py_tp_new
    void PyObject_GC_UnTrack(PyObject *)


# The four characters of maps, by the flags of PROCMAP_QUERY: read 1, write 2, execute 4, shared 8.
cdef list RIGHTS = [r + w + x + s for s in "ps" for x in "-x" for w in "-w" for r in "-r"]
# tuple.__new__, without Python's way to it. Filled in place, a tuple would have no hash since 3.14.
cdef newfunc new_tuple = <newfunc> PyType_GetSlot(tuple, Py_tp_new)


cdef class Parser:
    """Parses /proc/PID/maps into `rows`, of `row_type`, a tuple of a line's seven fields.

    If the process merges or grows a mapping between two reads of the file, the text shows it twice.
    The later line is kept, and the earlier one is cut back to where the later one starts.
    """

    cdef readonly list rows
    cdef type row_type
    cdef object fsdecode
    # One object for each path: many lines have the same one.
    cdef dict paths
    cdef size_t path_bytes
    cdef uint64_t last, major, minor
    cdef object device, last_stop

    def __cinit__(self, type row_type, object fsdecode):
        self.row_type = row_type
        self.fsdecode = fsdecode
        self.rows = []
        self.paths = {}
        self.device = self.last_stop = 0

    def feed(self, bytes text):
        """Parse whole lines, each with its newline."""
        cdef const char *begin = text
        cdef const char *at = begin
        cdef const char *end = begin + len(text)
        cdef const char *newline
        while at < end:
            newline = line_end(at, end)
            self.parse_line(at, newline)
            at = newline + 1

    cdef int parse_line(self, const char *at, const char *end) except -1:
        cdef const char *begin = at
        cdef uint64_t start = number(&at, 16), stop = number(&at, 16)
        cdef uint64_t offset, major, minor, inode
        if end - at < 5:
            raise ValueError(f"no line of /proc/PID/maps: {begin[:end - begin]!r}")
        rights = RIGHTS[(at[0] == c'r') + 2 * (at[1] == c'w') + 4 * (at[2] == c'x')
                        + 8 * (at[3] == c's')]
        at += 5
        offset = number(&at, 16)
        major = number(&at, 16)
        minor = number(&at, 16)
        inode = number(&at, 10)
        if major != self.major or minor != self.minor:
            self.major, self.minor = major, minor
            self.device = os.makedev(major, minor)
        while at[0] == c' ':
            at += 1
        path = self.path_of(at, end - at) if at < end else ""
        if start < self.last:
            cut_back(self.rows, start)
        first = self.last_stop if start == self.last else start
        self.last_stop = stop
        fields = (first, self.last_stop, rights, offset, self.device, inode, path)
        row = new_tuple(self.row_type, (fields,), NULL)
        # Ints and a str make no cycle: the collector need not look at each of 20,000 rows.
        PyObject_GC_UnTrack(<PyObject *> row)
        self.rows.append(row)
        self.last = stop
        return 0

    cdef object path_of(self, const char *at, size_t size):
        """Return a path as str; raise MemoryError if those of all rows come to too much."""
        raw = at[:size]
        path = self.paths.get(raw)
        if path is None:
            self.path_bytes += size
            if self.path_bytes > MAX_PATH_BYTES:
                raise MemoryError(f"the paths in /proc/PID/maps come to more than "
                                  f"{MAX_PATH_BYTES >> 20} MiB")
            path = self.paths[raw] = self.fsdecode(raw)
        return path


def parse_maps(bytes text, type row_type, object fsdecode):
    """Parse all lines of /proc/PID/maps; return the rows."""
    parser = Parser(row_type, fsdecode)
    parser.feed(text)
    return parser.rows


cpdef int cut_back(list rows, uint64_t start) except -1:
    """Cut or remove the last rows so that none reaches beyond `start`."""
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
    """Return whether a mapping has no file, and is none of the kernel's own, such as [vdso]."""
    if query.inode or query.dev_major or query.dev_minor:
        return False
    return query.vma_name_size == 0 or is_anonymous_name(name)


cdef bint is_mapped(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil:
    """Return whether all of a span is mapped; to be called after a scan, not before.

    A scan for pages that are not present reports neither unmapped pages nor pages of mappings that
    the kernel does not walk. A caller that does not know the mappings must ask for `anonymous`.
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


cdef bint each_anonymous(int maps, uint64_t start, uint64_t end, uint64_t rights) noexcept nogil:
    cdef abi.procmap_query query
    while start < end:
        memset(&query, 0, sizeof(query))
        query.query_addr = start
        if query_mapping(maps, &query) < 0:
            return False
        if query.inode or query.dev_major or query.dev_minor or not query.vma_flags & rights:
            return False
        start = query.vma_end
    return True


def is_anonymous_with(int maps, uint64_t start, uint64_t end, str rights):
    """Return whether a span is known to be all anonymous memory with one of the rights, as "rwx".

    Never before Linux 6.11, which has no PROCMAP_QUERY.
    """
    cdef bint answer
    cdef uint64_t wanted = ("r" in rights) + 2 * ("w" in rights) + 4 * ("x" in rights)
    with nogil:
        answer = each_anonymous(maps, start, end, wanted)
    return answer


def query(int fd, object path, uint64_t start, uint64_t end, bint files, type row_type,
          object fsdecode):
    """Return the first mapping that overlaps a span, or with `files` the first one of a file.

    `fd` is an open /proc/PID/maps. Returns None if there is none. Raises OSError with ENOTTY
    before Linux 6.11, which has no PROCMAP_QUERY.
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
            # Only now for its name, which costs more than the rest.
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
