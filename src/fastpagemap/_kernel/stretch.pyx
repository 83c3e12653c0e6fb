"""Walk over one stretch of address space: by scans, by entries, or past a hole.

A scan (PAGEMAP_SCAN) costs 3 ns for a page that does not match, three times as much for one that
does, and nothing where no page table is. The entry of a present page costs 15 to 26 ns. One entry
tells about all of a huge page.
"""

from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport BATCH_PAGES, HUGE, NEVER_SHARED, PRESENT, ZERO
from fastpagemap._kernel.entries cimport add_to_present, read_batch, read_span
from fastpagemap._kernel.filling cimport put_pages, put_regions, sink_t
from fastpagemap._kernel.huge cimport read_huge_region, read_with_huge
from fastpagemap._kernel.plan cimport (COMPLEMENT, DIRECT, READ, cursor_t, match_t, plan_t,
                                       state_of_categories)
from fastpagemap._kernel.procmaps cimport is_mapped
from fastpagemap._kernel.reading cimport PAGE_SHIFT
from fastpagemap._kernel.scan cimport (FIRST_PAGES, REGIONS, TIME_SLICE_NS, adapt_pace,
                                       count_unpopulated, match_limit, now, scan_once, start_pace)

cdef enum:
    # Where reading is cheaper: entries to read before a scan is tried again.
    FIRST_READ_PAGES = 1 << 14
    MAX_READ_PAGES = 1 << 18
    # Reading the entries of so many pages in a gap costs less than another read.
    MAX_READ_GAP_PAGES = 32
    # What a read costs beside its entries, in entries of empty pages.
    READ_COST_PAGES = 256


cdef inline bint matches(const match_t *match, uint64_t categories) noexcept nogil:
    return (categories & match.bits) == match.value


cdef inline bint must_read(const plan_t *plan, uint64_t categories) noexcept nogil:
    """Return whether the entries of pages with these categories have to be read."""
    cdef int i
    for i in range(plan.verifies):
        if matches(&plan.verified[i], categories):
            return True
    return False


cdef inline bint is_huge(const plan_t *plan, const abi.page_region *region) noexcept nogil:
    return plan.one_entry and region.categories & abi.PAGE_IS_HUGE


# ---- what a scan found ---------------------------------------------------------------------------

cdef void add_scanned(uint64_t at, uint16_t *states, size_t count,
                      const abi.page_region *regions, int regions_count) noexcept nogil:
    """Add HUGE and ZERO, which only a scan tells, to the states of present pages."""
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
    """Read the entries of regions that lie close together, and of the pages in between."""
    cdef uint64_t[BATCH_PAGES] scratch
    cdef uint16_t[BATCH_PAGES] states
    cdef const uint64_t *entries = scratch
    cdef uint64_t at = regions[0].start, end = regions[count - 1].end
    cdef size_t pages, total = (end - at) >> PAGE_SHIFT
    cdef ssize_t got
    while at < end:
        pages = min(<size_t> BATCH_PAGES, (end - at) >> PAGE_SHIFT)
        got = read_batch(fd, at, pages, sink, plan.present_state, scratch, states)
        if got < 0:
            return got
        if plan.returns & abi.PAGE_IS_PFNZERO:
            add_scanned(at, states, pages, regions, count)
        if sink.entries is not NULL:
            entries = sink.entries + ((at - sink.origin) >> PAGE_SHIFT)
        if put_pages(sink, at, entries, states, pages) < 0:
            return -ENOMEM
        at += <uint64_t> pages << PAGE_SHIFT
    return total


cdef int next_to_read(const plan_t *plan, const abi.page_region *regions, int first,
                      int count) noexcept nogil:
    """Return the first region, from `first` on, whose entries have to be read."""
    if not plan.verifies:
        return count
    while first < count and not must_read(plan, regions[first].categories):
        first += 1
    return first


cdef inline void to_states(const plan_t *plan, abi.page_region *regions, int count) noexcept nogil:
    """Replace the categories of regions by states."""
    cdef uint64_t categories = 0
    cdef uint16_t state = 0
    cdef int i
    for i in range(count):
        # most regions are like the one before
        if regions[i].categories != categories:
            categories = regions[i].categories
            state = state_of_categories(categories)
            if state & PRESENT:
                state |= plan.present_state & <uint16_t> ~NEVER_SHARED
        regions[i].categories = state


cdef ssize_t put_scanned(int fd, const cursor_t *cursor, const plan_t *plan, sink_t *sink,
                         abi.page_region *regions, int count, uint64_t reached) noexcept nogil:
    """Answer for all pages up to `reached`; return what reading cost, counted in entries."""
    cdef uint16_t rest = 0
    cdef uint64_t at = cursor.at, end
    cdef ssize_t read = 0, got
    cdef int done = 0, first = next_to_read(plan, regions, 0, count), last, further
    cdef bint huge
    if cursor.mode == COMPLEMENT:
        rest = (PRESENT | plan.present_state) & <uint16_t> ~NEVER_SHARED
    while first < count:
        # Regions that lie close together are read together.
        last = first
        further = next_to_read(plan, regions, last + 1, count)
        while (further < count and not is_huge(plan, &regions[last])
                and not is_huge(plan, &regions[further])
                and regions[further].start - regions[last].end
                < <uint64_t> MAX_READ_GAP_PAGES << PAGE_SHIFT):
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


# ---- step by step --------------------------------------------------------------------------------

cdef void prepare(abi.scan_arg *arg, const cursor_t *cursor, const plan_t *plan,
                  uint64_t pages) noexcept nogil:
    """Fill in what to ask a scan of the next pages."""
    memset(arg, 0, sizeof(arg[0]))
    arg.start = cursor.at
    arg.end = cursor.at + (pages << PAGE_SHIFT)
    # Pages without a page table, and those of huge pages, are many and cost little.
    arg.max_pages = match_limit(&cursor.pace, cursor.huge_seen
                                or plan.anyof & abi.PAGE_IS_SOFT_DIRTY)
    arg.return_mask = plan.returns
    if cursor.mode == COMPLEMENT:
        arg.category_mask = arg.category_inverted = abi.PAGE_IS_PRESENT
    else:
        arg.category_anyof_mask = plan.anyof


cdef void choose_mode(cursor_t *cursor, const plan_t *plan, uint64_t pages, uint64_t matched,
                      uint64_t read) noexcept nogil:
    """Choose how to go on: a page that matches costs three times as much as another one."""
    if 2 * read > pages:
        cursor.mode = READ
        return
    if 2 * matched > pages and plan.complement and cursor.maps >= 0:
        cursor.mode = DIRECT if cursor.mode == COMPLEMENT else COMPLEMENT
    cursor.read_pages = FIRST_READ_PAGES


cdef ssize_t scan_some(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                       uint64_t pages) noexcept nogil:
    """Scan some pages, and choose how to go on."""
    cdef abi.page_region[REGIONS] regions
    cdef abi.scan_arg arg
    cdef uint64_t began = now(), took, matched = 0, reached
    cdef ssize_t count, read
    cdef int i
    prepare(&arg, cursor, plan, pages)
    count = scan_once(fd, &arg, regions, cursor.pace.regions)
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
    cursor.huge_seen = (count > 0 and is_huge(plan, &regions[0])
                        and is_huge(plan, &regions[count - 1]))
    if plan.complement:
        for i in range(count):
            matched += regions[i].end - regions[i].start
        matched >>= PAGE_SHIFT
    read = put_scanned(fd, cursor, plan, sink, regions, count, reached)
    if read < 0:
        return read
    pages = (reached - cursor.at) >> PAGE_SHIFT
    cursor.at = reached
    choose_mode(cursor, plan, pages, matched, read)
    adapt_pace(&cursor.pace, fd, pages, took, count)
    return 0


cdef ssize_t read_some(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink,
                       uint64_t pages) noexcept nogil:
    """Answer for some pages by their entries."""
    cdef uint64_t stop = cursor.at + (pages << PAGE_SHIFT)
    cdef ssize_t got
    # read_with_huge does not call read_span for this: each has 40 KiB of stack, and the C level
    # promises to need less than 80.
    if plan.scanned:
        return read_with_huge(fd, cursor, plan, sink, pages)
    got = read_span(fd, cursor.at, stop, plan.present_state, sink)
    cursor.at = stop
    return got


cdef ssize_t skip_hole(int fd, cursor_t *cursor, const plan_t *plan, sink_t *sink) noexcept nogil:
    """Answer for the unpopulated pages ahead."""
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


cdef void set_cursor(cursor_t *cursor, const plan_t *plan, int maps, uint64_t at,
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
    """Answer for pages from the cursor on, for TIME_SLICE_NS or to its end."""
    cdef uint64_t began = now(), left
    cdef ssize_t got
    while cursor.at < cursor.end:
        left = (cursor.end - cursor.at) >> PAGE_SHIFT
        if not plan.anyof and plan.scan:
            # No question depends on the page table.
            got = put_regions(sink, cursor.at, cursor.end, 0, NULL, 0)
            cursor.at = cursor.end
        elif cursor.mode == READ:
            got = read_some(fd, cursor, plan, sink, min(left, cursor.read_pages))
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
        if now() - began > TIME_SLICE_NS:
            break
    return 0
