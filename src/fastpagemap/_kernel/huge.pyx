"""Read entries where huge pages may be: one entry tells about all of a huge page."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport BATCH_PAGES, HUGE, PRESENT, ZERO
from fastpagemap._kernel.entries cimport (PAGES_PER_HUGE_PAGE, mark_zero, read_batch, read_span)
from fastpagemap._kernel.filling cimport put_huge_page, put_pages, sink_t
from fastpagemap._kernel.plan cimport cursor_t, plan_t, state_of_categories
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.scan cimport REGIONS, scan_once

cdef enum:
    # Huge pages that one scan is asked about, at most.
    MAX_HUGE_BLOCKS = 512

cdef uint64_t HUGE_PAGE_BYTES = PAGES_PER_HUGE_PAGE << PAGE_SHIFT


cdef ssize_t may_be_huge(int fd, const cursor_t *cursor, uint64_t block, const uint64_t *entries,
                         const uint16_t *states, size_t first, size_t count) noexcept nogil:
    """Return whether a huge page is mapped at `block`, page `first` of those read."""
    cdef uint64_t frames = (<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1, frame
    cdef size_t last = first + PAGES_PER_HUGE_PAGE - 1
    cdef abi.page_region region
    cdef abi.scan_arg arg
    if not states[first] & PRESENT or block == cursor.not_huge:
        return 0
    frame = entries[first] & frames
    # Visible frame numbers spare a scan: those of a huge page are aligned and consecutive.
    if frame & (PAGES_PER_HUGE_PAGE - 1):
        return 0
    if last < count and (not states[last] & PRESENT or (
            frame and entries[last] & frames != frame + PAGES_PER_HUGE_PAGE - 1)):
        return 0
    memset(&arg, 0, sizeof(arg))
    arg.start, arg.end = block, block + (<uint64_t> 1 << PAGE_SHIFT)
    arg.category_anyof_mask = arg.return_mask = abi.PAGE_IS_HUGE
    return scan_once(fd, &arg, &region, 1)


cdef ssize_t find_huge(int fd, const cursor_t *cursor, const uint64_t *entries,
                       const uint16_t *states, size_t count) noexcept nogil:
    """Return the first of the pages read at the cursor where a huge page begins, or `count`."""
    cdef uint64_t block = (cursor.at + HUGE_PAGE_BYTES - 1) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    cdef size_t first = (block - cursor.at) >> PAGE_SHIFT
    cdef ssize_t got
    while first < count:
        got = may_be_huge(fd, cursor, block, entries, states, first, count)
        if got < 0:
            return got
        if got:
            return first
        block += HUGE_PAGE_BYTES
        first += PAGES_PER_HUGE_PAGE
    return count


cdef ssize_t read_with_huge(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                            uint64_t pages) noexcept nogil:
    """Read the entries of some pages, and find huge pages among them."""
    cdef uint64_t[BATCH_PAGES] scratch
    cdef uint16_t[BATCH_PAGES] states
    cdef uint64_t *entries
    cdef uint64_t stop = cursor.at + (pages << PAGE_SHIFT)
    cdef size_t count, batch = BATCH_PAGES
    cdef ssize_t got
    if cursor.at % HUGE_PAGE_BYTES:
        got = read_part_of_huge(fd, cursor, plan, sink)
        if got < 0:
            return got
    while cursor.at < stop:
        count = min(batch, (stop - cursor.at) >> PAGE_SHIFT)
        got = read_batch(fd, cursor.at, count, sink, plan.present_state, scratch, states)
        if got < 0:
            return got
        # Entries behind a huge page are read twice, so the batches are short where there are many.
        batch = min(<size_t> BATCH_PAGES, 2 * batch)
        entries = &scratch[0]
        if sink.entries is not NULL:
            entries = sink.entries + ((cursor.at - sink.origin) >> PAGE_SHIFT)
        got = find_huge(fd, cursor, entries, states, count)
        if got < 0:
            return got
        if <size_t> got < count:
            batch = min(<size_t> BATCH_PAGES, PAGES_PER_HUGE_PAGE)
        got = put_small(fd, cursor, plan, sink, entries, states, got)
        if got == 0:
            got = read_huge_ahead(fd, cursor, plan, sink, stop)
        if got < 0:
            return got
    return pages


cdef ssize_t put_small(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                       const uint64_t *entries, uint16_t *states,
                       size_t count) noexcept nogil:
    """Put pages that no huge page maps into the sink, and move the cursor behind them."""
    cdef ssize_t got
    if plan.scanned & ZERO:
        got = mark_zero(fd, cursor.at, states, count)
        if got < 0:
            return got
    if put_pages(sink, cursor.at, entries, states, count) < 0:
        return -ENOMEM
    cursor.at += <uint64_t> count << PAGE_SHIFT
    return 0


cdef ssize_t read_huge_ahead(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                             uint64_t stop) noexcept nogil:
    """Read the huge pages ahead, if the cursor stands where one may begin."""
    cdef ssize_t got
    while not cursor.at % HUGE_PAGE_BYTES and cursor.at < stop and cursor.at != cursor.not_huge:
        if cursor.at + HUGE_PAGE_BYTES > cursor.end:
            got = read_part_of_huge(fd, cursor, plan, sink)
        else:
            got = read_huge(fd, cursor, plan, sink)
        if got < 0:
            return got
        # Behind a huge page another one is likely: it is tried without reading entries first.
        if cursor.huge_blocks <= 1:
            break
    return 0


cdef ssize_t read_part_of_huge(int fd, cursor_t *cursor, const plan_t *plan,
                               sink_t *sink) noexcept nogil:
    """Read the rest of the huge page at the cursor, up to its end or the span's."""
    cdef abi.page_region region
    cdef abi.scan_arg arg
    cdef uint64_t edge = min(cursor.end, (cursor.at // HUGE_PAGE_BYTES + 1) * HUGE_PAGE_BYTES)
    cdef ssize_t got
    memset(&arg, 0, sizeof(arg))
    arg.start, arg.end = cursor.at, cursor.at + (<uint64_t> 1 << PAGE_SHIFT)
    arg.category_mask = abi.PAGE_IS_HUGE
    arg.return_mask = abi.PAGE_IS_HUGE | abi.PAGE_IS_PFNZERO
    got = scan_once(fd, &arg, &region, 1)
    if got <= 0:
        cursor.not_huge = cursor.at
        return got
    region.start, region.end = cursor.at, edge
    region.categories |= abi.PAGE_IS_PRESENT
    cursor.at = edge
    return read_huge_region(fd, cursor, plan, sink, &region)


cdef ssize_t read_huge(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil:
    """Put the consecutive huge pages that begin at the cursor into the sink."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t block = cursor.at, left = (cursor.end - block) // HUGE_PAGE_BYTES
    cdef ssize_t found, got
    cdef int i
    memset(&arg, 0, sizeof(arg))
    arg.start = block
    arg.end = block + min(left, cursor.huge_blocks) * HUGE_PAGE_BYTES
    arg.category_anyof_mask = arg.return_mask = abi.PAGE_IS_HUGE | abi.PAGE_IS_PFNZERO
    found = scan_once(fd, &arg, regions, REGIONS)
    if found < 0:
        return found
    for i in range(found):
        if regions[i].start != cursor.at or not regions[i].categories & abi.PAGE_IS_HUGE:
            break
        got = put_huge(fd, cursor, plan, sink, regions[i].end, regions[i].categories)
        if got < 0:
            return got
        if cursor.at != regions[i].end:
            break
    if cursor.at < arg.end or not left:
        cursor.not_huge = cursor.at
        cursor.huge_blocks = 1
    else:
        cursor.huge_blocks = min(2 * cursor.huge_blocks, <uint64_t> MAX_HUGE_BLOCKS)
    return (cursor.at - block) >> PAGE_SHIFT


cdef ssize_t put_huge(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink, uint64_t end,
                      uint64_t categories) noexcept nogil:
    """Put whole huge pages up to `end` into the sink, by one entry each if that tells all."""
    cdef uint16_t extra = state_of_categories(categories | abi.PAGE_IS_PRESENT) & ~PRESENT
    cdef uint64_t entry
    cdef uint16_t state
    cdef ssize_t got
    while cursor.at + HUGE_PAGE_BYTES <= end:
        if not plan.one_entry or sink.entries is not NULL:
            got = read_span(fd, cursor.at, cursor.at + HUGE_PAGE_BYTES,
                            plan.present_state | extra, sink)
        else:
            got = read_batch(fd, cursor.at, 1, sink, plan.present_state | extra, &entry, &state)
            # Since the scan it may have been split or emptied.
            if got >= 0 and not state & PRESENT:
                return 0
            if got >= 0 and put_huge_page(
                    sink, cursor.at, cursor.at + HUGE_PAGE_BYTES, entry, state) < 0:
                return -ENOMEM
        if got < 0:
            return got
        cursor.at += HUGE_PAGE_BYTES
    return 0


cdef ssize_t read_huge_region(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                              const abi.page_region *region) noexcept nogil:
    """Answer for a region of huge pages, by one entry for each whole huge page."""
    cdef uint16_t state = plan.present_state | (
        state_of_categories(region.categories) & <uint16_t> (HUGE | ZERO))
    cdef uint64_t edge = (region.start + HUGE_PAGE_BYTES - 1) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    cdef cursor_t within = cursor[0]
    cdef ssize_t got
    within.at = min(region.end, edge)
    got = read_span(fd, region.start, within.at, state, sink)
    if got >= 0:
        got = put_huge(fd, &within, plan, sink, region.end, region.categories)
    if got >= 0 and within.at < region.end:
        got = read_span(fd, within.at, region.end, state, sink)
    return got
