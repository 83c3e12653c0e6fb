"""PAGEMAP_SCAN: spans answered by it, in ranges that hold the process's lock for a moment only."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset, strcmp, strncmp

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.reading cimport PAGE_SHIFT, read_decoded, read_entries
from fastpagemap._kernel.decoding cimport Sinks

from .decoding import QUESTION_NUMBERS
from .failures import failure

cdef enum:
    # Pages a call looks at: few at first, to see what the memory is like...
    FIRST = 512
    # ...more and more while calls are quick, at most what would take under 1 ms at the worst
    # (3 ns for each page touched that does not match, and those that do are limited).
    MOST = 1 << 17
    MOST_MATCHED = 1 << 11
    LEAST = 512
    # ...and where there seems to be nothing: whether it is so is asked first.
    VOID = 1 << 18
    # ns that a call over so many pages takes where nothing is; huge pages take more.
    VOID_TIME = 2_000
    VOID_SEEN = 1 << 15
    # Entries read at a time, where reading is the better way, between two tries at scanning.
    READ_FIRST = 1 << 14
    READ_MOST = 1 << 18
    # Matched pages less far apart than this are read together: a read costs as much as that.
    GAP = 32
    # A call that took less than QUICK ns may be longer next time; one over SLOW must be shorter:
    # the process waits no longer for its lock than it does when entries are read.
    QUICK = 10_000
    SLOW = 25_000
    # Bytes for the longest name of an anonymous mapping, [anon:...]; what does not fit is none.
    NAME = 128
    # ns that a call takes in which nothing is looked at: times are longer where it takes more.
    CALL = 300

# By how much this machine is slower than that, once it was measured: many times, if emulated.
cdef uint64_t slowness = 0


cdef inline bint matches(const match_t *match, uint64_t categories) noexcept nogil:
    return (categories & match.bits) == match.value


cdef ssize_t scan_once(int fd, abi.scan_arg *arg, abi.page_region *regions,
                       int room) noexcept nogil:
    """Scan `arg.start` to `arg.end`, move `arg.start` as far as it came; return the regions."""
    cdef int got
    cdef uint64_t last
    arg.size = sizeof(arg[0])
    arg.vec = <uint64_t> regions
    arg.vec_len = room
    while True:
        got = abi.ioctl(fd, abi.PAGEMAP_SCAN, arg)
        if got >= 0:
            break
        if errno != EINTR:
            return -errno
    # walk_end can fall short of what was found
    last = regions[got - 1].end if got else 0
    arg.start = max(arg.walk_end, last)
    return got


cdef void measure(int fd) noexcept nogil:
    """See what a call costs in itself: looking at fewer pages makes it no cheaper than that."""
    global slowness
    cdef abi.scan_arg arg
    cdef uint64_t began, least = SLICE
    memset(&arg, 0, sizeof(arg))
    for _ in range(4):
        began = now()
        scan_once(fd, &arg, NULL, 0)
        least = min(least, now() - began)
    slowness = max(<uint64_t> 1, least // CALL)


cdef inline void pace(cursor_t *cursor, uint64_t pages, uint64_t took) noexcept nogil:
    """Choose how many pages the next call looks at, by how long the last one took."""
    took //= slowness
    cursor.void = took < VOID_TIME and pages >= VOID_SEEN
    if took < QUICK:
        cursor.pages = min(<uint64_t> MOST, 2 * cursor.pages)
    elif took > SLOW:
        cursor.pages = max(<uint64_t> LEAST, cursor.pages // 2)


cdef ssize_t void_ahead(int fd, cursor_t *cursor) noexcept nogil:
    """Return how many pages from here on are neither present nor swapped, at most VOID.

    Stops at the first that is: however much is there, the lock is held for the empty ones alone.
    """
    cdef abi.page_region region
    cdef abi.scan_arg arg
    cdef ssize_t count
    memset(&arg, 0, sizeof(arg))
    arg.start = cursor.at
    arg.end = min(cursor.end, cursor.at + (<uint64_t> VOID << PAGE_SHIFT))
    arg.category_anyof_mask = abi.PAGE_IS_PRESENT | abi.PAGE_IS_SWAPPED
    arg.max_pages = 1
    count = scan_once(fd, &arg, &region, 1)
    if count < 0:
        return count
    if count:
        cursor.void = False
        cursor.pages = FIRST
        return (region.start - cursor.at) >> PAGE_SHIFT
    return (arg.start - cursor.at) >> PAGE_SHIFT


# ---- answering questions -----------------------------------------------------------------------

cdef void put_mask(uint8_t *mask, const match_t *match, uint64_t rest, uint64_t start, size_t pages,
                   const abi.page_region *regions, int count) noexcept nogil:
    """Fill the mask of a span from the regions in it: `rest` is what the other pages are."""
    cdef uint8_t others = matches(match, rest)
    cdef size_t at, length
    cdef int i, shift = PAGE_SHIFT
    memset(mask, others, pages)
    for i in range(count):
        if matches(match, regions[i].categories) != others:
            at = (regions[i].start - start) >> shift
            length = (regions[i].end - regions[i].start) >> shift
            if length == 1:  # by far the most where there are many
                mask[at] = not others
            else:
                memset(mask + at, not others, length)


cdef uint64_t matching(const match_t *match, uint64_t rest, size_t pages,
                       const abi.page_region *regions, int count) noexcept nogil:
    """Count the pages of a span that match."""
    cdef uint8_t others = matches(match, rest)
    cdef uint64_t differing = 0
    cdef int i
    for i in range(count):
        if matches(match, regions[i].categories) != others:
            differing += regions[i].end - regions[i].start
    differing >>= PAGE_SHIFT
    return pages - differing if others else differing


cdef void put(const plan_t *plan, decoded_t *into, const cursor_t *cursor,
              uint64_t start, uint64_t end,
              const abi.page_region *regions, int count) noexcept nogil:
    """Answer for the pages of a span whose categories say it all."""
    cdef size_t at = (start - cursor.start) >> PAGE_SHIFT, pages = (end - start) >> PAGE_SHIFT
    cdef uint64_t rest = abi.PAGE_IS_PRESENT if cursor.mode == COMPLEMENT else 0
    cdef int i, question
    if not pages:
        return
    if into.entries is not NULL:
        memset(into.entries + at, 0, pages * sizeof(uint64_t))
    for i in range(plan.answers):
        question = plan.answered[i]
        if into.masks[question] is not NULL:
            put_mask(into.masks[question] + at, &plan.yes[question], rest, start, pages,
                     regions, count)
        if into.counts[question] is not NULL:
            into.counts[question][0] += matching(&plan.yes[question], rest, pages, regions, count)


cdef inline bint unsure(const plan_t *plan, uint64_t categories) noexcept nogil:
    """Return whether the entries of such pages have to be read."""
    cdef int i
    for i in range(plan.verifies):
        if matches(&plan.verify[i], categories):
            return True
    return False


cdef int next_unsure(const plan_t *plan, const abi.page_region *regions, int first,
                     int count) noexcept nogil:
    """Return the first of the regions, from `first` on, whose entries have to be read."""
    if not plan.verifies:
        return count
    while first < count and not unsure(plan, regions[first].categories):
        first += 1
    return first


cdef ssize_t put_regions(int fd, const cursor_t *cursor, const plan_t *plan, decoded_t *into,
                         const abi.page_region *regions, int count,
                         uint64_t reached) noexcept nogil:
    """Answer for all pages up to `reached`; return how many entries had to be read."""
    cdef uint64_t at = cursor.at, end
    cdef ssize_t read = 0, got
    cdef int done = 0, first = next_unsure(plan, regions, 0, count), last, further
    while first < count:
        # those that lie close together are read together
        last = first
        further = next_unsure(plan, regions, last + 1, count)
        while further < count and (
                regions[further].start - regions[last].end < <uint64_t> GAP << PAGE_SHIFT):
            last = further
            further = next_unsure(plan, regions, last + 1, count)
        put(plan, into, cursor, at, regions[first].start, regions + done, first - done)
        at = regions[first].start
        end = regions[last].end
        got = read_decoded(fd, at, (end - at) >> PAGE_SHIFT, into,
                           (at - cursor.start) >> PAGE_SHIFT)
        if got < 0:
            return got
        read += got
        at = end
        done = last + 1
        first = further
    put(plan, into, cursor, at, reached, regions + done, count - done)
    return read


cdef bint is_anonymous(const abi.procmap_query *query, const char *name) noexcept nogil:
    """Return whether no file is behind a mapping, nor the kernel itself, as behind [vdso]."""
    if query.inode or query.dev_major or query.dev_minor:
        return False
    return (query.vma_name_size == 0 or strcmp(name, b"[heap]") == 0
            or strcmp(name, b"[stack]") == 0 or strncmp(name, b"[anon:", 6) == 0)


cdef bint covered(int maps, uint64_t start, uint64_t end, bint anonymous) noexcept nogil:
    """Return whether a span is all mapped: asked afterwards, as the process may have unmapped it.

    A scan for pages that are not present does not report what is not mapped either, nor what is
    mapped and not walked: those who have not seen what is mapped have to ask for `anonymous`.
    """
    cdef abi.procmap_query query
    cdef char[NAME] name
    while start < end:
        memset(&query, 0, sizeof(query))
        query.size = sizeof(query)
        query.query_addr = start
        if anonymous:
            query.vma_name_addr = <uint64_t> &name[0]
            query.vma_name_size = NAME
        while abi.ioctl(maps, abi.PROCMAP_QUERY, &query) < 0:
            if errno != EINTR:
                return False
        if anonymous and not is_anonymous(&query, name):
            return False
        start = query.vma_end
    return True


cdef ssize_t scan_range(int fd, cursor_t *cursor, const plan_t *plan, decoded_t *into,
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
    # where pages match that have no page table, they are many, and cost nothing
    arg.max_pages = VOID_SEEN if plan.empties and pages >= VOID_SEEN else MOST_MATCHED
    arg.return_mask = plan.returns
    if cursor.mode == COMPLEMENT:
        arg.category_mask = arg.category_inverted = abi.PAGE_IS_PRESENT
    else:
        arg.category_anyof_mask = plan.anyof
    count = scan_once(fd, &arg, regions, REGIONS)
    if count < 0:
        return count
    took = now() - began
    reached = arg.start
    if cursor.mode == COMPLEMENT and not covered(
            cursor.maps, cursor.at, reached, plan.unseen):
        cursor.mode = DIRECT
        cursor.maps = -1
        return 0
    if reached <= cursor.at:  # no kernel is known to, but a loop must end
        cursor.mode = READ
        return 0
    read = put_regions(fd, cursor, plan, into, regions, count, reached)
    if read < 0:
        return read
    for i in range(count):
        matched += (regions[i].end - regions[i].start) >> PAGE_SHIFT
    pages = (reached - cursor.at) >> PAGE_SHIFT
    cursor.at = reached
    if 2 * read > <ssize_t> pages:
        cursor.mode = READ
    elif 2 * matched > pages and plan.complement and cursor.maps >= 0:
        cursor.mode = DIRECT if cursor.mode == COMPLEMENT else COMPLEMENT
        cursor.read_pages = READ_FIRST
    else:
        cursor.read_pages = READ_FIRST
    pace(cursor, pages, took)
    return 0


cdef ssize_t skip_void(int fd, cursor_t *cursor, const plan_t *plan,
                       decoded_t *into) noexcept nogil:
    """Answer for the pages ahead that are not there."""
    cdef ssize_t pages = void_ahead(fd, cursor)
    cdef uint64_t end
    if pages > 0:
        cursor.mode = DIRECT
        end = cursor.at + (<uint64_t> pages << PAGE_SHIFT)
        put(plan, into, cursor, cursor.at, end, NULL, 0)
        cursor.at = end
    return pages


cdef ssize_t read_range(int fd, cursor_t *cursor, decoded_t *into, uint64_t pages) noexcept nogil:
    """Read the entries of some pages, more each time, then try again how a scan does."""
    cdef ssize_t got = read_decoded(fd, cursor.at, pages, into,
                                    (cursor.at - cursor.start) >> PAGE_SHIFT)
    cursor.at += pages << PAGE_SHIFT
    cursor.read_pages = min(<uint64_t> READ_MOST, 2 * cursor.read_pages)
    cursor.mode = DIRECT
    cursor.pages = FIRST
    return got


cdef ssize_t advance(int fd, cursor_t *cursor, const plan_t *plan,
                     decoded_t *into) noexcept nogil:
    """Answer for the pages of a span from where the cursor stands, for some time or to its end."""
    cdef uint64_t began = now(), left
    cdef ssize_t got
    if not slowness:
        measure(fd)
    while cursor.at < cursor.end:
        left = (cursor.end - cursor.at) >> PAGE_SHIFT
        if cursor.mode == READ:
            got = read_range(fd, cursor, into, min(left, cursor.read_pages))
        elif cursor.void and not plan.empties:
            got = skip_void(fd, cursor, plan, into)
        else:
            got = scan_range(fd, cursor, plan, into, min(left, cursor.pages))
        if got < 0:
            return got
        if now() - began > SLICE:
            break
    return 0


cdef void rewind(cursor_t *cursor, int maps, uint64_t start, uint64_t end) noexcept nogil:
    cursor.maps = maps
    cursor.start = cursor.at = start
    cursor.end = end
    cursor.mode = DIRECT
    cursor.pages = FIRST
    cursor.read_pages = READ_FIRST
    cursor.void = False


cdef int still_there(int fd, object path) except -1:
    """Raise ProcessLookupError if the process has gone meanwhile.

    While its memory is torn down a scan finds less and less of it, and does not say why. Reading
    does: what was scanned before the process could still be read from was scanned in whole.
    """
    cdef ssize_t got
    cdef uint64_t entry
    with nogil:
        got = read_entries(fd, 0, &entry, 1)
    if got < 0:
        raise failure(-got, path)
    return 0


# ---- for Python --------------------------------------------------------------------------------

cdef class Plan:
    """How some questions are answered by scanning: see `plans`."""

    cdef plan_t plan

    def __cinit__(self, uint64_t anyof, uint64_t returns, bint complement, tuple verify,
                  dict answers):
        cdef int question
        self.plan.anyof = anyof
        self.plan.empties = bool(anyof & abi.PAGE_IS_SOFT_DIRTY)
        self.plan.returns = returns
        self.plan.complement = complement
        for bits, value in verify:
            self.plan.verify[self.plan.verifies].bits = bits
            self.plan.verify[self.plan.verifies].value = value
            self.plan.verifies += 1
        for name, (bits, value) in answers.items():
            question = QUESTION_NUMBERS[name]
            self.plan.yes[question].bits = bits
            self.plan.yes[question].value = value
            self.plan.answered[self.plan.answers] = question
            self.plan.answers += 1


def fill(int fd, int maps, object path, uint64_t start, size_t count, dict masks,
         Plan plan):
    """Fill `masks`, arrays of `count` bytes by the question's name, by scanning mapped pages."""
    cdef Sinks sinks = Sinks(masks, count)
    cdef cursor_t cursor
    cdef ssize_t got
    rewind(&cursor, maps, start, start + (<uint64_t> count << PAGE_SHIFT))
    while cursor.at < cursor.end:
        with nogil:
            got = advance(fd, &cursor, &plan.plan, &sinks.into)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    still_there(fd, path)


cdef ssize_t count_some(int fd, int maps, const uint64_t *starts, const uint64_t *ends,
                        size_t spans, const plan_t *plan, decoded_t *into, cursor_t *cursor,
                        size_t *span) noexcept nogil:
    """Count in some of the spans, each into its own place, from `span` and its `cursor` on."""
    cdef uint64_t began = now()
    cdef ssize_t got
    cdef int i
    while span[0] < spans and now() - began < SLICE:
        got = advance(fd, cursor, plan, into)
        if got < 0:
            return got
        if cursor.at < cursor.end:
            continue
        span[0] += 1
        if span[0] < spans:
            rewind(cursor, maps, starts[span[0]], ends[span[0]])
        for i in range(plan.answers):
            into.counts[plan.answered[i]] += 1
    return 0


def count(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
          tuple questions, uint64_t[:, ::1] counts, int maps, Plan plan):
    """Count pages: `counts[i, j]` grows by how often question i is answered yes in span j."""
    cdef decoded_t into
    cdef cursor_t cursor
    cdef size_t spans = starts.shape[0], span = 0
    cdef ssize_t got
    cdef int row
    if ends.shape[0] != starts.shape[0] or counts.shape[1] != starts.shape[0]:
        raise ValueError("starts, ends and the rows of counts differ in length")
    if counts.shape[0] != len(questions) or plan.plan.answers != len(questions):
        raise ValueError(f"{counts.shape[0]} rows, {plan.plan.answers} planned: {questions}")
    if not spans:
        return
    memset(&into, 0, sizeof(into))
    into.answers = True
    for row, name in enumerate(questions):
        into.counts[<int> QUESTION_NUMBERS[name]] = &counts[row, 0]
    rewind(&cursor, maps, starts[0], ends[0])
    while span < spans:
        with nogil:
            got = count_some(fd, maps, &starts[0], &ends[0], spans, &plan.plan, &into,
                             &cursor, &span)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    still_there(fd, path)


def read(int fd, object path, uint64_t start, uint64_t[::1] entries, Plan plan):
    """Read one entry a page from `start` on; pages that a scan shows empty are not read but 0."""
    cdef decoded_t into
    cdef cursor_t cursor
    cdef ssize_t got
    memset(&into, 0, sizeof(into))
    into.entries = &entries[0]
    rewind(&cursor, -1, start, start + (<uint64_t> entries.shape[0] << PAGE_SHIFT))
    # touched memory is read anyway: first see whether it is
    cursor.mode = READ
    while cursor.at < cursor.end:
        with nogil:
            got = advance(fd, &cursor, &plan.plan, &into)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    still_there(fd, path)


# ---- regions -----------------------------------------------------------------------------------

cdef ssize_t scan_next(int fd, cursor_t *cursor, const abi.scan_arg *asked,
                       abi.page_region *regions, int room) noexcept nogil:
    """Scan some pages from where the cursor stands, and move it; return how many regions."""
    cdef abi.scan_arg arg = asked[0]
    cdef uint64_t began = now(), pages = min((cursor.end - cursor.at) >> PAGE_SHIFT, cursor.pages)
    cdef ssize_t count
    if not slowness:
        measure(fd)
        began = now()
    arg.max_pages = MOST_MATCHED if cursor.pages < VOID_SEEN else VOID_SEEN
    if cursor.void:
        count = void_ahead(fd, cursor)
        if count < 0:
            return count
        # what is not there is told at no cost, however much it is
        if count > 0:
            pages = count
            arg.max_pages = 0
    arg.start = cursor.at
    arg.end = cursor.at + (pages << PAGE_SHIFT)
    count = scan_once(fd, &arg, regions, min(room, <int> REGIONS))
    if count < 0:
        return count
    pages = (arg.start - cursor.at) >> PAGE_SHIFT
    cursor.at = max(arg.start, cursor.at + (<uint64_t> 1 << PAGE_SHIFT))
    pace(cursor, pages, now() - began)
    return count


cdef int keep(found_t *found, const abi.page_region *regions, int count) noexcept nogil:
    """Append regions; those that go on where the last one of the same categories ended, join it."""
    cdef abi.page_region *last
    cdef void *grown
    cdef int i
    if found.count + count > found.room:
        found.room = 2 * found.room + REGIONS
        grown = realloc(found.regions, found.room * sizeof(abi.page_region))
        if grown is NULL:
            return -ENOMEM
        found.regions = <abi.page_region *> grown
    for i in range(count):
        if found.count:
            last = &found.regions[found.count - 1]
            if last.end == regions[i].start and last.categories == regions[i].categories:
                last.end = regions[i].end
                continue
        found.regions[found.count] = regions[i]
        found.count += 1
    return 0


cdef ssize_t collect(int fd, cursor_t *cursor, const abi.scan_arg *asked,
                     found_t *found) noexcept nogil:
    """Collect the regions of a span from where the cursor stands, for some time or to its end."""
    cdef abi.page_region[REGIONS] regions
    cdef uint64_t began = now()
    cdef ssize_t count
    cdef int problem
    while cursor.at < cursor.end and now() - began < SLICE:
        count = scan_next(fd, cursor, asked, regions, REGIONS)
        if count < 0:
            return count
        problem = keep(found, regions, count)
        if problem < 0:
            return problem
    return 0


def regions(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
            uint64_t mask, uint64_t anyof, uint64_t inverted, uint64_t returns):
    """Return the regions of some spans, as bytes: `struct page_region`s, sorted and merged."""
    cdef abi.scan_arg asked
    cdef found_t found
    cdef cursor_t cursor
    cdef ssize_t got
    cdef size_t i
    memset(&asked, 0, sizeof(asked))
    memset(&found, 0, sizeof(found))
    asked.category_mask = mask
    asked.category_anyof_mask = anyof
    asked.category_inverted = inverted
    asked.return_mask = returns
    try:
        for i in range(<size_t> starts.shape[0]):
            rewind(&cursor, -1, starts[i], ends[i])
            while cursor.at < cursor.end:
                with nogil:
                    got = collect(fd, &cursor, &asked, &found)
                if got < 0:
                    raise failure(-got, path)
                PyErr_CheckSignals()
        still_there(fd, path)
        return PyBytes_FromStringAndSize(<char *> found.regions,
                                         found.count * sizeof(abi.page_region))
    finally:
        free(found.regions)


cdef ssize_t find(int fd, cursor_t *cursor, uint64_t step, found_t *found) noexcept nogil:
    """Find blocks of pages that are not all empty, for some time or to the span's end."""
    cdef abi.page_region block
    cdef uint64_t began = now()
    cdef ssize_t count
    cdef int problem
    block.categories = 0
    while cursor.at < cursor.end and now() - began < SLICE:
        count = void_ahead(fd, cursor)
        if count < 0:
            return count
        if count > 0:
            cursor.at += <uint64_t> count << PAGE_SHIFT
            continue
        block.start = cursor.at
        block.end = cursor.at = min(cursor.end, (cursor.at // step + 1) * step)
        problem = keep(found, &block, 1)
        if problem < 0:
            return problem
    return 0


def extents(int fd, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
            uint64_t pages):
    """Return where anything is present or swapped in some spans, as bytes, like `regions`.

    Each begins with a page that is, and goes on to where a block of so many pages has none.
    """
    cdef found_t found
    cdef cursor_t cursor
    cdef ssize_t got
    cdef size_t i
    memset(&found, 0, sizeof(found))
    try:
        for i in range(<size_t> starts.shape[0]):
            rewind(&cursor, -1, starts[i], ends[i])
            while cursor.at < cursor.end:
                with nogil:
                    got = find(fd, &cursor, pages << PAGE_SHIFT, &found)
                if got < 0:
                    raise failure(-got, path)
                PyErr_CheckSignals()
        still_there(fd, path)
        return PyBytes_FromStringAndSize(<char *> found.regions,
                                         found.count * sizeof(abi.page_region))
    finally:
        free(found.regions)
