"""/proc/PID/maps as ranges of addresses: no Python object for each mapping."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport ENOENT
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.procmaps cimport is_anonymous_name, line_end, number, query_mapping
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.walk cimport CLIPPED, SMALL_MAPPING_PAGES

cdef enum:
    FIRST_RANGES = 256
    # Of processes with more mappings, most of them anonymous, the text costs less.
    MAX_QUERIES = 256
    # A scan over so many pages between two mappings costs less than a second scan.
    MAX_SCANNED_GAP_PAGES = 512

# Addresses from here on are the kernel's: nothing there has an entry.
cdef uint64_t KERNEL_HALF = <uint64_t> 1 << 63

ctypedef struct range_t:
    uint64_t start
    uint64_t end
    bint anonymous
    bint diskless


cdef class Ranges:
    """The mappings of a process as ranges of addresses."""

    cdef range_t *ranges
    cdef size_t count, capacity

    def __dealloc__(self):
        PyMem_Free(self.ranges)

    def __len__(self):
        return self.count

    @property
    def size(self):
        """How many bytes they span."""
        cdef uint64_t total = 0
        cdef size_t i
        for i in range(self.count):
            total += self.ranges[i].end - self.ranges[i].start
        return total

    @property
    def diskless(self):
        """Start and end of each whose file is on no disk: shared memory, hugetlbfs, overlayfs."""
        cdef size_t i
        return [(self.ranges[i].start, self.ranges[i].end)
                for i in range(self.count) if self.ranges[i].diskless]

    def feed(self, bytes text):
        """Parse whole lines, each with its newline."""
        cdef const char *at = text
        cdef const char *end = at + len(text)
        cdef const char *newline
        while at < end:
            newline = line_end(at, end)
            self.parse_line(at, newline)
            at = newline + 1

    cdef int parse_line(self, const char *begin, const char *end) except -1:
        cdef const char *at = begin
        cdef uint64_t start = number(&at, 16), stop = number(&at, 16), major, minor, inode
        if end - at < 5:
            raise ValueError(f"no line of /proc/PID/maps: {begin[:end - begin]!r}")
        at += 5
        number(&at, 16)
        major = number(&at, 16)
        minor = number(&at, 16)
        inode = number(&at, 10)
        while at[0] == c' ':
            at += 1
        return self.append(start, stop, not (major or minor or inode) and is_anonymous_name(at),
                           minor and not major)

    def query(self, int maps):
        """Look all mappings up by PROCMAP_QUERY (Linux 6.11), which costs half of a short text.

        Returns False if the text has to be read: there are many mappings, or this cannot be asked.
        [vsyscall], in the kernel's half, is never found.
        """
        cdef abi.procmap_query query
        cdef uint64_t at = 0
        cdef int problem
        for _ in range(MAX_QUERIES):
            memset(&query, 0, sizeof(query))
            query.query_flags = abi.PROCMAP_COVERING_OR_NEXT
            query.query_addr = at
            with nogil:  # the process may keep its lock
                problem = query_mapping(maps, &query)
            if problem == -ENOENT:
                return self.count > 0
            if problem < 0:
                break
            self.append(query.vma_start, query.vma_end,
                        not (query.dev_major or query.dev_minor or query.inode),
                        query.dev_minor and not query.dev_major)
            at = query.vma_end
        self.count = 0
        return False

    cdef int append(self, uint64_t start, uint64_t end, bint anonymous,
                    bint diskless) except -1:
        """Append a mapping; cut or remove those that the process has grown it over meanwhile."""
        cdef size_t capacity
        cdef void *grown
        while self.count and self.ranges[self.count - 1].end > start:
            self.ranges[self.count - 1].end = start
            if self.ranges[self.count - 1].start < start:
                break
            self.count -= 1
        if self.count == self.capacity:
            capacity = max(2 * self.capacity, <size_t> FIRST_RANGES)
            grown = PyMem_Realloc(self.ranges, capacity * sizeof(range_t))
            if grown is NULL:
                raise MemoryError
            self.ranges = <range_t *> grown
            self.capacity = capacity
        self.ranges[self.count].start = start
        self.ranges[self.count].end = end
        self.ranges[self.count].anonymous = anonymous
        self.ranges[self.count].diskless = diskless
        self.count += 1
        return 0

    def segments(self, uint8_t anonymous, bint together, bint diskless=True):
        """Return the ranges as segments of a walk: starts, ends and kinds, as bytes.

        Parameters
        ----------
        anonymous : int
            The kind of large ranges of anonymous memory; all others are of kind 0.
        together : bool
            Whether neighbours of kind 0 may be one segment, with the gap between them: if all
            is scanned, and counted together.
        diskless : bool
            Whether those in `diskless` are among them.
        """
        cdef size_t i, count = 0
        cdef bint beside = False  # whether no range was left out since the last segment
        cdef range_t *each
        cdef uint8_t kind
        starts = PyBytes_FromStringAndSize(NULL, self.count * sizeof(uint64_t))
        ends = PyBytes_FromStringAndSize(NULL, self.count * sizeof(uint64_t))
        kinds = PyBytes_FromStringAndSize(NULL, self.count)
        cdef uint64_t *start = <uint64_t *> <char *> starts
        cdef uint64_t *end = <uint64_t *> <char *> ends
        cdef uint8_t *own = <uint8_t *> <char *> kinds
        for i in range(self.count):
            each = &self.ranges[i]
            if each.start >= KERNEL_HALF:
                continue
            if each.diskless and not diskless:
                beside = False
                continue
            kind = 0
            if each.anonymous and (each.end - each.start) >> PAGE_SHIFT >= SMALL_MAPPING_PAGES:
                kind = anonymous
            elif together:
                # Not small, whatever its size: it is to be scanned.
                kind = CLIPPED
            if (kind == CLIPPED and beside and own[count - 1] == CLIPPED
                    and (each.start - end[count - 1]) >> PAGE_SHIFT <= MAX_SCANNED_GAP_PAGES):
                end[count - 1] = each.end
                continue
            start[count], end[count], own[count] = each.start, each.end, kind
            count += 1
            beside = True
        return starts[:8 * count], ends[:8 * count], kinds[:count]
