"""Find the folios behind present pages: from their entries and /proc/kpageflags, without the GIL.

A folio of 2**order pages begins at a frame that is a multiple of that. Its first frame is a head,
all others are tails. So the head of a tail is the nearest head among the frames that have more and
more low bits cleared; and the order is the first at which the frame 2**order after the head is no
tail. That takes a few reads, however large the folio is.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EPERM
from libc.stdint cimport uint64_t

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.frames cimport WINDOW_FRAMES, read_window
from fastpagemap._kernel.reading cimport PAGE_SHIFT, read_entries

from .failures import failure

cdef enum:
    # Pages whose entries are read at a time, and may be read again.
    BATCH = 1024
    # Batches between two checks for a pending signal.
    SIGNAL_CHECK_BATCHES = 64
    # What is read of the flags at first: the next frames may be of a large folio.
    MIN_AHEAD = 8
    MAX_ORDER = 40
    # How often a batch is read again, if folios were split or pages moved meanwhile.
    MAX_TRIES = 4

BATCH_PAGES = BATCH

cdef uint64_t HEAD = <uint64_t> 1 << 15
cdef uint64_t TAIL = <uint64_t> 1 << 16

# FOLIO_DTYPE
ctypedef struct row_t:
    uint64_t start
    uint64_t end
    uint64_t frame
    uint64_t order
    uint64_t flags

ctypedef struct view_t:
    int file
    bint lenient    # take a page for a small one where its folio is not to be made out
    uint64_t first  # of the frames in the window
    size_t known
    size_t ahead
    uint64_t[WINDOW_FRAMES] window
    row_t *rows
    size_t count


cdef ssize_t flags_of(view_t *view, uint64_t frame, size_t ahead, uint64_t *flags) noexcept nogil:
    """Get a frame's flags: from the window, or by reading it and those that follow."""
    cdef ssize_t got
    if frame - view.first < view.known:
        flags[0] = view.window[frame - view.first]
        return 0
    if not ahead:  # alone, and the window stays
        return read_window(view.file, frame, 1, flags)
    view.known = 0
    got = read_window(view.file, frame, ahead, view.window)
    if got < 0:
        return got
    view.first, view.known = frame, ahead
    flags[0] = view.window[0]
    return 0


cdef ssize_t find_folio(view_t *view, uint64_t frame, row_t *row) noexcept nogil:
    """Find the order and the head's flags of the folio of a frame whose flags are in the row."""
    cdef uint64_t head = frame, flags
    cdef int order = 0
    cdef ssize_t got
    while not row.flags & HEAD:
        order += 1
        if order > MAX_ORDER or not row.flags & TAIL:
            return -EAGAIN
        head &= ~(((<uint64_t> 1) << order) - 1)
        got = flags_of(view, head, 0, &row.flags)
        if got < 0:
            return got
    order = 0
    while order <= MAX_ORDER:
        got = flags_of(view, head + ((<uint64_t> 1) << order), 0, &flags)
        if got < 0:
            return got
        if not flags & TAIL:
            break
        order += 1
    # The folio was split, or it is another by now.
    if head & (((<uint64_t> 1) << order) - 1) or frame - head >= (<uint64_t> 1) << order:
        return -EAGAIN
    row.order = order
    return 0


cdef size_t continue_folio(view_t *view, uint64_t address, uint64_t frame,
                           size_t pages) noexcept nogil:
    """Lengthen the last row by those pages that continue its folio; return how many."""
    cdef row_t *last
    cdef uint64_t left
    if not view.count:
        return 0
    last = &view.rows[view.count - 1]
    if (last.end != address or frame >> last.order != last.frame >> last.order
            or frame - last.frame != (last.end - last.start) >> PAGE_SHIFT):
        return 0
    left = (((frame >> last.order) + 1) << last.order) - frame
    left = min(left, <uint64_t> pages)
    last.end += left << PAGE_SHIFT
    return left


cdef ssize_t put_run(view_t *view, uint64_t address, uint64_t frame, size_t pages) noexcept nogil:
    """Add the folios of pages that follow each other, in memory and at their addresses."""
    cdef row_t *row
    cdef uint64_t flags = 0
    cdef ssize_t got
    cdef size_t taken
    while pages:
        taken = continue_folio(view, address, frame, pages)
        if not taken:
            row = &view.rows[view.count]
            got = flags_of(view, frame, min(view.ahead, pages), &flags)
            if got < 0:
                return got
            row.start = address
            row.end = address + (<uint64_t> 1 << PAGE_SHIFT)
            row.frame, row.order, row.flags = frame, 0, flags
            if flags & (HEAD | TAIL):
                view.ahead = MIN_AHEAD
                got = find_folio(view, frame, row)
                if got == -EAGAIN and view.lenient:
                    row.order, row.flags = 0, flags
                elif got < 0:
                    return got
            else:
                view.ahead = min(2 * view.ahead, <size_t> WINDOW_FRAMES)
            view.count += 1
            taken = 1
        address += <uint64_t> taken << PAGE_SHIFT
        frame += taken
        pages -= taken
    return 0


cdef uint64_t frame_of(uint64_t entry) noexcept nogil:
    """Return the frame of a present page; 0 for others, and where frames are hidden."""
    if not entry >> abi.PM_PRESENT & 1:
        return 0
    return entry & ((<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1)


cdef ssize_t put_batch(view_t *view, uint64_t start, const uint64_t *entries,
                       size_t count) noexcept nogil:
    """Add the folios of a batch, by its entries."""
    cdef size_t at = 0, first
    cdef uint64_t frame
    cdef ssize_t got
    view.known, view.ahead = 0, MIN_AHEAD
    while at < count:
        frame = frame_of(entries[at])
        first = at
        at += 1
        if not frame:
            if entries[first] >> abi.PM_PRESENT & 1:
                return -EPERM
            continue
        while at < count and frame_of(entries[at]) == frame + (at - first):
            at += 1
        got = put_run(view, start + (<uint64_t> first << PAGE_SHIFT), frame, at - first)
        if got < 0:
            return got
    return 0


cdef bint same_frames(const uint64_t *before, const uint64_t *after, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        if frame_of(before[i]) != frame_of(after[i]):
            return False
    return True


cdef ssize_t find_batch(int pagemap, view_t *view, uint64_t start, size_t pages) noexcept nogil:
    """Add the folios of some pages; anew if any was mapped elsewhere, or split, meanwhile."""
    cdef uint64_t[BATCH] before, after
    cdef size_t count = view.count
    cdef uint64_t end = view.rows[count - 1].end if count else 0
    cdef ssize_t got
    cdef int tries
    for tries in range(MAX_TRIES):
        view.count = count
        if count:
            view.rows[count - 1].end = end
        view.lenient = tries == MAX_TRIES - 1
        got = read_entries(pagemap, start, before, pages)
        if got >= 0:
            got = put_batch(view, start, before, pages)
        if got == -EAGAIN:
            continue
        if got >= 0:
            got = read_entries(pagemap, start, after, pages)
        if got < 0 or same_frames(before, after, pages):
            return got
    return 0


# ---- for Python --------------------------------------------------------------------------------

def read_spans(int pagemap, object path, const uint64_t[::1] starts, const uint64_t[::1] ends,
               uint64_t[::1] entries):
    """Read the entries of some spans, one after the other, until `entries` is full."""
    cdef Py_ssize_t i
    cdef size_t done = 0, pages
    cdef ssize_t got = 0
    with nogil:
        for i in range(starts.shape[0]):
            pages = (ends[i] - starts[i]) >> PAGE_SHIFT
            if done + pages > <size_t> entries.shape[0]:
                break
            got = read_entries(pagemap, starts[i], &entries[done], pages)
            if got < 0:
                break
            done += pages
    if got < 0:
        raise failure(-got, path)
    PyErr_CheckSignals()


def find(int pagemap, object path, int flags, const uint64_t[::1] starts, const uint64_t[::1] ends,
         Py_ssize_t at, uint64_t address, uint64_t[:, ::1] rows, size_t count):
    """Find the folios of spans from the one at `at` on, at `address`, until `rows` are full.

    Rows from `count` on are filled; the last one before may be lengthened. Returns the new count,
    and where to go on.
    """
    cdef view_t view
    cdef size_t pages, capacity = rows.shape[0]
    cdef ssize_t got = 0
    cdef int left
    view.file, view.rows, view.count = flags, <row_t *> &rows[0, 0], count
    while at < starts.shape[0] and capacity - view.count >= BATCH:
        with nogil:
            left = SIGNAL_CHECK_BATCHES
            while left:
                left -= 1
                if at == starts.shape[0] or capacity - view.count < BATCH:
                    break
                address = max(address, starts[at])
                pages = min(<uint64_t> BATCH, (ends[at] - address) >> PAGE_SHIFT)
                got = find_batch(pagemap, &view, address, pages)
                if got < 0:
                    break
                address += <uint64_t> pages << PAGE_SHIFT
                if address >= ends[at]:
                    at += 1
                    address = 0
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    return view.count, at, address
