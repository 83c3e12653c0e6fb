"""Decode 64-bit entries, many at a time. Pure: no I/O."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi

from .swap_types import MAX_RESERVED, MIN_RESERVED

cdef enum:
    # Entries that are skipped together if all are 0.
    ZERO_CHECK_ENTRIES = 128

cdef uint64_t PFRAME = (<uint64_t> 1 << abi.PM_PFRAME_BITS) - 1
cdef uint64_t SWAP_TYPE = (<uint64_t> 1 << abi.SWAP_TYPE_BITS) - 1
# Types that are reserved by this kernel, as far as is known, and by others.
cdef uint64_t RESERVED = MAX_RESERVED
cdef uint64_t FIRST_DOUBTFUL_TYPE = SWAP_TYPE + 1 - MAX_RESERVED
cdef uint64_t DOUBTFUL_TYPES = MAX_RESERVED - MIN_RESERVED

# Shifts in place of comparisons let the compiler vectorise the loops. All bits of a state but one
# come from the flags, bits 48-63 of the entry: narrowed to 16 bits, they cost a quarter.

cdef inline uint8_t bit(uint64_t entry, int number) noexcept nogil:
    return (entry >> number) & 1


cdef inline uint16_t flag(uint16_t flags, int number) noexcept nogil:
    return (flags >> (number - 48)) & 1


cdef inline uint16_t state_of(uint16_t flags) noexcept nogil:
    """Return the state that the flags give; whether a swap entry is a marker is not in them."""
    cdef uint16_t present = flag(flags, abi.PM_PRESENT)
    cdef uint16_t swap = flag(flags, abi.PM_SWAP)
    cdef uint16_t guard = flag(flags, abi.PM_GUARD_REGION)
    return (present
            | (swap & ~guard) << 1
            | (present & flag(flags, abi.PM_FILE)) << 3
            | (present & flag(flags, abi.PM_MMAP_EXCLUSIVE)) << 4
            | flag(flags, abi.PM_SOFT_DIRTY) << 5
            | guard << 8
            | (swap & guard) << 10
            | flag(flags, abi.PM_UFFD_WP) << 11)


cdef inline bint is_marker(uint64_t entry) noexcept nogil:
    """Return whether a swap entry's type is reserved, so that it names no swap area.

    Adding the number of reserved types carries out of the type's bits for those types alone. The
    type reads 0 without CAP_SYS_ADMIN: then only bit 58 tells guard regions apart.
    """
    return (((entry & SWAP_TYPE) + RESERVED) >> abi.SWAP_TYPE_BITS) & 1


cdef void decode_some(const uint64_t *entries, uint16_t *states, size_t count) noexcept nogil:
    cdef size_t i
    cdef uint64_t seen = 0
    for i in range(count):
        seen |= entries[i]
    # Most entries of sparse memory are 0.
    if seen == 0:
        memset(states, 0, count * sizeof(uint16_t))
        return
    for i in range(count):
        states[i] = state_of(<uint16_t> (entries[i] >> 48))
    # The type is not among the flags. Most memory has no swap entry.
    if seen >> abi.PM_SWAP & 1:
        for i in range(count):
            if states[i] & SWAPPED and is_marker(entries[i]):
                states[i] ^= SWAPPED | MARKER


cdef void decode_states(const uint64_t *entries, uint16_t *states, size_t count) noexcept nogil:
    cdef size_t done = 0, part
    while done < count:
        part = min(count - done, <size_t> ZERO_CHECK_ENTRIES)
        decode_some(entries + done, states + done, part)
        done += part


cdef void doubt_types(const uint64_t *entries, uint16_t *states, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        if states[i] & (SWAPPED | MARKER) and (
                (entries[i] & SWAP_TYPE) - FIRST_DOUBTFUL_TYPE < DOUBTFUL_TYPES):
            states[i] = (states[i] & <uint16_t> ~(SWAPPED | MARKER)) | UNKNOWN


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
        # Bit 63 makes the low bits a frame number, bit 62 a swap location.
        pages[i].pfn = frame if pages[i].present else 0
        pages[i].swap_type = frame & SWAP_TYPE if pages[i].swapped else 0
        pages[i].swap_offset = frame >> abi.SWAP_TYPE_BITS if pages[i].swapped else 0


# ---- for Python --------------------------------------------------------------------------------

def set_reserved_types(uint64_t count):
    """Set how many swap types are taken for reserved: at first as many as any kernel has."""
    global RESERVED
    RESERVED = count


def decode(const uint64_t[::1] entries, page_t[::1] pages):
    """Decode `entries` into `pages` of the same length."""
    if entries.shape[0] != pages.shape[0]:
        raise ValueError(f"{entries.shape[0]} entries do not fit {pages.shape[0]} pages")
    if entries.shape[0]:
        with nogil:
            decode_pages(&entries[0], &pages[0], entries.shape[0])
