"""The walk over what is mapped: stretch by stretch by a scan, by entries, or not at all.

A scan (PAGEMAP_SCAN) costs 3 ns for a page that does not match what is asked for, three times as
much for one that does, and nothing where no page table is; an entry costs 15 to 26 ns where a page
is present, and one entry tells all of a huge page.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport (BATCH, EXCLUSIVE, GUARD, HUGE, PRESENT, SHARED,
                                           SOFT_DIRTY, SWAPPED, ZERO, decode_states)
from fastpagemap._kernel.procmaps cimport is_mapped
from fastpagemap._kernel.reading cimport PAGE_SHIFT, check_alive, read_entries
from fastpagemap._kernel.scan cimport (FIRST_PAGES, REGIONS, TIME_SLICE, adapt_pace,
                                       count_unpopulated, match_limit, now, scan_once, start_pace)
from fastpagemap._kernel.sinks cimport Sink, put_regions, put_state, put_states

from .failures import failure

cdef enum:
    # Entries to read, where reading is the better way, between two tries at scanning.
    FIRST_READ_PAGES = 1 << 14
    MAX_READ_PAGES = 1 << 18
    # Pages between two whose entries are needed that cost less to read than a further read does.
    MAX_READ_GAP = 32
    # What a read costs beside the entries, in pages of which there are none.
    READ_COST_PAGES = 256
    # Pages between small mappings that cost less to read than a further read does.
    MAX_MAPPING_GAP = 128
    # Mappings of fewer pages are read, and together: finding out how to scan would cost more.
    SMALL = 512
    MAX_HUGE_BLOCKS = 512

# Bytes and pages that the smallest huge page spans: a page table full of entries.
cdef uint64_t HUGE_PAGES = (<uint64_t> 1 << PAGE_SHIFT) >> 3
cdef uint64_t HUGE_SIZE = HUGE_PAGES << PAGE_SHIFT


# ---- states ------------------------------------------------------------------------------------

cdef uint16_t state_of_categories(uint64_t categories) noexcept nogil:
    """Return the state that a scan tells. Swap entries are among SWAPPED that are no swap."""
    cdef uint16_t state = 0
    if categories & abi.PAGE_IS_PRESENT:
        state = PRESENT
        if categories & abi.PAGE_IS_FILE:
            state |= SHARED
        if categories & abi.PAGE_IS_HUGE:
            state |= HUGE
        if categories & abi.PAGE_IS_PFNZERO:
            state |= ZERO
    if categories & abi.PAGE_IS_SWAPPED:
        state |= SWAPPED
    if categories & abi.PAGE_IS_SOFT_DIRTY:
        state |= SOFT_DIRTY
    if categories & abi.PAGE_IS_GUARD:
        state |= GUARD
    return state


cdef inline bint matches(const match_t *match, uint64_t categories) noexcept nogil:
    return (categories & match.bits) == match.value


cdef inline bint must_read(const plan_t *plan, uint64_t categories) noexcept nogil:
    """Return whether the entries of such pages have to be read."""
    cdef int i
    for i in range(plan.verifies):
        if matches(&plan.verified[i], categories):
            return True
    return False


cdef void add_to_present(uint16_t *states, size_t count, uint16_t extra) noexcept nogil:
    cdef size_t i
    for i in range(count):
        states[i] |= extra & <uint16_t> -(states[i] & PRESENT)


# ---- entries -----------------------------------------------------------------------------------

cdef ssize_t read_batch(int fd, uint64_t at, size_t count, sink_t *sink, uint16_t present_state,
                        uint64_t *scratch, uint16_t *states) noexcept nogil:
    """Read at most BATCH entries and decode them; the sink has them if it wants them."""
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
    """Put what the entries of a span say into the sink; return how many there are."""
    cdef uint64_t[BATCH] scratch
    cdef uint16_t[BATCH] states
    cdef size_t count, total = (end - at) >> PAGE_SHIFT
    cdef ssize_t got
    if sink.entries is not NULL and not sink.answers and sink.runs is NULL:
        return read_entries(fd, at, sink.entries + ((at - sink.origin) >> PAGE_SHIFT), total)
    while at < end:
        count = min(<size_t> BATCH, (end - at) >> PAGE_SHIFT)
        got = read_batch(fd, at, count, sink, present_state, scratch, states)
        if got < 0:
            return got
        if put_states(sink, at, states, count) < 0:
            return -ENOMEM
        at += <uint64_t> count << PAGE_SHIFT
    return total


cdef ssize_t mark_zero(int fd, uint64_t at, uint16_t *states, size_t count) noexcept nogil:
    """Add ZERO where a page is the zero page: only those not shared and not exclusive can be."""
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


cdef ssize_t may_be_huge(int fd, const cursor_t *cursor, uint64_t block, const uint64_t *entries,
                         const uint16_t *states, size_t first, size_t count) noexcept nogil:
    """Return whether a block, `first` of some pages that were read, is mapped as a huge page."""
    cdef uint64_t frames = (<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1, frame
    cdef size_t last = first + HUGE_PAGES - 1
    cdef abi.page_region region
    cdef abi.scan_arg arg
    if not states[first] & PRESENT or block == cursor.not_huge:
        return 0
    frame = entries[first] & frames
    # Who may see frame numbers need not ask: a huge page's are aligned, and follow each other.
    if frame & (HUGE_PAGES - 1):
        return 0
    if last < count and (not states[last] & PRESENT or (
            frame and entries[last] & frames != frame + HUGE_PAGES - 1)):
        return 0
    memset(&arg, 0, sizeof(arg))
    arg.start, arg.end = block, block + (<uint64_t> 1 << PAGE_SHIFT)
    arg.category_anyof_mask = arg.return_mask = abi.PAGE_IS_HUGE
    return scan_once(fd, &arg, &region, 1)


cdef ssize_t read_some(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                       uint64_t pages) noexcept nogil:
    """Read the entries of some pages, more each time, and find huge pages among them."""
    cdef uint64_t[BATCH] scratch
    cdef uint16_t[BATCH] states
    cdef uint64_t *entries
    cdef uint64_t stop = cursor.at + (pages << PAGE_SHIFT), block
    cdef size_t count, first, batch = BATCH
    cdef ssize_t got
    if cursor.at % HUGE_SIZE:
        got = read_part_of_huge(fd, cursor, plan, sink)
        if got < 0:
            return got
    while cursor.at < stop:
        count = min(batch, (stop - cursor.at) >> PAGE_SHIFT)
        got = read_batch(fd, cursor.at, count, sink, plan.present_state, scratch, states)
        if got < 0:
            return got
        # what lies behind a huge page is read twice: the less, the more huge pages there are
        batch = min(<size_t> BATCH, 2 * batch)
        entries = &scratch[0]
        if sink.entries is not NULL:
            entries = sink.entries + ((cursor.at - sink.origin) >> PAGE_SHIFT)
        block = (cursor.at + HUGE_SIZE - 1) // HUGE_SIZE * HUGE_SIZE
        while block < cursor.at + (<uint64_t> count << PAGE_SHIFT):
            first = (block - cursor.at) >> PAGE_SHIFT
            got = may_be_huge(fd, cursor, block, entries, states, first, count)
            if got < 0:
                return got
            if got:
                count = first
                batch = HUGE_PAGES
                break
            block += HUGE_SIZE
        if plan.scanned & ZERO:
            got = mark_zero(fd, cursor.at, states, count)
            if got < 0:
                return got
        if put_states(sink, cursor.at, states, count) < 0:
            return -ENOMEM
        cursor.at += <uint64_t> count << PAGE_SHIFT
        while block == cursor.at and block < stop and block != cursor.not_huge:
            if block + HUGE_SIZE > cursor.end:
                got = read_part_of_huge(fd, cursor, plan, sink)
            else:
                got = read_huge(fd, cursor, plan, sink)
            if got < 0:
                return got
            # where one ended, another one is likely, without reading all of its entries first
            block = cursor.at if cursor.huge_blocks > 1 else 0
    return pages


cdef ssize_t read_part_of_huge(int fd, cursor_t *cursor, const plan_t *plan,
                               sink_t *sink) noexcept nogil:
    """Read what is left of a huge page where the cursor stands, up to its end or the span's."""
    cdef abi.page_region region
    cdef abi.scan_arg arg
    cdef uint64_t edge = min(cursor.end, (cursor.at // HUGE_SIZE + 1) * HUGE_SIZE)
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
    """Put the huge pages into the sink that follow each other where the cursor stands."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t block = cursor.at, left = (cursor.end - block) // HUGE_SIZE
    cdef ssize_t found, got
    cdef int i
    memset(&arg, 0, sizeof(arg))
    arg.start = block
    arg.end = block + min(left, cursor.huge_blocks) * HUGE_SIZE
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
    """Put whole huge pages up to `end` into the sink, by as few of their entries as tell all."""
    cdef uint16_t extra = state_of_categories(categories | abi.PAGE_IS_PRESENT) & ~PRESENT
    cdef uint64_t entry
    cdef uint16_t state
    cdef ssize_t got
    while cursor.at + HUGE_SIZE <= end:
        if not plan.one_entry or sink.entries is not NULL:
            got = read_span(fd, cursor.at, cursor.at + HUGE_SIZE, plan.present_state | extra, sink)
        else:
            got = read_batch(fd, cursor.at, 1, sink, plan.present_state | extra, &entry, &state)
            # it may have been split, or emptied, since it was scanned
            if got >= 0 and not state & PRESENT:
                return 0
            if got >= 0 and put_state(sink, cursor.at, cursor.at + HUGE_SIZE, state) < 0:
                return -ENOMEM
        if got < 0:
            return got
        cursor.at += HUGE_SIZE
    return 0


# ---- scans -------------------------------------------------------------------------------------

cdef ssize_t read_huge_region(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                              const abi.page_region *region) noexcept nogil:
    """Read what a region of huge pages needs: an entry for each one that is whole."""
    cdef uint16_t state = plan.present_state | (
        state_of_categories(region.categories) & <uint16_t> (HUGE | ZERO))
    cdef uint64_t edge = (region.start + HUGE_SIZE - 1) // HUGE_SIZE * HUGE_SIZE
    cdef cursor_t within = cursor[0]
    cdef ssize_t got
    within.at = min(region.end, edge)
    got = read_span(fd, region.start, within.at, state, sink)
    if got >= 0:
        got = put_huge(fd, &within, plan, sink, region.end, region.categories)
    if got >= 0 and within.at < region.end:
        got = read_span(fd, within.at, region.end, state, sink)
    return got


cdef void add_scanned(uint64_t at, uint16_t *states, size_t count,
                      const abi.page_region *regions, int regions_count) noexcept nogil:
    """Add to the states of present pages what only a scan tells."""
    cdef uint64_t end = at + (<uint64_t> count << PAGE_SHIFT), low, high
    cdef uint16_t extra
    cdef int i
    for i in range(regions_count):
        extra = state_of_categories(regions[i].categories) & <uint16_t> (HUGE | ZERO)
        low, high = max(at, regions[i].start), min(end, regions[i].end)
        if extra and low < high:
            add_to_present(states + ((low - at) >> PAGE_SHIFT), (high - low) >> PAGE_SHIFT, extra)


cdef ssize_t read_regions(int fd, const plan_t *plan, sink_t *sink,
                          const abi.page_region *regions, int count) noexcept nogil:
    """Read the entries of regions that lie close together, with all between them."""
    cdef uint64_t[BATCH] scratch
    cdef uint16_t[BATCH] states
    cdef uint64_t at = regions[0].start, end = regions[count - 1].end
    cdef size_t pages, total = (end - at) >> PAGE_SHIFT
    cdef ssize_t got
    while at < end:
        pages = min(<size_t> BATCH, (end - at) >> PAGE_SHIFT)
        got = read_batch(fd, at, pages, sink, plan.present_state, scratch, states)
        if got < 0:
            return got
        if plan.scanned:
            add_scanned(at, states, pages, regions, count)
        if put_states(sink, at, states, pages) < 0:
            return -ENOMEM
        at += <uint64_t> pages << PAGE_SHIFT
    return total


cdef inline bint is_huge(const plan_t *plan, const abi.page_region *region) noexcept nogil:
    return plan.one_entry and region.categories & abi.PAGE_IS_HUGE


cdef int next_to_read(const plan_t *plan, const abi.page_region *regions, int first,
                      int count) noexcept nogil:
    """Return the first of the regions, from `first` on, whose entries have to be read."""
    if not plan.verifies:
        return count
    while first < count and not must_read(plan, regions[first].categories):
        first += 1
    return first


cdef inline void to_states(const plan_t *plan, abi.page_region *regions, int count) noexcept nogil:
    """Replace the categories of regions by states."""
    cdef uint16_t state
    cdef int i
    for i in range(count):
        state = state_of_categories(regions[i].categories)
        if state & PRESENT:
            state |= plan.present_state
        regions[i].categories = state


cdef ssize_t put_scanned(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                         abi.page_region *regions, int count, uint64_t reached) noexcept nogil:
    """Answer for all pages up to `reached`; return what reading cost, as so many pages' entries."""
    cdef uint16_t rest = PRESENT | plan.present_state if cursor.mode == COMPLEMENT else 0
    cdef uint64_t at = cursor.at, end
    cdef ssize_t read = 0, got
    cdef int done = 0, first = next_to_read(plan, regions, 0, count), last, further
    cdef bint huge
    while first < count:
        # those that lie close together are read together
        last = first
        further = next_to_read(plan, regions, last + 1, count)
        while (further < count and not is_huge(plan, &regions[last])
                and not is_huge(plan, &regions[further])
                and regions[further].start - regions[last].end
                < <uint64_t> MAX_READ_GAP << PAGE_SHIFT):
            last = further
            further = next_to_read(plan, regions, last + 1, count)
        to_states(plan, regions + done, first - done)
        if put_regions(sink, at, regions[first].start, rest, regions + done, first - done) < 0:
            return -ENOMEM
        end = regions[last].end
        huge = is_huge(plan, &regions[first])
        if huge:
            got = read_huge_region(fd, cursor, plan, sink, &regions[first])
        else:
            got = read_regions(fd, plan, sink, regions + first, last + 1 - first)
        if got < 0:
            return got
        if not huge:
            read += got + READ_COST_PAGES
        at = end
        done = last + 1
        first = further
    to_states(plan, regions + done, count - done)
    if put_regions(sink, at, reached, rest, regions + done, count - done) < 0:
        return -ENOMEM
    return read


cdef ssize_t scan_some(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                       uint64_t pages) noexcept nogil:
    """Scan some pages, and choose how to go on: a page that matches costs three times another."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t began = now(), took, matched = 0, reached
    cdef ssize_t count, read
    cdef int i
    memset(&arg, 0, sizeof(arg))
    arg.start = cursor.at
    arg.end = cursor.at + (pages << PAGE_SHIFT)
    # pages of no page table, and those of huge pages, are many and cost little
    arg.max_pages = match_limit(&cursor.pace, cursor.huge_seen
                                or plan.anyof & abi.PAGE_IS_SOFT_DIRTY)
    arg.return_mask = plan.returns
    if cursor.mode == COMPLEMENT:
        arg.category_mask = arg.category_inverted = abi.PAGE_IS_PRESENT
    else:
        arg.category_anyof_mask = plan.anyof
    count = scan_once(fd, &arg, regions, REGIONS)
    if count == -EIO:
        cursor.mode = READ
        return 0
    if count < 0:
        return count
    took = now() - began
    reached = arg.start
    if cursor.mode == COMPLEMENT and not is_mapped(
            cursor.maps, cursor.at, reached, plan.unseen):
        cursor.mode = DIRECT
        cursor.maps = -1
        return 0
    cursor.huge_seen = count > 0
    for i in range(count):
        matched += (regions[i].end - regions[i].start) >> PAGE_SHIFT
        cursor.huge_seen = cursor.huge_seen and is_huge(plan, &regions[i])
    read = put_scanned(fd, cursor, plan, sink, regions, count, reached)
    if read < 0:
        return read
    pages = (reached - cursor.at) >> PAGE_SHIFT
    cursor.at = reached
    if 2 * read > <ssize_t> pages:
        cursor.mode = READ
    elif 2 * matched > pages and plan.complement and cursor.maps >= 0:
        cursor.mode = DIRECT if cursor.mode == COMPLEMENT else COMPLEMENT
        cursor.read_pages = FIRST_READ_PAGES
    else:
        cursor.read_pages = FIRST_READ_PAGES
    adapt_pace(&cursor.pace, fd, pages, took)
    return 0


cdef ssize_t skip_hole(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil:
    """Answer for the pages ahead that are not populated."""
    cdef ssize_t pages = count_unpopulated(fd, cursor.at, cursor.end, &cursor.pace)
    cdef uint64_t end
    if pages == -EIO:
        cursor.mode = READ
        return 0
    if pages > 0:
        cursor.mode = DIRECT
        end = cursor.at + (<uint64_t> pages << PAGE_SHIFT)
        if put_regions(sink, cursor.at, end, 0, NULL, 0) < 0:
            return -ENOMEM
        cursor.at = end
    return pages


# ---- the walk ----------------------------------------------------------------------------------

cdef void start(cursor_t *cursor, const plan_t *plan, int maps, uint64_t at,
                uint64_t end) noexcept nogil:
    cursor.maps = maps
    cursor.at = at
    cursor.end = end
    cursor.mode = DIRECT if plan.scan else READ
    cursor.read_pages = FIRST_READ_PAGES
    cursor.huge_blocks = 1
    cursor.not_huge = 1  # no block's address
    cursor.huge_seen = False
    start_pace(&cursor.pace)


cdef ssize_t advance(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil:
    """Answer for pages from where the cursor stands, for some time or to its end."""
    cdef uint64_t began = now(), left
    cdef ssize_t got
    while cursor.at < cursor.end:
        left = (cursor.end - cursor.at) >> PAGE_SHIFT
        if not plan.anyof and plan.scan:
            # nothing is asked that a page table could tell
            got = put_regions(sink, cursor.at, cursor.end, 0, NULL, 0)
            cursor.at = cursor.end
        elif cursor.mode == READ:
            left = min(left, cursor.read_pages)
            if plan.scanned:
                got = read_some(fd, cursor, plan, sink, left)
            else:
                # from here, and not from there: two such frames are more than the core promises
                got = read_span(fd, cursor.at, cursor.at + (left << PAGE_SHIFT),
                                plan.present_state, sink)
                cursor.at += left << PAGE_SHIFT
            cursor.read_pages = min(<uint64_t> MAX_READ_PAGES, 2 * cursor.read_pages)
            if plan.scan:
                cursor.mode = DIRECT
                cursor.pace.pages = FIRST_PAGES
        elif cursor.pace.likely_hole and not plan.anyof & abi.PAGE_IS_SOFT_DIRTY:
            got = skip_hole(fd, cursor, plan, sink)
        else:
            got = scan_some(fd, cursor, plan, sink, min(left, cursor.pace.pages))
        if got < 0:
            return got
        if now() - began > TIME_SLICE:
            break
    return 0


# ---- segments ----------------------------------------------------------------------------------

cdef enum:
    # More than there are kinds of memory.
    MAX_PLANS = 16
    # Of a kind: the segment is a part of its mapping.
    CLIPPED = 128

# Segments of address space, sorted and apart, and how far the walk over them has come.
ctypedef struct segments_t:
    const uint64_t *starts
    const uint64_t *ends
    const uint8_t *kinds                # which plan each one has
    const int64_t *rows                 # which column of `counts` each one has
    uint64_t *counts                    # one row of so many for each question; or NULL
    size_t row_length
    size_t count
    size_t done
    const plan_t *plans[MAX_PLANS]
    bint goes_on                        # whether the first one continues what was walked before
    bint under_way                      # whether the cursor stands in the next one


cdef inline size_t pages_of(const segments_t *segments, size_t number) noexcept nogil:
    return (segments.ends[number] - segments.starts[number]) >> PAGE_SHIFT


cdef inline const plan_t *plan_of(const segments_t *segments, size_t number) noexcept nogil:
    return segments.plans[segments.kinds[number] & <uint8_t> ~CLIPPED]


cdef inline bint is_small(const segments_t *segments, size_t number) noexcept nogil:
    """Return whether a segment is all of a mapping too small for a huge page."""
    return pages_of(segments, number) < SMALL and not segments.kinds[number] & CLIPPED


cdef void enter(const segments_t *segments, sink_t *sink, size_t number) noexcept nogil:
    """Direct the sink to a segment."""
    cdef int i
    if number or not segments.goes_on:
        sink.barrier = segments.starts[number]
    if segments.counts is not NULL:
        for i in range(sink.answers):
            sink.asked[i].count = (
                segments.counts + i * segments.row_length + segments.rows[number])


cdef ssize_t read_cluster(int fd, segments_t *segments, size_t first, size_t last,
                          sink_t *sink) noexcept nogil:
    """Read small segments with all that lies between, and tell them apart afterwards."""
    cdef uint64_t[BATCH] entries
    cdef uint16_t[BATCH] states
    cdef uint64_t at = segments.starts[first]
    cdef const plan_t *plan
    cdef uint16_t *own
    cdef size_t number, pages
    cdef ssize_t got
    if sink.entries is not NULL:
        # those between are of no mapping, and 0
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
        if put_states(sink, segments.starts[number], own, pages) < 0:
            return -ENOMEM
    return 0


cdef ssize_t walk_some(int fd, int maps, segments_t *segments, cursor_t *cursor,
                       sink_t *sink) noexcept nogil:
    """Walk over segments for some time, or to their end."""
    cdef uint64_t began = now()
    cdef size_t first, last
    cdef ssize_t got
    while segments.done < segments.count and now() - began < TIME_SLICE:
        first = last = segments.done
        if not segments.under_way and is_small(segments, first):
            while (last + 1 < segments.count and is_small(segments, last + 1)
                    and segments.starts[last + 1] - segments.ends[last]
                    <= <uint64_t> MAX_MAPPING_GAP << PAGE_SHIFT
                    and segments.ends[last + 1] - segments.starts[first]
                    <= <uint64_t> BATCH << PAGE_SHIFT):
                last += 1
            got = read_cluster(fd, segments, first, last, sink)
            segments.done = last + 1
        else:
            if not segments.under_way:
                enter(segments, sink, first)
                start(cursor, plan_of(segments, first), maps, segments.starts[first],
                      segments.ends[first])
                segments.under_way = True
            got = advance(fd, cursor, plan_of(segments, first), sink)
            if cursor.at == cursor.end:
                segments.done += 1
                segments.under_way = False
        if got < 0:
            return got
    return 0


# ---- for Python --------------------------------------------------------------------------------

CLIPPED_FLAG = CLIPPED
SMALL_PAGES = SMALL


def read_small(int fd, object path, uint64_t start, uint64_t end, Sink sink):
    """Put what the entries of a small span say into a sink, whatever is mapped there."""
    cdef ssize_t got
    with nogil:
        got = read_span(fd, start, end, 0, &sink.sink)
    if got < 0:
        raise failure(-got, path)


cdef class Plan:
    """How pages are told apart; see `plan_t`, and the engine's table of questions."""

    def __cinit__(self, *, bint scan, uint64_t anyof=0, uint64_t returns=0, bint complement=False,
                  tuple verified=(), uint16_t present_state=0, uint16_t scanned=0,
                  bint one_entry=False):
        if len(verified) > MAX_VERIFIED:
            raise ValueError(f"{len(verified)} kinds of pages to verify: at most {MAX_VERIFIED}")
        self.plan.scan = scan
        self.plan.anyof, self.plan.returns = anyof, returns
        self.plan.complement = complement
        for bits, value in verified:
            self.plan.verified[self.plan.verifies].bits = bits
            self.plan.verified[self.plan.verifies].value = value
            self.plan.verifies += 1
        self.plan.present_state, self.plan.scanned = present_state, scanned
        self.plan.one_entry = one_entry


def walk(int fd, int maps, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
         const uint8_t[::1] kinds, tuple plans, Sink sink,
         const int64_t[::1] rows=None, uint64_t[:, ::1] counts=None, bint goes_on=False):
    """Walk over segments, sorted and apart, and put what is found into a sink.

    Parameters
    ----------
    fd, maps : int
        Open /proc/PID/pagemap and maps.
    path : str
        For messages.
    starts, ends : array of uint64
        The segments.
    kinds : array of uint8
        Which of the plans is right for each; with CLIPPED_FLAG where it is a part of a mapping.
    plans : tuple of Plan
    sink : Sink
    rows, counts : arrays, optional
        To count each segment by itself: ``counts[i, rows[j]]`` grows by how many pages of segment j
        are in question i.
    goes_on : bool, optional
        Whether the first segment is of the same mapping as what the sink had last.
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
    segments.goes_on = goes_on
    segments.starts, segments.ends, segments.kinds = &starts[0], &ends[0], &kinds[0]
    for i, plan in enumerate(plans):
        segments.plans[i] = &plan.plan
    if counts is not None:
        if counts.shape[0] != sink.sink.answers or rows.shape[0] != starts.shape[0]:
            raise ValueError(f"counts of {counts.shape[0]} rows for {sink.sink.answers} questions")
        segments.counts, segments.row_length = &counts[0, 0], counts.shape[1]
        segments.rows = &rows[0]
    try:
        while segments.done < segments.count:
            with nogil:
                got = walk_some(fd, maps, &segments, &cursor, &sink.sink)
            if got < 0:
                raise failure(-got, path)
            PyErr_CheckSignals()
    finally:
        if segments.counts is not NULL:
            sink.count_for_itself()
    check_alive(fd, path)
