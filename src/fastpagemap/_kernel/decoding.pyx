"""The 64-bit entry decoded, many at a time. Pure: no I/O."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi

cdef uint64_t PFRAME = (<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1
cdef uint64_t SWAP_TYPE = (<uint64_t> 1 << abi.SWAP_TYPE_BITS) - 1

# Shifts and no comparisons, so that the compiler can vectorise the loops. All but one question is
# about the flags, bits 48-63: narrowed to 16 bits once, they answer each question at a quarter of
# the price.

cdef inline uint8_t bit(uint64_t entry, int number) noexcept nogil:
    return (entry >> number) & 1


cdef inline uint8_t flag(uint16_t flags, int number) noexcept nogil:
    return (flags >> (number - 48)) & 1


cdef inline uint8_t is_swapped(uint64_t entry) noexcept nogil:
    # Adding what is reserved carries out of the type's bits for the reserved types alone.
    # Those who may not see the type read 0: then bit 58 still tells guard regions apart.
    cdef uint64_t reserved = (
        (entry & SWAP_TYPE) + abi.SWAP_TYPES_RESERVED) >> abi.SWAP_TYPE_BITS
    return (entry >> abi.PM_SWAP) & ~(entry >> abi.PM_GUARD_REGION) & ~reserved & 1


cdef inline uint8_t answer(uint16_t flags, question_t question) noexcept nogil:
    cdef uint8_t present = flag(flags, abi.PM_PRESENT)
    if question == PRESENT:
        return present
    if question == SHARED:
        return present & flag(flags, abi.PM_FILE)
    if question == EXCLUSIVE:
        return present & flag(flags, abi.PM_MMAP_EXCLUSIVE)
    if question == SOFT_DIRTY:
        return flag(flags, abi.PM_SOFT_DIRTY)
    if question == UFFD_WP:
        return flag(flags, abi.PM_UFFD_WP)
    if question == GUARD:
        return flag(flags, abi.PM_GUARD_REGION)
    if question == NOT_PRESENT:
        return present ^ 1
    if question == HUGE:
        return 0
    return (present | flag(flags, abi.PM_SWAP)) ^ 1


cdef inline void mask_loop(const uint16_t *flags, uint8_t *mask, size_t count,
                           question_t question) noexcept nogil:
    cdef size_t i
    for i in range(count):
        mask[i] = answer(flags[i], question)


cdef void flags_mask(const uint16_t *flags, uint8_t *mask, size_t count,
                     question_t question) noexcept nogil:
    # The question is a constant in each branch: each loop is compiled, and vectorised, on its own.
    if question == PRESENT:
        mask_loop(flags, mask, count, PRESENT)
    elif question == SHARED:
        mask_loop(flags, mask, count, SHARED)
    elif question == EXCLUSIVE:
        mask_loop(flags, mask, count, EXCLUSIVE)
    elif question == SOFT_DIRTY:
        mask_loop(flags, mask, count, SOFT_DIRTY)
    elif question == UFFD_WP:
        mask_loop(flags, mask, count, UFFD_WP)
    elif question == GUARD:
        mask_loop(flags, mask, count, GUARD)
    elif question == NOT_PRESENT:
        mask_loop(flags, mask, count, NOT_PRESENT)
    elif question == HUGE:
        memset(mask, 0, count)
    else:
        mask_loop(flags, mask, count, EMPTY)


cdef void swapped_mask(const uint64_t *entries, const uint16_t *flags, uint8_t *mask,
                       size_t count) noexcept nogil:
    # Whether a swap entry is one is in its type, which is not among the flags: looked at only
    # where there is a swap entry.
    cdef size_t i
    cdef uint16_t seen = 0
    for i in range(count):
        seen |= flags[i]
    if flag(seen, abi.PM_SWAP):
        for i in range(count):
            mask[i] = is_swapped(entries[i])
    else:
        memset(mask, 0, count)


cdef void decode_batch(const uint64_t *entries, size_t count, size_t done,
                       const decoded_t *into) noexcept nogil:
    """Decode at most BATCH entries into everything that is wanted, `done` elements in."""
    cdef uint16_t[BATCH] flags
    cdef uint8_t[BATCH] scratch
    cdef uint8_t *mask
    cdef size_t i, total
    cdef int question
    if into.pages is not NULL:
        decode_pages(entries, into.pages + done, count)
    if not into.answers:
        return
    for i in range(count):
        flags[i] = entries[i] >> 48
    for question in range(<int> QUESTIONS):
        if into.masks[question] is NULL and into.counts[question] is NULL:
            continue
        mask = &scratch[0] if into.masks[question] is NULL else into.masks[question] + done
        if question == SWAPPED:
            swapped_mask(entries, flags, mask, count)
        else:
            flags_mask(flags, mask, count, <question_t> question)
        if into.counts[question] is not NULL:
            total = 0
            for i in range(count):
                total += mask[i]
            into.counts[question][0] += total


cdef void decode_entries(const uint64_t *entries, size_t count,
                         const decoded_t *into) noexcept nogil:
    cdef size_t done = 0, batch
    while done < count:
        batch = min(count - done, <size_t> BATCH)
        decode_batch(entries + done, batch, done, into)
        done += batch


cdef void decode_pages(const uint64_t *entries, page_t *pages, size_t count) noexcept nogil:
    cdef size_t i
    cdef uint64_t entry, frame
    for i in range(count):
        entry = entries[i]
        frame = entry & PFRAME
        pages[i].present = bit(entry, abi.PM_PRESENT)
        pages[i].swapped = bit(entry, abi.PM_SWAP)
        pages[i].file = bit(entry, abi.PM_FILE)
        pages[i].guard = bit(entry, abi.PM_GUARD_REGION)
        pages[i].uffd_wp = bit(entry, abi.PM_UFFD_WP)
        pages[i].exclusive = bit(entry, abi.PM_MMAP_EXCLUSIVE)
        pages[i].soft_dirty = bit(entry, abi.PM_SOFT_DIRTY)
        # The low bits are a frame number or a swap location, whichever bit says so.
        pages[i].pfn = frame if pages[i].present else 0
        pages[i].swap_type = frame & SWAP_TYPE if pages[i].swapped else 0
        pages[i].swap_offset = frame >> abi.SWAP_TYPE_BITS if pages[i].swapped else 0


# ---- for Python --------------------------------------------------------------------------------

QUESTION_NUMBERS = {
    "present": PRESENT, "swapped": SWAPPED, "shared": SHARED, "exclusive": EXCLUSIVE,
    "soft_dirty": SOFT_DIRTY, "uffd_wp": UFFD_WP, "guard": GUARD,
    "not_present": NOT_PRESENT, "empty": EMPTY, "huge": HUGE,
}


cdef class Sinks:
    """Where a pass over a span puts its answers: arrays of `count` bytes by the question's name."""

    def __cinit__(self, dict masks, size_t count):
        cdef Py_buffer *view
        for name, array in masks.items():
            view = &self.views[self.held]
            PyObject_GetBuffer(array, view, PyBUF_WRITABLE)
            self.held += 1
            if <size_t> view.len != count:
                raise ValueError(f"a mask of {view.len} bytes for {count} pages")
            self.into.masks[<int> QUESTION_NUMBERS[name]] = <uint8_t *> view.buf
            self.into.answers = True

    def __dealloc__(self):
        while self.held:
            self.held -= 1
            PyBuffer_Release(&self.views[self.held])


def decode(const uint64_t[::1] entries, page_t[::1] pages):
    """Decode `entries` into `pages`, which is as long."""
    if entries.shape[0] != pages.shape[0]:
        raise ValueError(f"{entries.shape[0]} entries do not fit {pages.shape[0]} pages")
    if entries.shape[0]:
        with nogil:
            decode_pages(&entries[0], &pages[0], entries.shape[0])


def mask(const uint64_t[::1] entries, uint8_t[::1] mask, question_t question):
    """Answer one question about each of `entries` into `mask`, which is as long."""
    cdef decoded_t into
    if entries.shape[0] != mask.shape[0]:
        raise ValueError(f"{entries.shape[0]} entries do not fit a mask of {mask.shape[0]}")
    if entries.shape[0]:
        memset(&into, 0, sizeof(into))
        into.answers = True
        into.masks[<int> question] = &mask[0]
        with nogil:
            decode_entries(&entries[0], entries.shape[0], &into)
