"""Walk over segments of mapped memory, and put their pages into a sink."""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport BATCH_PAGES, ZERO, decode_states
from fastpagemap._kernel.entries cimport add_to_present, mark_zero, read_span
from fastpagemap._kernel.filling cimport put_pages, sink_t
from fastpagemap._kernel.plan cimport Plan, cursor_t, plan_t
from fastpagemap._kernel.reading cimport PAGE_SHIFT, check_alive, read_entries
from fastpagemap._kernel.scan cimport REGIONS, TIME_SLICE_NS, now, scan_once
from fastpagemap._kernel.sinks cimport Sink
from fastpagemap._kernel.stretch cimport advance, prepare, put_scanned, set_cursor

from .failures import walk_failure

cdef enum:
    # Reading the entries of so many pages between two mappings costs less than another read.
    MAX_MAPPING_GAP_PAGES = 128
    # More than there are backings.
    MAX_PLANS = 16

# Segments of address space, sorted and disjoint, and how far the walk has come.
ctypedef struct segments_t:
    const uint64_t *starts
    const uint64_t *ends
    const uint8_t *kinds                # the number of each one's plan, perhaps with CLIPPED
    const int64_t *rows                 # the column of `counts` for each one
    uint64_t *counts                    # a row of `row_length` for each question; or NULL
    size_t row_length
    size_t count
    size_t done
    const plan_t *plans[MAX_PLANS]
    bint under_way                      # whether the cursor stands within segment `done`


cdef inline size_t pages_of(const segments_t *segments, size_t number) noexcept nogil:
    return (segments.ends[number] - segments.starts[number]) >> PAGE_SHIFT


cdef inline const plan_t *plan_of(const segments_t *segments, size_t number) noexcept nogil:
    return segments.plans[segments.kinds[number] & <uint8_t> ~CLIPPED]


cdef inline bint is_small(const segments_t *segments, size_t number) noexcept nogil:
    """Return whether a segment is a whole mapping, too small for a huge page."""
    return pages_of(segments, number) < SMALL_MAPPING_PAGES and not segments.kinds[number] & CLIPPED


cdef void enter(const segments_t *segments, sink_t *sink, size_t number) noexcept nogil:
    """Let the sink count for a segment, and begin no run before it."""
    cdef int i
    sink.barrier = segments.starts[number]
    if segments.counts is not NULL:
        for i in range(sink.answers):
            sink.asked[i].count = (
                segments.counts + i * segments.row_length + segments.rows[number])
        if sink.frames is not NULL:
            sink.frames.kept = (segments.counts + sink.answers * segments.row_length
                                + segments.rows[number])


cdef ssize_t read_cluster(int fd, segments_t *segments, size_t first, size_t last,
                          sink_t *sink) noexcept nogil:
    """Read small segments together with the gaps between them, then put each by itself."""
    cdef uint64_t[BATCH_PAGES] entries
    cdef uint16_t[BATCH_PAGES] states
    cdef uint64_t at = segments.starts[first]
    cdef const plan_t *plan
    cdef uint16_t *own
    cdef size_t number, pages
    cdef ssize_t got
    if sink.entries is not NULL:
        # The gaps are in no mapping: their entries are 0.
        return read_span(fd, at, segments.ends[last], 0, sink)
    got = read_entries(fd, at, entries, (segments.ends[last] - at) >> PAGE_SHIFT)
    if got < 0:
        return got
    decode_states(entries, states, got)
    for number in range(first, last + 1):
        plan = plan_of(segments, number)
        pages = pages_of(segments, number)
        own = states + ((segments.starts[number] - at) >> PAGE_SHIFT)
        if plan.present_state:
            add_to_present(own, pages, plan.present_state)
        if plan.scanned & ZERO:
            got = mark_zero(fd, segments.starts[number], own, pages)
            if got < 0:
                return got
        enter(segments, sink, number)
        if put_pages(sink, segments.starts[number],
                     entries + ((segments.starts[number] - at) >> PAGE_SHIFT), own, pages) < 0:
            return -ENOMEM
    return 0


cdef ssize_t walk_some(int fd, int maps, segments_t *segments, cursor_t *cursor,
                       sink_t *sink) noexcept nogil:
    """Walk over segments for TIME_SLICE_NS, or to their end."""
    cdef uint64_t began = now()
    cdef size_t first, last
    cdef ssize_t got
    while segments.done < segments.count and now() - began < TIME_SLICE_NS:
        first = last = segments.done
        if not segments.under_way and is_small(segments, first):
            while (last + 1 < segments.count and is_small(segments, last + 1)
                    and segments.starts[last + 1] - segments.ends[last]
                    <= <uint64_t> MAX_MAPPING_GAP_PAGES << PAGE_SHIFT
                    and segments.ends[last + 1] - segments.starts[first]
                    <= <uint64_t> BATCH_PAGES << PAGE_SHIFT):
                last += 1
            got = read_cluster(fd, segments, first, last, sink)
            segments.done = last + 1
        else:
            if not segments.under_way:
                enter(segments, sink, first)
                set_cursor(cursor, plan_of(segments, first), maps, segments.starts[first],
                           segments.ends[first])
                segments.under_way = True
            got = advance(fd, cursor, plan_of(segments, first), sink)
            if cursor.at == cursor.end:
                segments.done += 1
                segments.under_way = False
        if got < 0:
            return got
    return 0


cdef ssize_t scan_across(int fd, cursor_t *cursor, const plan_t *plan,
                         sink_t *sink) noexcept nogil:
    """Scan all that is left at once, as there is little of it, for TIME_SLICE_NS or to its end."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t began = now()
    cdef ssize_t got
    while cursor.at < cursor.end and now() - began < TIME_SLICE_NS:
        prepare(&arg, cursor, plan, (cursor.end - cursor.at) >> PAGE_SHIFT)
        got = scan_once(fd, &arg, regions, cursor.pace.regions)
        if got == cursor.pace.regions:
            cursor.pace.regions = REGIONS
        if got >= 0:
            got = put_scanned(fd, cursor, plan, sink, regions, got, arg.start)
        if got < 0:
            return got
        cursor.at = arg.start
    return 0


# ---- for Python --------------------------------------------------------------------------------

CLIPPED_FLAG = CLIPPED
SMALL_PAGES = SMALL_MAPPING_PAGES


def walk(int fd, int maps, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
         const uint8_t[::1] kinds, tuple plans, Sink sink,
         const int64_t[::1] rows=None, uint64_t[:, ::1] counts=None):
    """Walk over segments, sorted and disjoint, and put their pages into a sink.

    Parameters
    ----------
    fd, maps : int
        Open /proc/PID/pagemap and maps.
    path : str
        Names the process in error messages.
    starts, ends : array of uint64
        The segments.
    kinds : array of uint8
        The number of each segment's plan; with CLIPPED_FLAG if it is only a part of its mapping.
    plans : tuple of Plan
    sink : Sink
    rows, counts : arrays, optional
        To count each segment by itself: ``counts[i, rows[j]]`` grows by the pages of segment j
        that answer question i with yes. If frames are wanted, a last row counts those.
    """
    cdef segments_t segments
    cdef cursor_t cursor
    cdef ssize_t got
    cdef int i
    cdef Plan plan
    memset(&segments, 0, sizeof(segments))
    segments.count = starts.shape[0]
    if not segments.count:
        return
    if len(plans) > MAX_PLANS:
        raise ValueError(f"{len(plans)} plans: at most {MAX_PLANS}")
    segments.starts, segments.ends, segments.kinds = &starts[0], &ends[0], &kinds[0]
    for i, plan in enumerate(plans):
        segments.plans[i] = &plan.plan
    if counts is not None:
        if (counts.shape[0] != sink.sink.answers + (sink.sink.frames is not NULL)
                or rows.shape[0] != starts.shape[0]):
            raise ValueError(f"counts of {counts.shape[0]} rows for {sink.sink.answers} questions")
        segments.counts, segments.row_length = &counts[0, 0], counts.shape[1]
        segments.rows = &rows[0]
    try:
        while segments.done < segments.count:
            with nogil:
                got = walk_some(fd, maps, &segments, &cursor, &sink.sink)
            if got < 0:
                raise walk_failure(-got, path)
            PyErr_CheckSignals()
            sink.check()
    finally:
        if segments.counts is not NULL:
            sink.count_for_itself()
    check_alive(fd, path)


def scan_little(int fd, object path, uint64_t end, Plan plan, Sink sink):
    """Scan the whole address space up to `end`, and put its pages into a sink.

    Only for a plan that scans, and a process that has little mapped: each call of the kernel goes
    on until it has found many pages, or all, and holds the process's lock meanwhile.
    """
    cdef cursor_t cursor
    cdef ssize_t got
    set_cursor(&cursor, &plan.plan, -1, 0, end)
    while cursor.at < end:
        with nogil:
            got = scan_across(fd, &cursor, &plan.plan, &sink.sink)
        if got < 0:
            raise walk_failure(-got, path)
        PyErr_CheckSignals()
        sink.check()
    check_alive(fd, path)
