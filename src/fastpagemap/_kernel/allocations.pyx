"""Sum what masks say of the pages under millions of allocations, of any size and in any order.

A block is 64 pages. First, every block that an allocation lies on is marked: only those blocks are
looked at. Each block with anything in it then gets 64 bytes, one cache line. For each mask they
hold a word with a bit for each page, and the count of such pages in all blocks before. These two
give the bytes of the mask below any address, so an allocation of any size costs two lookups.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel.reading cimport PAGE_SHIFT

cdef enum:
    # One for each column: present, swapped, shared, exclusive.
    MASKS = 4
    PAGES_PER_BLOCK = 64
    # Allocations between two checks for a pending signal.
    SIGNAL_CHECK_ALLOCATIONS = 1 << 20

cdef extern from *:
    int trailing_zeros "__builtin_ctzll"(unsigned long long) noexcept nogil

MASK_COUNT = MASKS
BLOCK_PAGES = PAGES_PER_BLOCK
BLOCK_SHIFT = PAGE_SHIFT + 6

ctypedef struct block_t:
    uint64_t[MASKS] pages    # a bit for each page: whether it is in the mask
    uint64_t[MASKS] before   # how many pages are in the mask in all blocks before this one

# The row of an allocation: bytes of it in each mask.
ctypedef struct row_t:
    uint64_t[MASKS] bytes


cdef inline uint64_t popcount(uint64_t word) noexcept nogil:
    """Count the set bits, without popcnt: not every x86-64 processor has that instruction."""
    word -= (word >> 1) & 0x5555555555555555U
    word = (word & 0x3333333333333333U) + ((word >> 2) & 0x3333333333333333U)
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0FU
    return (word * 0x0101010101010101U) >> 56


cdef inline size_t find_span(const uint64_t *ends, size_t count, uint64_t address,
                             size_t guess) noexcept nogil:
    """Return the first of some sorted, disjoint spans that ends above an address.

    The guess is tried first: allocations made one after another often lie close together.
    """
    cdef size_t low = 0, high = count, middle
    if guess < count and address < ends[guess] and (guess == 0 or ends[guess - 1] <= address):
        return guess
    while low < high:
        middle = (low + high) // 2
        if ends[middle] <= address:
            low = middle + 1
        else:
            high = middle
    return low


# ---- which blocks ------------------------------------------------------------------------------

cdef void set_bits(uint64_t *words, uint64_t first, uint64_t last) noexcept nogil:
    """Set bits `first` to `last`, both included."""
    cdef uint64_t low = first >> 6, high = last >> 6
    cdef uint64_t head = ~<uint64_t> 0 << (first & 63), tail = ~<uint64_t> 0 >> (63 - (last & 63))
    if low == high:
        words[low] |= head & tail
        return
    words[low] |= head
    if high > low + 1:
        memset(words + low + 1, 0xFF, (high - low - 1) * sizeof(uint64_t))
    words[high] |= tail


cdef void mark_some(const uint64_t *addresses, const uint64_t *sizes, size_t count,
                    const uint64_t *starts, const uint64_t *ends, const uint64_t *words,
                    size_t areas, uint64_t *marked) noexcept nogil:
    cdef size_t i, area = 0, each
    cdef uint64_t low, high
    cdef int shift = PAGE_SHIFT + 6
    for i in range(count):
        if not sizes[i]:
            continue
        low, high = addresses[i], addresses[i] + sizes[i] - 1
        area = each = find_span(ends, areas, low, area)
        while each < areas and starts[each] <= high:
            set_bits(marked + words[each],
                     (max(low, starts[each]) - starts[each]) >> shift,
                     (min(high, ends[each] - 1) - starts[each]) >> shift)
            each += 1


def mark(const uint64_t[::1] addresses, const uint64_t[::1] sizes,
         const uint64_t[::1] starts, const uint64_t[::1] ends, const uint64_t[::1] words,
         uint64_t[::1] marked):
    """Mark the blocks of some areas that an allocation lies on.

    An area consists of whole blocks. ``words[i]`` is the word of `marked` where the bits of area i
    begin.
    """
    cdef size_t count = addresses.shape[0], done = 0, batch
    if not count or not starts.shape[0]:
        return
    while done < count:
        batch = min(count - done, <size_t> SIGNAL_CHECK_ALLOCATIONS)
        with nogil:
            mark_some(&addresses[done], &sizes[done], batch, &starts[0], &ends[0], &words[0],
                      starts.shape[0], &marked[0])
        done += batch
        PyErr_CheckSignals()


cdef size_t next_bit(const uint64_t *words, size_t at, size_t count, bint wanted) noexcept nogil:
    """Return the first bit from `at` on that is set (`wanted`) or clear; else `count`."""
    cdef uint64_t word
    while at < count:
        word = words[at >> 6] if wanted else ~words[at >> 6]
        word >>= at & 63
        if word:
            return min(count, at + trailing_zeros(word))
        at = (at | 63) + 1
    return count


def runs(const uint64_t[::1] marked, size_t first, size_t blocks, size_t gap):
    """Yield the first and the end block of each run of marked blocks; join over up to `gap`."""
    cdef const uint64_t *words = &marked[first]
    cdef size_t start, end, next_start
    start = next_bit(words, 0, blocks, True)
    while start < blocks:
        end = next_bit(words, start, blocks, False)
        next_start = next_bit(words, end, blocks, True)
        while next_start < blocks and next_start - end <= gap:
            end = next_bit(words, next_start, blocks, False)
            next_start = next_bit(words, end, blocks, True)
        yield start, end
        start = next_start


# ---- pages to blocks ---------------------------------------------------------------------------

cdef void pack_block(const uint16_t *states, size_t pages, uint64_t *bits) noexcept nogil:
    """Collect the bits of at most 64 pages into one word for each mask."""
    cdef uint64_t one
    cdef size_t i
    memset(bits, 0, MASKS * sizeof(uint64_t))
    for i in range(pages):
        one = states[i]
        bits[0] |= (one >> 0 & 1) << i
        bits[1] |= (one >> 1 & 1) << i
        bits[2] |= (one >> 3 & 1) << i
        bits[3] |= (one >> 4 & 1) << i


def pack(const uint16_t[::1] states, uint64_t[::1] totals, uint64_t[:, ::1] blocks):
    """Turn the states of pages into blocks, and add each mask's pages to `totals`."""
    cdef block_t *into = <block_t *> &blocks[0, 0]
    cdef size_t i, each = 0, at = 0, pages = states.shape[0]
    with nogil:
        while at < pages:
            pack_block(&states[at], min(pages - at, <size_t> PAGES_PER_BLOCK), into[each].pages)
            for i in range(<size_t> MASKS):
                into[each].before[i] = totals[i]
                totals[i] += popcount(into[each].pages[i])
            each += 1
            at += PAGES_PER_BLOCK


# ---- blocks to bytes ---------------------------------------------------------------------------

ctypedef struct extents_t:
    const uint64_t *starts
    const uint64_t *ends
    const uint64_t *first    # each one's first block
    size_t count
    const block_t *blocks
    const uint64_t *totals


cdef inline void bytes_below(const extents_t *extents, size_t extent, uint64_t address,
                             uint64_t *bytes) noexcept nogil:
    """Sum the bytes below an address in each mask; it lies at or below the extent's end."""
    cdef const block_t *block
    cdef uint64_t page, bit
    cdef int i
    if extent == extents.count:
        for i in range(MASKS):
            bytes[i] = extents.totals[i] << PAGE_SHIFT
        return
    address = max(address, extents.starts[extent])
    page = (address - extents.starts[extent]) >> PAGE_SHIFT
    block = &extents.blocks[extents.first[extent] + (page >> 6)]
    bit = <uint64_t> 1 << (page & 63)
    address &= (<uint64_t> 1 << PAGE_SHIFT) - 1
    for i in range(MASKS):
        bytes[i] = ((block.before[i] + popcount(block.pages[i] & (bit - 1))) << PAGE_SHIFT) + (
            address if block.pages[i] & bit else 0)


cdef inline bint sum_within_page(const extents_t *extents, size_t extent, uint64_t address,
                                 uint64_t size, row_t *row) noexcept nogil:
    """Fill the row of an allocation on one page, as most are; False if it lies on more."""
    cdef uint64_t page = (address - extents.starts[extent]) >> PAGE_SHIFT
    cdef const block_t *block
    cdef int i
    if address < extents.starts[extent] or (address + size - 1) >> PAGE_SHIFT != (
            address >> PAGE_SHIFT):
        return False
    block = &extents.blocks[extents.first[extent] + (page >> 6)]
    for i in range(MASKS):
        row.bytes[i] = size & -(block.pages[i] >> (page & 63) & 1)
    return True


cdef void sum_some(const uint64_t *addresses, const uint64_t *sizes, size_t count,
                   const extents_t *extents, uint64_t *rows, size_t columns) noexcept nogil:
    cdef uint64_t[MASKS] low, high
    cdef size_t i, column, extent = 0, last
    cdef uint64_t end
    cdef row_t *row
    cdef int each
    for i in range(count):
        row = <row_t *> (rows + i * columns)
        for column in range(<size_t> MASKS, columns):
            rows[i * columns + column] = 0
        end = addresses[i] + sizes[i]
        extent = find_span(extents.ends, extents.count, addresses[i], extent)
        if sizes[i] == 0 or extent == extents.count or end <= extents.starts[extent]:
            memset(row, 0, sizeof(row_t))
            continue
        if sum_within_page(extents, extent, addresses[i], sizes[i], row):
            continue
        last = extent
        if end >= extents.ends[extent]:
            last = find_span(extents.ends, extents.count, end, extent + 1)
        bytes_below(extents, extent, addresses[i], low)
        bytes_below(extents, last, end, high)
        for each in range(MASKS):
            row.bytes[each] = high[each] - low[each]


def sum_allocations(const uint64_t[::1] addresses, const uint64_t[::1] sizes,
                    const uint64_t[::1] starts, const uint64_t[::1] ends,
                    const uint64_t[::1] first, const uint64_t[:, ::1] blocks,
                    const uint64_t[::1] totals, uint64_t[:, ::1] rows):
    """Fill a row for each allocation with how many of its bytes are in each mask.

    Further columns are filled with 0.
    """
    cdef extents_t extents
    cdef size_t count = addresses.shape[0], done = 0, batch
    if not count:
        return
    # Without extents the pointers stay NULL, and none is followed.
    memset(&extents, 0, sizeof(extents))
    extents.count = starts.shape[0]
    if extents.count:
        extents.starts, extents.ends, extents.first = &starts[0], &ends[0], &first[0]
        extents.blocks = <const block_t *> &blocks[0, 0]
    extents.totals = &totals[0]
    while done < count:
        batch = min(count - done, <size_t> SIGNAL_CHECK_ALLOCATIONS)
        with nogil:
            sum_some(&addresses[done], &sizes[done], batch, &extents, &rows[done, 0],
                     rows.shape[1])
        done += batch
        PyErr_CheckSignals()
