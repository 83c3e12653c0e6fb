"""Sinks: where a walk puts what it finds out about pages."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.decoding cimport (BATCH_PAGES, EXCLUSIVE, HUGE, USER_STATE,
                                           decode_states, doubt_types)
from fastpagemap._kernel.filling cimport (MAX_ASKED, answer, asked_t, put_regions, put_state,
                                          put_states)
from fastpagemap._kernel.frame_table cimport FrameTable
from fastpagemap._kernel.growing cimport check_growth, check_numbers, numbers_t
from fastpagemap._kernel.reading cimport PAGE_SHIFT


cdef object take(numbers_t *found):
    taken = PyBytes_FromStringAndSize(<char *> found.numbers, found.count * sizeof(uint64_t))
    found.count = 0
    return taken


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
