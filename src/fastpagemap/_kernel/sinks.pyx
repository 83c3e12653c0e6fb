"""Sinks: masks, counts, states, runs of states, entries, frames: filled during a walk."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.collecting cimport (collect_frames, collect_huge, collect_swapped,
                                             numbers_t)
from fastpagemap._kernel.decoding cimport (BATCH_PAGES, EXCLUSIVE, HUGE, USER_STATE,
                                           decode_states, doubt_types)
from fastpagemap._kernel.frame_table cimport FrameTable
from fastpagemap._kernel.reading cimport PAGE_SHIFT

cdef enum:
    # Regions that a growing array begins with.
    FIRST_CAPACITY = 512


cdef inline uint8_t matches(const asked_t *asked, uint64_t state) noexcept nogil:
    return (state & asked.bits) == asked.value


# ---- growing arrays ----------------------------------------------------------------------------

cdef int reserve(found_t *found, size_t more) noexcept nogil:
    """Make sure that `more` regions fit."""
    cdef size_t capacity = max(2 * found.capacity, found.count + more + FIRST_CAPACITY)
    cdef void *grown
    if found.count + more <= found.capacity:
        return 0
    grown = realloc(found.regions, capacity * sizeof(abi.page_region))
    if grown is NULL:
        return -ENOMEM
    found.regions = <abi.page_region *> grown
    found.capacity = capacity
    return 0


# Raises MemoryError if so many items, of so many bytes each, do not fit into free memory.
cdef object afford = None


def limit_growth(object affordable):
    """Set the function that checks whether what grows still fits into free memory."""
    global afford
    afford = affordable


cdef int check_growth(found_t *found) except -1:
    if found.capacity > found.checked and afford is not None:
        # Twice: it is copied once at the end.
        afford(found.capacity, 2 * sizeof(abi.page_region), "regions")
        found.checked = found.capacity
    return 0


cdef int check_numbers(numbers_t *found) except -1:
    if found.capacity > found.checked and afford is not None:
        afford(found.capacity, 2 * sizeof(uint64_t), "frames or swap locations")
        found.checked = found.capacity
    return 0


cdef int append(found_t *found, const abi.page_region *regions, int count,
                uint64_t barrier) noexcept nogil:
    """Append regions. A region that continues the last one joins it, unless at the barrier."""
    cdef abi.page_region *last
    cdef int i
    if reserve(found, count) < 0:
        return -ENOMEM
    for i in range(count):
        if found.count:
            last = &found.regions[found.count - 1]
            if (last.end == regions[i].start and last.categories == regions[i].categories
                    and last.end != barrier):
                last.end = regions[i].end
                continue
        found.regions[found.count] = regions[i]
        found.count += 1
    return 0


cdef inline int append_run(sink_t *sink, uint64_t start, uint64_t end,
                           uint16_t state) noexcept nogil:
    cdef abi.page_region run
    run.start, run.end, run.categories = start, end, state & sink.run_states
    if run.categories == 0:
        return 0
    return append(sink.runs, &run, 1, sink.barrier)


# ---- filling -----------------------------------------------------------------------------------

cdef void fill(uint16_t *states, uint16_t state, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        states[i] = state


cdef int put_state(sink_t *sink, uint64_t start, uint64_t end, uint16_t state) noexcept nogil:
    cdef uint64_t first = (start - sink.origin) >> PAGE_SHIFT, pages = (end - start) >> PAGE_SHIFT
    cdef asked_t *asked
    cdef uint8_t yes
    cdef int i
    for i in range(sink.answers):
        asked = &sink.asked[i]
        yes = matches(asked, state)
        if asked.mask is not NULL:
            memset(asked.mask + first, yes, pages)
        if yes and asked.count is not NULL:
            asked.count[0] += pages
    if sink.states is not NULL:
        fill(sink.states + first, state, pages)
    if sink.runs is not NULL:
        return append_run(sink, start, end, state)
    return 0


cdef void answer(const asked_t *asked, size_t first, const uint16_t *states,
                 size_t count) noexcept nogil:
    """Answer one question for at most BATCH_PAGES pages."""
    cdef uint16_t bits = asked.bits, value = asked.value, total = 0
    cdef uint8_t *mask = asked.mask
    cdef size_t i
    if mask is not NULL:
        mask += first
        for i in range(count):
            mask[i] = (states[i] & bits) == value
    if asked.count is not NULL:
        # 16 bits cannot overflow within a batch.
        for i in range(count):
            total += <uint16_t> ((states[i] & bits) == value)
        asked.count[0] += total


cdef size_t run_end(const uint16_t *states, size_t first, size_t count) noexcept nogil:
    """Return where another state begins; compare four pages at a time."""
    cdef uint64_t wanted = states[first] * <uint64_t> 0x0001000100010001, four
    cdef size_t at = first + 1
    while at + 4 <= count:
        memcpy(&four, states + at, sizeof(four))
        if four != wanted:
            break
        at += 4
    while at < count and states[at] == states[first]:
        at += 1
    return at


cdef int put_states(sink_t *sink, uint64_t start, const uint16_t *states,
                    size_t count) noexcept nogil:
    cdef size_t first = (start - sink.origin) >> PAGE_SHIFT, at = 0, end
    cdef int i, shift = PAGE_SHIFT
    for i in range(sink.answers):
        answer(&sink.asked[i], first, states, count)
    if sink.states is not NULL:
        memcpy(sink.states + first, states, count * sizeof(uint16_t))
    while sink.runs is not NULL and at < count:
        end = run_end(states, at, count)
        if append_run(sink, start + (at << shift), start + (end << shift), states[at]) < 0:
            return -ENOMEM
        at = end
    return 0


cdef int put_pages(sink_t *sink, uint64_t start, const uint64_t *entries, const uint16_t *states,
                   size_t count) noexcept nogil:
    if sink.frames is not NULL and collect_frames(sink.frames, entries, states, count) < 0:
        return -ENOMEM
    if (sink.locations is not NULL
            and collect_swapped(sink.locations, entries, states, count) < 0):
        return -ENOMEM
    return put_states(sink, start, states, count)


cdef int put_huge_page(sink_t *sink, uint64_t start, uint64_t end, uint64_t entry,
                       uint16_t state) noexcept nogil:
    if (sink.frames is not NULL
            and collect_huge(sink.frames, entry, state, (end - start) >> PAGE_SHIFT) < 0):
        return -ENOMEM
    return put_state(sink, start, end, state)


cdef void put_mask(const asked_t *asked, size_t first, uint64_t start, size_t pages, uint16_t rest,
                   const abi.page_region *regions, int count) noexcept nogil:
    """Fill a mask from regions."""
    cdef uint8_t others = matches(asked, rest), inside = not others
    cdef uint8_t *mask = asked.mask + first
    cdef uint64_t bits = asked.bits, value = asked.value, length
    cdef size_t at
    cdef int i, shift = PAGE_SHIFT
    memset(mask, others, pages)
    for i in range(count):
        if ((regions[i].categories & bits) == value) != others:
            at = (regions[i].start - start) >> shift
            length = regions[i].end - regions[i].start
            if length == <uint64_t> 1 << shift:  # by far the most, if there are many regions
                mask[at] = inside
            else:
                memset(mask + at, inside, length >> shift)


cdef uint64_t count_matches(const asked_t *asked, size_t pages, uint16_t rest,
                            const abi.page_region *regions, int count) noexcept nogil:
    """Count the pages of a span that match."""
    cdef uint8_t others = matches(asked, rest)
    cdef uint64_t differing = 0
    cdef int i
    for i in range(count):
        if matches(asked, regions[i].categories) != others:
            differing += regions[i].end - regions[i].start
    differing >>= PAGE_SHIFT
    return pages - differing if others else differing


cdef int put_regions(sink_t *sink, uint64_t start, uint64_t end, uint16_t rest,
                     const abi.page_region *regions, int count) noexcept nogil:
    cdef size_t first = (start - sink.origin) >> PAGE_SHIFT, pages = (end - start) >> PAGE_SHIFT
    cdef uint64_t at = start
    cdef asked_t *asked
    cdef int i, shift = PAGE_SHIFT
    if not pages:
        return 0
    if sink.entries is not NULL:
        memset(sink.entries + first, 0, pages * sizeof(uint64_t))
    for i in range(sink.answers):
        asked = &sink.asked[i]
        if asked.mask is not NULL:
            put_mask(asked, first, start, pages, rest, regions, count)
        if asked.count is not NULL:
            asked.count[0] += count_matches(asked, pages, rest, regions, count)
    if sink.states is not NULL:
        fill(sink.states + first, rest, pages)
        for i in range(count):
            fill(sink.states + ((regions[i].start - sink.origin) >> shift),
                 regions[i].categories, (regions[i].end - regions[i].start) >> shift)
    if sink.runs is NULL:
        return 0
    for i in range(count):
        if (at < regions[i].start and append_run(sink, at, regions[i].start, rest) < 0) or (
                append_run(sink, regions[i].start, regions[i].end, regions[i].categories) < 0):
            return -ENOMEM
        at = regions[i].end
    return append_run(sink, at, end, rest) if at < end else 0


cdef object take(numbers_t *found):
    taken = PyBytes_FromStringAndSize(<char *> found.numbers, found.count * sizeof(uint64_t))
    found.count = 0
    return taken


# ---- for Python --------------------------------------------------------------------------------

cdef class Sink:
    """Where a walk puts its answers.

    Parameters
    ----------
    questions : tuple of (int, int)
        For each question `bits` and `value`: pages with ``(state & bits) == value`` are in it.
    origin : int
        The address of the first element of `masks`, `states` and `entries`.
    masks : tuple of arrays of bytes, optional
        One for each question, one byte a page, all of one length.
    runs, internal : bool, optional
        Whether runs of states are wanted, and whether with the internal flags.
    states, entries : arrays of uint16 and uint64, optional
        Get the state and the entry of every page.
    frames, all_frames : bool, optional
        Whether the frame numbers of present pages are wanted: of all, or of those that may be
        mapped more than once. The entry of a huge page does not tell that of all its pages.
    locations : bool, optional
        Whether the swap types and offsets of swapped pages are wanted.
    table : FrameTable, optional
        Where these frames are counted, instead of kept.
    """

    def __cinit__(self, tuple questions, uint64_t origin=0, tuple masks=(), bint runs=False,
                  uint16_t[::1] states=None, uint64_t[::1] entries=None, bint internal=False,
                  bint frames=False, bint all_frames=False, bint locations=False,
                  FrameTable table=None):
        cdef Py_buffer *view
        cdef int i
        self.kept = states, entries
        self.table = table
        if len(questions) > MAX_ASKED:
            raise ValueError(f"{len(questions)} questions: at most {MAX_ASKED} fit")
        self.sink.origin = origin
        self.sink.answers = len(questions)
        for i, (bits, value) in enumerate(questions):
            self.sink.asked[i].bits, self.sink.asked[i].value = bits, value
        self.count_for_itself()
        for i, mask in enumerate(masks):
            view = &self.views[i]
            PyObject_GetBuffer(mask, view, PyBUF_WRITABLE)
            self.held += 1
            if view.len != self.views[0].len:
                raise ValueError(f"a mask of {view.len} bytes beside one of {self.views[0].len}")
            self.sink.asked[i].mask = <uint8_t *> view.buf
            self.sink.asked[i].count = NULL
        if runs:
            self.sink.runs = &self.found
            self.sink.run_states = 0xFFFF if internal else USER_STATE
        if frames or all_frames:
            self.sink.frames = &self.frames
            self.frames.spared = EXCLUSIVE
            self.frames.bits = 0 if all_frames else EXCLUSIVE | HUGE
            if table is not None:
                self.frames.table = &table.table
        if locations:
            self.sink.locations = &self.locations
        if states is not None and states.shape[0]:
            self.sink.states = &states[0]
        if entries is not None and entries.shape[0]:
            self.sink.entries = &entries[0]

    def __dealloc__(self):
        free(self.found.regions)
        free(self.frames.found.numbers)
        free(self.locations.numbers)
        while self.held:
            self.held -= 1
            PyBuffer_Release(&self.views[self.held])

    cdef int check(self) except -1:
        """Raise MemoryError if what grows will not fit into free memory."""
        check_growth(&self.found)
        check_numbers(&self.frames.found)
        check_numbers(&self.locations)
        if self.table is not None:
            self.table.check()
        return 0

    cdef int count_for_itself(self) except -1:
        """Count into the sink's own totals again."""
        cdef int i
        for i in range(self.sink.answers):
            self.sink.asked[i].count = &self.totals[i]
        self.frames.kept = &self.frames_kept
        return 0

    def counts(self):
        """Return how many pages answered yes to each question since the last call."""
        cdef int i
        found = [self.totals[i] for i in range(self.sink.answers)]
        memset(self.totals, 0, sizeof(self.totals))
        return found

    def runs(self):
        """Return the runs as bytes: start, end and state, 64 bits each."""
        return PyBytes_FromStringAndSize(<char *> self.found.regions,
                                         self.found.count * sizeof(abi.page_region))

    def taken_frames(self):
        """Return the frame numbers as bytes, 64 bits each, in the order of the walk; begin anew."""
        return take(&self.frames.found)

    def taken_locations(self):
        """Return the swap locations likewise: the type in the lowest five bits, and the offset."""
        return take(&self.locations)

    @property
    def sees_frames(self):
        """Whether any frame number was another than 0."""
        return self.frames.seen != 0

    @property
    def run_count(self):
        """How many runs there are."""
        return self.found.count

    def clear(self, uint64_t start, uint64_t end):
        """Put a span without any page, of state 0."""
        if put_state(&self.sink, start, end, 0) < 0:
            raise MemoryError

    def put(self, uint64_t start, const uint16_t[::1] states, bint begins):
        """Put the states of pages; `begins`: a mapping begins at `start`."""
        cdef size_t done = 0, count = states.shape[0], part
        cdef int problem = 0
        if begins:
            self.sink.barrier = start
        with nogil:
            while done < count and problem == 0:
                part = min(count - done, <size_t> BATCH_PAGES)
                problem = put_states(&self.sink, start + (done << PAGE_SHIFT), &states[done], part)
                done += part
        if problem < 0:
            raise MemoryError
        self.check()

    def put_runs(self, uint64_t start, uint64_t end, const abi.page_region[::1] runs, bint begins):
        """Put a span of which all is in state 0 but some runs; `begins` as for `put`."""
        cdef const abi.page_region *first = &runs[0] if runs.shape[0] else NULL
        if begins:
            self.sink.barrier = start
        if put_regions(&self.sink, start, end, 0, first, runs.shape[0]) < 0:
            raise MemoryError
        self.check()

    def put_entries(self, uint64_t start, const uint64_t[::1] entries):
        """Put the entries of pages, from any kernel.

        Swap types that some kernels reserve, and others do not, make a page UNKNOWN.
        """
        cdef size_t done = 0, count = entries.shape[0], part
        cdef uint16_t[BATCH_PAGES] states
        cdef int problem = 0
        with nogil:
            while done < count and problem == 0:
                part = min(count - done, <size_t> BATCH_PAGES)
                decode_states(&entries[done], states, part)
                doubt_types(&entries[done], states, part)
                problem = put_states(&self.sink, start + (done << PAGE_SHIFT), states, part)
                done += part
        if problem < 0:
            raise MemoryError
        self.check()


def mask(const uint64_t[::1] entries, uint8_t[::1] mask, uint16_t bits, uint16_t value):
    """Answer one question about each entry into a mask of the same length."""
    cdef size_t done = 0, count = entries.shape[0], part
    cdef uint16_t[BATCH_PAGES] states
    cdef asked_t asked
    if entries.shape[0] != mask.shape[0]:
        raise ValueError(f"{entries.shape[0]} entries do not fit a mask of {mask.shape[0]}")
    if not count:
        return
    asked.bits, asked.value, asked.mask, asked.count = bits, value, &mask[0], NULL
    with nogil:
        while done < count:
            part = min(count - done, <size_t> BATCH_PAGES)
            decode_states(&entries[done], states, part)
            answer(&asked, done, states, part)
            done += part
