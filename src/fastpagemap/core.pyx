"""The C level: what is promised to other extension modules; the rooms below do the work."""

from cpython.pycapsule cimport PyCapsule_New
from libc.errno cimport EFAULT, EINVAL, ENOTTY, EOPNOTSUPP
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport decoding, abi, reading, scan
from fastpagemap._kernel.decoding cimport decoded_t
from fastpagemap._kernel.scan cimport cursor_t, match_t, plan_t

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

cdef enum:
    # Regions a scan can give at a time: what the kernel collects.
    REGIONS = 512

# Tried out once, as this module is imported: see reading.sees_soft_dirty.
cdef bint SOFT_DIRTY_KEPT = reading.sees_soft_dirty()


cdef int question_of(int asked) noexcept nogil:
    """Return the number that decoding has for a question, or -errno."""
    if asked == PAGE_PRESENT:
        return decoding.PRESENT
    if asked == PAGE_SWAP_ENTRY:
        return decoding.SWAPPED
    if asked == PAGE_SHARED:
        return decoding.SHARED
    if asked == PAGE_EXCLUSIVE:
        return decoding.EXCLUSIVE
    if asked == PAGE_SOFT_DIRTY:
        return decoding.SOFT_DIRTY if SOFT_DIRTY_KEPT else -EOPNOTSUPP
    return -EINVAL


cdef void plan_for(int question, plan_t *plan) noexcept nogil:
    """Plan a scan that knows nothing of the mappings; what `plans` does for those who know."""
    cdef match_t *yes = &plan.yes[question]
    memset(plan, 0, sizeof(plan[0]))
    plan.answers = 1
    plan.answered[0] = question
    plan.unseen = True
    if question == decoding.SOFT_DIRTY:
        plan.anyof = abi.PAGE_IS_SOFT_DIRTY
        plan.empties = True
    elif question == decoding.SWAPPED:
        plan.anyof = abi.PAGE_IS_SWAPPED
    else:
        plan.anyof = abi.PAGE_IS_PRESENT
    plan.returns = yes.bits = yes.value = plan.anyof
    if question == decoding.PRESENT:
        plan.complement = True
    elif question != decoding.SOFT_DIRTY:
        # only the entries tell: none is sure before it is read
        plan.verify[0] = yes[0]
        plan.verifies = 1
        yes.bits = 0


cdef ssize_t answer(int pagemap, int maps, uint64_t start, size_t count, int asked,
                    uint8_t *mask) noexcept nogil:
    """Answer a question about a span into a mask, if there is one; return how many are in it."""
    cdef int question = question_of(asked)
    cdef uint64_t first = start >> reading.PAGE_SHIFT, found = 0
    cdef uint64_t pages = (~<uint64_t> 0 >> reading.PAGE_SHIFT) - first
    cdef ssize_t got = 0
    cdef decoded_t into
    cdef cursor_t cursor
    cdef plan_t plan
    if question < 0:
        return question
    if first << reading.PAGE_SHIFT != start or count > pages:
        return -EINVAL
    memset(&into, 0, sizeof(into))
    into.answers = True
    into.masks[question] = mask
    into.counts[question] = &found
    plan_for(question, &plan)
    scan.rewind(&cursor, maps, start, start + (<uint64_t> count << reading.PAGE_SHIFT))
    while cursor.at < cursor.end and got >= 0:
        got = scan.advance(pagemap, &cursor, &plan, &into)
    # no such call, not of this category, or not of these addresses, where nothing can be mapped
    if got == -ENOTTY or got == -EINVAL or got == -EFAULT:
        count = (cursor.end - cursor.at) >> reading.PAGE_SHIFT
        first = (cursor.at - start) >> reading.PAGE_SHIFT
        got = reading.read_decoded(pagemap, cursor.at, count, &into, first)
    if got >= 0:
        got = alive(pagemap)
    return got if got < 0 else <ssize_t> found


cdef ssize_t alive(int pagemap) noexcept nogil:
    """Return -ESRCH if the process has gone: a scan finds less and less, and does not say why."""
    cdef uint64_t entry
    return reading.read_entries(pagemap, 0, &entry, 1)


cdef ssize_t read_entries(int pagemap, uint64_t start, size_t count,
                          uint64_t *entries) noexcept nogil:
    if start & ((<uint64_t> 1 << reading.PAGE_SHIFT) - 1):
        return -EINVAL
    return reading.read_entries(pagemap, start, entries, count)


cdef ssize_t decode(const uint64_t *entries, size_t count, int question,
                    uint8_t *mask) noexcept nogil:
    cdef int number = question_of(question)
    cdef uint64_t found = 0
    cdef decoded_t into
    if number < 0:
        return number
    memset(&into, 0, sizeof(into))
    into.answers = True
    into.masks[number] = mask
    into.counts[number] = &found
    decoding.decode_entries(entries, count, &into)
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
    cdef abi.page_region *into = <abi.page_region *> regions
    cdef abi.page_region *more
    cdef cursor_t cursor
    cdef size_t found = 0
    cdef ssize_t got, i
    memset(&asked, 0, sizeof(asked))
    asked.category_mask = mask
    asked.category_anyof_mask = anyof
    asked.category_inverted = inverted
    asked.return_mask = returns
    scan.rewind(&cursor, -1, start, end)
    while cursor.at < cursor.end and found < room:
        more = into + found
        got = scan.scan_next(pagemap, &cursor, &asked, more, min(room - found, <size_t> REGIONS))
        if got < 0:
            return got
        for i in range(got):
            # what goes on where the last one ended joins it
            if found and into[found - 1].end == more[i].start and (
                    into[found - 1].categories == more[i].categories):
                into[found - 1].end = more[i].end
            else:
                into[found] = more[i]
                found += 1
    reached[0] = cursor.at
    got = alive(pagemap)
    return got if got < 0 else <ssize_t> found


# ---- for C and C++: fastpagemap.h --------------------------------------------------------------

cdef ssize_t scan_regions_c(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                            uint64_t anyof, uint64_t inverted, uint64_t returns,
                            fastpagemap_region *regions, size_t room,
                            uint64_t *reached) noexcept nogil:
    return scan_regions(pagemap, start, end, mask, anyof, inverted, returns,
                        <region_t *> regions, room, reached)


cdef fastpagemap_api API
API.version = 1
API.read_entries = read_entries
API.decode = decode
API.fill_mask = fill_mask
API.count_pages = count_pages
API.scan_regions = scan_regions_c
_C_API = PyCapsule_New(&API, FASTPAGEMAP_CAPSULE, NULL)
