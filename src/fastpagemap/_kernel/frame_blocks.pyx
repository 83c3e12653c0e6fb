"""Blocks of neighbouring frames, with how often some processes map each, found by a hash table."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpagemap._kernel cimport abi

cdef enum:
    FIRST_BLOCKS = 256
    FIRST_SLOTS = 512
    # Blocks are sorted by so many bits at a time, few blocks by comparing them.
    DIGIT_BITS = 8
    DIGITS = 1 << DIGIT_BITS
    FEW_BLOCKS = 32


# ---- the hash table ----------------------------------------------------------------------------

cdef inline size_t slot_of(const table_t *table, uint64_t number) noexcept nogil:
    return ((number * <uint64_t> 0x9E3779B97F4A7C15) >> 32) & (table.slot_count - 1)


cdef void insert(table_t *table, size_t index) noexcept nogil:
    cdef size_t slot = slot_of(table, table.blocks[index].number)
    while table.slots[slot]:
        slot = (slot + 1) & (table.slot_count - 1)
    table.slots[slot] = index + 1


cdef void free_slots(table_t *table) noexcept nogil:
    free(table.slots)
    table.slots, table.slot_count = NULL, 0


cdef int index_blocks(table_t *table) noexcept nogil:
    """Enter all blocks into a hash table, with a third of it to spare for one more."""
    cdef size_t size = FIRST_SLOTS, index
    while size < table.count + 1 + table.count // 2:
        size *= 2
    # Not both tables at a time.
    free_slots(table)
    table.slots = <uint32_t *> calloc(size, sizeof(uint32_t))
    if table.slots is NULL:
        return -ENOMEM
    table.slot_count = size
    for index in range(table.count):
        insert(table, index)
    return 0


cdef const block_t *find_block(const table_t *table, uint64_t number) noexcept nogil:
    cdef size_t slot
    if table.slots is NULL:
        return NULL
    slot = slot_of(table, number)
    while table.slots[slot]:
        if table.blocks[table.slots[slot] - 1].number == number:
            return &table.blocks[table.slots[slot] - 1]
        slot = (slot + 1) & (table.slot_count - 1)
    return NULL


# ---- adding ------------------------------------------------------------------------------------

cdef int grow(table_t *table) noexcept nogil:
    """Make room for more blocks: few, because memory is what is short if there are many."""
    cdef size_t capacity = table.capacity + table.capacity // 4 + FIRST_BLOCKS
    cdef void *blocks
    if capacity >> 31:
        return -ENOMEM
    # realloc may have the old blocks and their copy at a time.
    if table.blocks is NULL:
        blocks = abi.mmap(NULL, capacity * sizeof(block_t), abi.PROT_READ | abi.PROT_WRITE,
                          abi.MAP_PRIVATE | abi.MAP_ANONYMOUS, -1, 0)
    else:
        blocks = abi.mremap(table.blocks, table.capacity * sizeof(block_t),
                            capacity * sizeof(block_t), abi.MREMAP_MAYMOVE)
    if blocks is abi.MAP_FAILED:
        return -ENOMEM
    table.blocks = <block_t *> blocks
    table.capacity = capacity
    return 0


cdef block_t *find_or_add(table_t *table, uint64_t number) noexcept nogil:
    cdef block_t *block = <block_t *> find_block(table, number)
    if block is not NULL:
        return block
    if table.count + 1 + table.count // 2 > table.slot_count:
        if index_blocks(table) < 0:
            return NULL
        # It may be that there was no hash table.
        block = <block_t *> find_block(table, number)
        if block is not NULL:
            return block
    if table.count == table.capacity and grow(table) < 0:
        return NULL
    block = &table.blocks[table.count]
    memset(block, 0, sizeof(block_t))
    block.number = number
    insert(table, table.count)
    table.count += 1
    return block


cdef int add_frames(table_t *table, const uint64_t *frames, size_t count) noexcept nogil:
    cdef block_t *block = NULL
    cdef uint64_t number
    cdef size_t i
    for i in range(count):
        number = frames[i] // BLOCK_FRAMES
        if block is NULL or block.number != number:
            # Processes that share memory mostly map its frames in the same order.
            if block is not NULL and block + 1 < table.blocks + table.count \
                    and block[1].number == number:
                block += 1
            else:
                block = find_or_add(table, number)
            if block is NULL:
                return -ENOMEM
        block.own[frames[i] % BLOCK_FRAMES] += 1
    table.pages += count
    return 0


# ---- sorting -----------------------------------------------------------------------------------

cdef inline size_t digit_of(const block_t *block, int shift) noexcept nogil:
    return (block.number >> shift) & (DIGITS - 1)


cdef void sort_few(block_t *blocks, size_t count) noexcept nogil:
    cdef block_t block
    cdef size_t i, at
    for i in range(1, count):
        block = blocks[i]
        at = i
        while at and blocks[at - 1].number > block.number:
            blocks[at] = blocks[at - 1]
            at -= 1
        blocks[at] = block


cdef void sort_digit(block_t *blocks, size_t count, int shift) noexcept nogil:
    """Sort blocks by the digit at `shift` and those below, without a copy of them."""
    cdef size_t[DIGITS] heads, ends
    cdef size_t i, digit, at = 0
    cdef block_t block
    if count <= FEW_BLOCKS:
        sort_few(blocks, count)
        return
    memset(ends, 0, sizeof(ends))
    for i in range(count):
        ends[digit_of(&blocks[i], shift)] += 1
    for i in range(<size_t> DIGITS):
        heads[i] = at
        at += ends[i]
        ends[i] = at
    for i in range(<size_t> DIGITS):
        while heads[i] < ends[i]:
            digit = digit_of(&blocks[heads[i]], shift)
            if digit != i:
                block = blocks[heads[i]]
                blocks[heads[i]] = blocks[heads[digit]]
                blocks[heads[digit]] = block
            heads[digit] += 1
    if shift == 0:
        return
    at = 0
    for i in range(<size_t> DIGITS):
        sort_digit(blocks + at, ends[i] - at, shift - DIGIT_BITS)
        at = ends[i]


cdef void sort_blocks(table_t *table) noexcept nogil:
    cdef uint64_t highest = 0
    cdef size_t i
    cdef int shift = 0
    for i in range(table.count):
        highest |= table.blocks[i].number
    while shift + DIGIT_BITS < 64 and highest >> (shift + DIGIT_BITS):
        shift += DIGIT_BITS
    free_slots(table)
    sort_digit(table.blocks, table.count, shift)


# ---- memory ------------------------------------------------------------------------------------

cdef size_t table_bytes(const table_t *table) noexcept nogil:
    return table.capacity * sizeof(block_t) + table.slot_count * sizeof(uint32_t)


cdef void free_table(table_t *table) noexcept nogil:
    if table.blocks is not NULL:
        abi.munmap(table.blocks, table.capacity * sizeof(block_t))
    free(table.slots)
