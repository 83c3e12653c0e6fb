"""Filling the masks, counts, states and runs of a sink with what a walk finds out about pages."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.collecting cimport collect_frames, collect_huge, collect_swapped
from fastpagemap._kernel.growing cimport append
from fastpagemap._kernel.reading cimport PAGE_SHIFT


cdef inline uint8_t matches(const asked_t *asked, uint64_t state) noexcept nogil:
    return (state & asked.bits) == asked.value


cdef inline int append_run(sink_t *sink, uint64_t start, uint64_t end,
                           uint16_t state) noexcept nogil:
    cdef abi.page_region run
    run.start, run.end, run.categories = start, end, state & sink.run_states
    if run.categories == 0:
        return 0
    return append(sink.runs, &run, 1, sink.barrier)


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
