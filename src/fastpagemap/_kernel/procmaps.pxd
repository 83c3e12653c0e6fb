"""Ask /proc/PID/maps about one mapping, without the GIL; and the words of its text."""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, strncmp

from fastpagemap._kernel cimport abi

# PROCMAP_QUERY (Linux 6.11): 0, or -errno, -ENOENT where there is no such mapping.
cdef int query_mapping(int maps, abi.procmap_query *query) noexcept nogil

# Whether all of a span is mapped now; with `anonymous`, whether by anonymous memory alone.
cdef bint is_mapped(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil


cdef inline const char *line_end(const char *at, const char *end) except NULL:
    """Return where the newline of a line is."""
    cdef const char *newline = <const char *> memchr(at, c'\n', end - at)
    if newline is NULL:
        raise ValueError(f"no whole line of /proc/PID/maps: {at[:end - at]!r}")
    return newline


cdef inline uint64_t number(const char **at, int base) noexcept nogil:
    """Read an unsigned number and the character behind it, unless that ends the line."""
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


cdef inline bint is_anonymous_name(const char *name) noexcept nogil:
    """Return whether anonymous memory may have such a name, if it has no file."""
    return (name[0] == 0 or name[0] == c'\n' or strncmp(name, b"[heap]", 6) == 0
            or strncmp(name, b"[stack]", 7) == 0 or strncmp(name, b"[anon:", 6) == 0)
