"""The C level, promised to other extension modules; the modules of _kernel do the work."""

from cpython.pycapsule cimport PyCapsule_New
from libc.errno cimport EACCES, EFAULT, EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport (abi, decoding, filling, frames as kpage, growing, reading, scan,
                                  stretch)
from fastpagemap._kernel.entries cimport read_span
from fastpagemap._kernel.filling cimport sink_t
from fastpagemap._kernel.plan cimport Plan, cursor_t, plan_t
from fastpagemap._kernel.scan cimport pace_t

from ._kernel.pagecache import swap_in_use
from .engine.table import Backing, plan

cdef extern from "fastpagemap.h" nogil:
    const char *FASTPAGEMAP_CAPSULE
    ctypedef struct fastpagemap_region:
        pass
    ctypedef struct fastpagemap_api:
        int version
        ssize_t (*read_entries)(int, uint64_t, size_t, uint64_t *) noexcept
        ssize_t (*decode)(const uint64_t *, size_t, int, uint8_t *) noexcept
        ssize_t (*fill_mask)(int, int, uint64_t, size_t, int, uint8_t *) noexcept
        ssize_t (*count_pages)(int, int, uint64_t, size_t, int) noexcept
        ssize_t (*scan_regions)(int, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                fastpagemap_region *, size_t, uint64_t *) noexcept
        ssize_t (*read_frames)(int, const uint64_t *, size_t, uint64_t *) noexcept

# 1 or 0; -errno while it could not be found out, so that it is tried again.
cdef int SOFT_DIRTY_KEPT = reading.sees_soft_dirty()


cdef int soft_dirty_state() noexcept nogil:
    """Return the state's bit; -EOPNOTSUPP if there is none, else why that cannot be found out."""
    global SOFT_DIRTY_KEPT
    if SOFT_DIRTY_KEPT < 0:
        SOFT_DIRTY_KEPT = reading.sees_soft_dirty()
    if SOFT_DIRTY_KEPT <= 0:
        return SOFT_DIRTY_KEPT if SOFT_DIRTY_KEPT else -EOPNOTSUPP
    return decoding.SOFT_DIRTY


cdef int state_of(int question) noexcept nogil:
    """Return the bit of a page's state that a question is about, or -errno."""
    if question == PAGE_PRESENT:
        return decoding.PRESENT
    if question == PAGE_SWAP_ENTRY:
        return decoding.SWAPPED
    if question == PAGE_SHARED:
        return decoding.SHARED
    if question == PAGE_EXCLUSIVE:
        return decoding.EXCLUSIVE
    if question == PAGE_SOFT_DIRTY:
        return soft_dirty_state()
    return -EINVAL


# The plan for each question, from the engine's table.
cdef plan_t[PAGE_SOFT_DIRTY + 1] PLANS


cdef int take_plan(int question, Plan chosen) except -1:
    PLANS[question] = chosen.plan
    # The caller does not know the mappings.
    PLANS[question].unseen = True
    # A signal handler has little stack, and a search for huge pages needs more of it.
    PLANS[question].scanned = 0
    PLANS[question].one_entry = False
    return 0


def _take_plans():
    # ANONYMOUS allows the complement scan, which the walk checks with `unseen`.
    take_plan(PAGE_PRESENT, plan(Backing.ANONYMOUS, frozenset({"present"})))
    take_plan(PAGE_SWAP_ENTRY, plan(Backing.UNKNOWN, frozenset({"swapped"})))
    take_plan(PAGE_SHARED, plan(Backing.UNKNOWN, frozenset({"shared"})))
    take_plan(PAGE_EXCLUSIVE, plan(Backing.UNKNOWN, frozenset({"exclusive"})))
    take_plan(PAGE_SOFT_DIRTY, plan(Backing.UNKNOWN, frozenset({"soft_dirty"})))


_take_plans()
# Finds out which swap types are reserved.
swap_in_use()


cdef void ask(sink_t *sink, int state, uint64_t origin, uint8_t *mask,
              uint64_t *count) noexcept nogil:
    memset(sink, 0, sizeof(sink[0]))
    sink.origin = origin
    sink.answers = 1
    sink.asked[0].bits = sink.asked[0].value = state
    sink.asked[0].mask = mask
    sink.asked[0].count = count


cdef ssize_t answer(int pagemap, int maps, uint64_t start, size_t count, int asked,
                    uint8_t *mask) noexcept nogil:
    """Answer a question about a span, into a mask if not NULL; return how many pages match."""
    cdef int state = state_of(asked)
    cdef uint64_t first = start >> reading.PAGE_SHIFT, found = 0
    cdef uint64_t pages = (~<uint64_t> 0 >> reading.PAGE_SHIFT) - first
    cdef ssize_t got = 0
    cdef sink_t sink
    cdef cursor_t cursor
    if state < 0:
        return state
    if first << reading.PAGE_SHIFT != start or count > pages:
        return -EINVAL
    ask(&sink, state, start, mask, &found)
    stretch.set_cursor(&cursor, &PLANS[asked], maps, start,
                       start + (<uint64_t> count << reading.PAGE_SHIFT))
    while cursor.at < cursor.end and got >= 0:
        got = stretch.advance(pagemap, &cursor, &PLANS[asked], &sink)
    # The kernel has no such call, a sandbox forbids it, or it is asked about the kernel's half.
    if is_refused(got):
        got = read_span(pagemap, cursor.at, cursor.end, 0, &sink)
    if got >= 0:
        got = alive(pagemap)
    return got if got < 0 else <ssize_t> found


cdef bint is_refused(ssize_t got) noexcept nogil:
    """Return whether a scan could not be asked, so that entries must answer."""
    return (got == -ENOTTY or got == -ENOSYS or got == -EPERM or got == -EACCES
            or got == -EINVAL or got == -EFAULT)


cdef ssize_t alive(int pagemap) noexcept nogil:
    """Return -ESRCH if the process has gone: a scan does not report that, reading does."""
    cdef uint64_t entry
    return reading.read_entries(pagemap, 0, &entry, 1)


cdef ssize_t read_entries(int pagemap, uint64_t start, size_t count,
                          uint64_t *entries) noexcept nogil:
    if start & ((<uint64_t> 1 << reading.PAGE_SHIFT) - 1):
        return -EINVAL
    return reading.read_entries(pagemap, start, entries, count)


cdef ssize_t decode(const uint64_t *entries, size_t count, int question,
                    uint8_t *mask) noexcept nogil:
    cdef int state = state_of(question)
    cdef uint64_t found = 0
    cdef uint16_t[decoding.BATCH_PAGES] states
    cdef size_t done = 0, batch
    cdef sink_t sink
    if state < 0:
        return state
    ask(&sink, state, 0, mask, &found)
    while done < count:
        batch = min(count - done, <size_t> decoding.BATCH_PAGES)
        decoding.decode_states(entries + done, states, batch)
        filling.put_states(&sink, <uint64_t> done << reading.PAGE_SHIFT, states, batch)
        done += batch
    return found


cdef ssize_t fill_mask(int pagemap, int maps, uint64_t start, size_t count, int question,
                       uint8_t *mask) noexcept nogil:
    return answer(pagemap, maps, start, count, question, mask)


cdef ssize_t count_pages(int pagemap, int maps, uint64_t start, size_t count,
                         int question) noexcept nogil:
    return answer(pagemap, maps, start, count, question, NULL)


cdef ssize_t scan_regions(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                          uint64_t anyof, uint64_t inverted, uint64_t returns,
                          region_t *regions, size_t room, uint64_t *reached) noexcept nogil:
    cdef abi.scan_arg asked
    cdef abi.page_region *more
    cdef growing.found_t found
    cdef pace_t pace
    cdef ssize_t got
    if (start | end) & ((<uint64_t> 1 << reading.PAGE_SHIFT) - 1):
        return -EINVAL
    memset(&asked, 0, sizeof(asked))
    asked.category_mask = mask
    asked.category_anyof_mask = anyof
    asked.category_inverted = inverted
    asked.return_mask = returns
    found.regions, found.count, found.capacity = <abi.page_region *> regions, 0, room
    scan.start_pace(&pace)
    while start < end and found.count < room:
        more = found.regions + found.count
        got = scan.scan_next(pagemap, &start, end, &pace, &asked, more,
                             min(room - found.count, <size_t> scan.REGIONS))
        # Appended in place: they fit, so nothing is allocated.
        if got >= 0:
            got = growing.append(&found, more, got, 0)
        if got < 0:
            return got
    reached[0] = start
    got = alive(pagemap)
    return got if got < 0 else <ssize_t> found.count


cdef ssize_t read_frames(int file, const uint64_t *frames, size_t count,
                         uint64_t *values) noexcept nogil:
    return kpage.read_frames(file, frames, count, values)


# ---- for C and C++: fastpagemap.h --------------------------------------------------------------

cdef ssize_t scan_regions_c(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                            uint64_t anyof, uint64_t inverted, uint64_t returns,
                            fastpagemap_region *regions, size_t room,
                            uint64_t *reached) noexcept nogil:
    return scan_regions(pagemap, start, end, mask, anyof, inverted, returns,
                        <region_t *> regions, room, reached)


cdef fastpagemap_api API
API.version = 2
API.read_entries = read_entries
API.decode = decode
API.fill_mask = fill_mask
API.count_pages = count_pages
API.scan_regions = scan_regions_c
API.read_frames = read_frames
_C_API = PyCapsule_New(&API, FASTPAGEMAP_CAPSULE, NULL)
