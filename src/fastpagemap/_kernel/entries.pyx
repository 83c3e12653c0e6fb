"""Tell pages apart by their entries alone, and put them into a sink."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport (BATCH_PAGES, EXCLUSIVE, NEVER_SHARED, PRESENT, SHARED,
                                           ZERO, decode_states)
from fastpagemap._kernel.filling cimport put_pages, sink_t
from fastpagemap._kernel.reading cimport PAGE_SHIFT, read_entries
from fastpagemap._kernel.scan cimport REGIONS, scan_once
from fastpagemap._kernel.sinks cimport Sink

from .failures import walk_failure


cdef uint64_t PAGES_PER_HUGE_PAGE = (<uint64_t> 1 << PAGE_SHIFT) >> 3


cdef ssize_t read_batch(int fd, uint64_t at, size_t count, sink_t *sink, uint16_t present_state,
                        uint64_t *scratch, uint16_t *states) noexcept nogil:
    """Read at most BATCH_PAGES entries, into the sink if it wants them, and decode them."""
    cdef uint64_t *entries = scratch
    cdef ssize_t got
    if sink.entries is not NULL:
        entries = sink.entries + ((at - sink.origin) >> PAGE_SHIFT)
    got = read_entries(fd, at, entries, count)
    if got < 0:
        return got
    decode_states(entries, states, count)
    if present_state:
        add_to_present(states, count, present_state)
    return got


cdef ssize_t read_span(int fd, uint64_t at, uint64_t end, uint16_t present_state,
                       sink_t *sink) noexcept nogil:
    """Put the states of a span's pages into the sink, by their entries; return how many."""
    cdef uint64_t[BATCH_PAGES] scratch
    cdef uint16_t[BATCH_PAGES] states
    cdef const uint64_t *entries = scratch
    cdef size_t count, total = (end - at) >> PAGE_SHIFT
    cdef ssize_t got
    if (sink.entries is not NULL and not sink.answers and sink.runs is NULL
            and sink.frames is NULL):
        return read_entries(fd, at, sink.entries + ((at - sink.origin) >> PAGE_SHIFT), total)
    cdef bint check = asks_shared(sink) and not present_state & (SHARED | NEVER_SHARED | ZERO)
    while at < end:
        count = min(<size_t> BATCH_PAGES, (end - at) >> PAGE_SHIFT)
        got = read_batch(fd, at, count, sink, present_state, scratch, states)
        if got < 0:
            return got
        if check:
            clear_huge_zero(fd, at, states, count)
        if sink.entries is not NULL:
            entries = sink.entries + ((at - sink.origin) >> PAGE_SHIFT)
        if put_pages(sink, at, entries, states, count) < 0:
            return -ENOMEM
        at += <uint64_t> count << PAGE_SHIFT
    return total


cdef bint asks_shared(const sink_t *sink) noexcept nogil:
    """Return whether a sink makes a difference between pages that are SHARED and others."""
    cdef int i
    for i in range(sink.answers):
        if sink.asked[i].bits & SHARED:
            return True
    return sink.runs is not NULL or sink.states is not NULL


cdef inline bint is_shared(uint16_t state) noexcept nogil:
    return state & (PRESENT | SHARED | EXCLUSIVE) == PRESENT | SHARED


cdef void clear_huge_zero(int fd, uint64_t at, uint16_t *states, size_t count) noexcept nogil:
    """Clear SHARED where the huge zero page is mapped, which has it in entries before Linux 7.3.

    Before Linux 6.7 nothing tells.
    """
    cdef abi.page_region region
    cdef abi.scan_arg arg
    cdef uint64_t number = at >> PAGE_SHIFT
    cdef size_t first = 0, last, page
    while first < count:
        last = min(count, first + PAGES_PER_HUGE_PAGE - number % PAGES_PER_HUGE_PAGE)
        if is_shared(states[first]) and is_shared(states[last - 1]):
            memset(&arg, 0, sizeof(arg))
            arg.start = number << PAGE_SHIFT
            arg.end = (number + 1) << PAGE_SHIFT
            arg.category_mask = arg.return_mask = abi.PAGE_IS_HUGE | abi.PAGE_IS_PFNZERO
            if scan_once(fd, &arg, &region, 1) > 0:
                for page in range(first, last):
                    states[page] &= ~<uint16_t> SHARED
        number += last - first
        first = last


cdef ssize_t mark_zero(int fd, uint64_t at, uint16_t *states, size_t count) noexcept nogil:
    """Add ZERO where a page is the zero page. A shared or exclusive page never is."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef size_t first = 0, last = count, page
    cdef ssize_t found
    cdef int i, shift = PAGE_SHIFT
    while first < count and states[first] & (PRESENT | SHARED | EXCLUSIVE) != PRESENT:
        first += 1
    while last > first and states[last - 1] & (PRESENT | SHARED | EXCLUSIVE) != PRESENT:
        last -= 1
    memset(&arg, 0, sizeof(arg))
    arg.start, arg.end = at + (first << shift), at + (last << shift)
    arg.category_anyof_mask = arg.return_mask = abi.PAGE_IS_PFNZERO
    while arg.start < arg.end:
        found = scan_once(fd, &arg, regions, REGIONS)
        if found < 0:
            return found
        for i in range(found):
            for page in range((regions[i].start - at) >> shift, (regions[i].end - at) >> shift):
                if states[page] & PRESENT:
                    states[page] |= ZERO
    return 0


# ---- for Python --------------------------------------------------------------------------------

def read_small(int fd, object path, uint64_t start, uint64_t end, Sink sink):
    """Put a small span into a sink by its entries alone, whatever is mapped there."""
    cdef ssize_t got
    with nogil:
        got = read_span(fd, start, end, 0, &sink.sink)
    if got < 0:
        raise walk_failure(-got, path)
