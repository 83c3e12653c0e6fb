"""Compare two sorted lists of runs, walked side by side."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport UINT64_MAX, uint8_t, uint64_t

# A row of RUN_DTYPE.
ctypedef struct run_t:
    uint64_t start
    uint64_t end
    uint64_t state

# A row of CHANGE_DTYPE.
ctypedef struct change_t:
    uint64_t start
    uint64_t end
    uint64_t before
    uint64_t after

# A stretch with at most one mapping before, and at most one after.
ctypedef struct segment_t:
    uint64_t start
    uint64_t end
    uint64_t same    # whether it shows the same memory before and after

# Where a walk over a list of runs is: the first run that ends above the current address.
ctypedef struct cursor_t:
    const run_t *next
    const run_t *last
    run_t run

# The changes found so far.
ctypedef struct found_t:
    change_t *changes
    uint8_t *replaced
    size_t count
    size_t capacity


cdef inline void load(cursor_t *cursor) noexcept nogil:
    """Load the cursor's run; after the last one, a run beyond all addresses."""
    if cursor.next < cursor.last:
        cursor.run = cursor.next[0]
    else:
        cursor.run.start = cursor.run.end = UINT64_MAX
        cursor.run.state = 0


cdef inline void move_to(cursor_t *cursor, uint64_t address) noexcept nogil:
    """Move the cursor to the first run that ends above an address."""
    # Adding the comparison, in place of a branch on it: which list ends first is random.
    cursor.next += cursor.run.end <= address
    load(cursor)
    while cursor.run.end <= address and cursor.next < cursor.last:  # only where runs overlap
        cursor.next += 1
        load(cursor)


cdef inline uint64_t skip_equal(cursor_t *one, cursor_t *two, uint64_t at,
                                uint64_t end) noexcept nogil:
    """Skip runs that are equal in both lists; return the address behind the last one."""
    while (one.run.start == two.run.start and one.run.end == two.run.end
           and one.run.state == two.run.state
           and at < one.run.end <= end
           and one.next < one.last and two.next < two.last):
        at = one.run.end
        one.next += 1
        two.next += 1
        load(one)
        load(two)
    return at


cdef int walk(cursor_t *one, cursor_t *two, const segment_t *segment,
              found_t *found) noexcept nogil:
    """Add the changes within one segment; return -1 if there is no space for them."""
    cdef uint64_t at = segment.start, before, after, end
    cdef size_t first = found.count
    cdef change_t *change
    cdef change_t *last
    cdef bint inside
    move_to(one, at)
    move_to(two, at)
    while at < segment.end:
        if segment.same:
            at = skip_equal(one, two, at, segment.end)
            if at >= segment.end:
                break
        end = segment.end
        inside = one.run.start <= at
        before = one.run.state if inside else 0
        end = min(end, one.run.end if inside else one.run.start)
        inside = two.run.start <= at
        after = two.run.state if inside else 0
        end = min(end, two.run.end if inside else two.run.start)
        if before != after or (not segment.same and before | after):
            change = found.changes + found.count
            last = change - 1 if found.count > first else NULL
            if (last is not NULL and last.end == at
                    and last.before == before and last.after == after):
                last.end = end
            elif found.count == found.capacity:
                return -1
            else:
                change.start, change.end = at, end
                change.before, change.after = before, after
                found.replaced[found.count] = not segment.same
                found.count += 1
        at = end
        move_to(one, at)
        move_to(two, at)
    return 0


def compare_runs(object before, object after, object segments, object changes, object replaced):
    """Fill in what changed between two lists of runs; return how many changes there are.

    All are C-contiguous buffers. `before` and `after` have rows of RUN_DTYPE, sorted and apart;
    `segments` has rows of three uint64, sorted and apart too: start, end, and whether the same
    memory is mapped there in both. `changes` gets rows of CHANGE_DTYPE, `replaced` for each a byte:
    whether something else is mapped there. No change reaches from one segment into the next.
    """
    cdef Py_buffer[5] views
    cdef int held = 0, problem = 0
    cdef cursor_t one, two
    cdef const segment_t *segment
    cdef const segment_t *last
    cdef found_t found
    try:
        for buffer in (before, after, segments, changes, replaced):
            PyObject_GetBuffer(buffer, &views[held], PyBUF_SIMPLE if held < 3 else PyBUF_WRITABLE)
            held += 1
        one.next, two.next = <const run_t *> views[0].buf, <const run_t *> views[1].buf
        one.last = one.next + views[0].len // sizeof(run_t)
        two.last = two.next + views[1].len // sizeof(run_t)
        segment = <const segment_t *> views[2].buf
        last = segment + views[2].len // sizeof(segment_t)
        found.changes, found.replaced = <change_t *> views[3].buf, <uint8_t *> views[4].buf
        found.count = 0
        found.capacity = min(views[3].len // sizeof(change_t), <size_t> views[4].len)
        with nogil:
            load(&one)
            load(&two)
            while segment < last and problem == 0:
                problem = walk(&one, &two, segment, &found)
                segment += 1
        if problem < 0:
            raise ValueError(f"more than {found.capacity} changes")
        return found.count
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&views[held])
