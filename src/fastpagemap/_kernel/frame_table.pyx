"""A table of frames: how often some processes map each, and how often all processes do.

It has a row for each frame seen, in blocks of neighbouring frames that a hash table finds. So its
size follows what is mapped, not how much RAM there is.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.scan cimport TIME_SLICE_NS, now

from .failures import failure

cdef enum:
    BLOCK_FRAMES = 4
    FIRST_BLOCKS = 256
    # Reading the counts of so many frames in between costs less than another read.
    MAX_GAP_FRAMES = 8
    MAX_READ_FRAMES = 8192
    # Frames to look at between two checks for a signal.
    SLICE_FRAMES = 1 << 20
    # Bits of a share of a byte: sums of a page divided by its count are rounded down below these.
    SHARE_BITS = 16

ctypedef struct block_t:
    uint64_t number                 # of its first frame, in blocks
    uint32_t[BLOCK_FRAMES] own      # how often the processes that were added map each frame
    uint32_t[BLOCK_FRAMES] all      # how often all processes do; 0 until it is read

ctypedef struct table_t:
    block_t *blocks
    size_t count
    size_t capacity
    size_t checked                  # the capacity that is known to fit into free memory
    uint32_t *slots                 # a hash table: the number of a block, plus 1
    size_t slots_mask

ctypedef struct totals_t:
    uint64_t frames                 # that any process maps
    uint64_t pages                  # how often these processes map them
    uint64_t unique                 # that no other process maps
    uint64_t changed                # whose counts cannot be: they changed meanwhile
    uint64_t share                  # bytes, << SHARE_BITS


cdef uint64_t PAGE_SHARE = <uint64_t> abi.sysconf(abi._SC_PAGESIZE) << SHARE_BITS


# ---- blocks ------------------------------------------------------------------------------------

cdef inline size_t hash_of(uint64_t number) noexcept nogil:
    return (number * <uint64_t> 0x9E3779B97F4A7C15) >> 32


cdef void insert(table_t *table, size_t index) noexcept nogil:
    cdef size_t slot = hash_of(table.blocks[index].number) & table.slots_mask
    while table.slots[slot]:
        slot = (slot + 1) & table.slots_mask
    table.slots[slot] = index + 1


cdef int grow_slots(table_t *table, size_t capacity) noexcept nogil:
    """Make room in the hash table for as many blocks, with a third of it to spare."""
    cdef size_t size = table.slots_mask + 1, index
    cdef uint32_t *slots
    if table.slots is not NULL and size >= capacity + capacity // 2:
        return 0
    while size < capacity + capacity // 2:
        size *= 2
    slots = <uint32_t *> calloc(size, sizeof(uint32_t))
    if slots is NULL:
        return -ENOMEM
    free(table.slots)
    table.slots = slots
    table.slots_mask = size - 1
    for index in range(table.count):
        insert(table, index)
    return 0


cdef int grow(table_t *table) noexcept nogil:
    """Make room for more blocks: few, because memory is what is short if there are many."""
    cdef size_t capacity = table.capacity + table.capacity // 4 + FIRST_BLOCKS
    cdef void *blocks
    if capacity >> 31:
        return -ENOMEM
    blocks = realloc(table.blocks, capacity * sizeof(block_t))
    if blocks is NULL:
        return -ENOMEM
    table.blocks = <block_t *> blocks
    if grow_slots(table, capacity) < 0:
        return -ENOMEM
    table.capacity = capacity
    return 0


cdef block_t *find(const table_t *table, uint64_t number) noexcept nogil:
    cdef size_t slot = hash_of(number) & table.slots_mask
    while table.slots is not NULL and table.slots[slot]:
        if table.blocks[table.slots[slot] - 1].number == number:
            return &table.blocks[table.slots[slot] - 1]
        slot = (slot + 1) & table.slots_mask
    return NULL


cdef block_t *find_or_add(table_t *table, uint64_t number) noexcept nogil:
    cdef block_t *block = find(table, number)
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


cdef int add(table_t *table, const uint64_t *frames, size_t count) noexcept nogil:
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
    return 0


# ---- the counts of all processes ---------------------------------------------------------------

cdef int by_number(const void *first, const void *second) noexcept nogil:
    cdef uint64_t one = (<const block_t *> first).number, other = (<const block_t *> second).number
    return (one > other) - (one < other)


cdef void sort_blocks(table_t *table) noexcept nogil:
    """Sort the blocks, so that frames that lie close together are read together."""
    cdef size_t index
    qsort(table.blocks, table.count, sizeof(block_t), by_number)
    memset(table.slots, 0, (table.slots_mask + 1) * sizeof(uint32_t))
    for index in range(table.count):
        insert(table, index)


cdef ssize_t read_counts(int fd, uint64_t first, size_t count, uint64_t *counts) noexcept nogil:
    """Read the counts of consecutive frames: 0 for those that do not exist."""
    cdef size_t done = 0, size = count * sizeof(uint64_t)
    cdef ssize_t got
    memset(counts, 0, size)
    while done < size:
        got = abi.pread(fd, <char *> counts + done, size - done, first * sizeof(uint64_t) + done)
        if got == 0:
            break
        if got > 0:
            done += got
        elif errno != EINTR:
            return -errno
    return count


cdef ssize_t read_run(int fd, table_t *table, size_t index, uint64_t first,
                      uint64_t end) noexcept nogil:
    """Read the counts of a run of frames that begins in a block."""
    cdef uint64_t[MAX_READ_FRAMES] counts
    cdef uint64_t frame
    cdef block_t *block
    cdef ssize_t got = read_counts(fd, first, end - first, counts)
    if got < 0:
        return got
    for frame in range(first, end):
        if frame // BLOCK_FRAMES != table.blocks[index].number:
            # In a gap the next block has not begun.
            if table.blocks[index + 1].number > frame // BLOCK_FRAMES:
                continue
            index += 1
        block = &table.blocks[index]
        block.all[frame % BLOCK_FRAMES] = min(counts[frame - first], <uint64_t> 0xFFFFFFFF)
    return got


cdef ssize_t read_blocks(int fd, table_t *table, size_t *done) noexcept nogil:
    """Read the counts of the frames of sorted blocks, for TIME_SLICE_NS or to their end."""
    cdef uint64_t began = now(), first = 0, end = 0, frame
    cdef size_t index, of_first = 0
    cdef int i
    cdef ssize_t got
    for index in range(done[0], table.count):
        for i in range(BLOCK_FRAMES):
            if not table.blocks[index].own[i]:
                continue
            frame = table.blocks[index].number * BLOCK_FRAMES + i
            if first < end and (frame - end > MAX_GAP_FRAMES
                                or frame - first >= MAX_READ_FRAMES):
                got = read_run(fd, table, of_first, first, end)
                if got < 0:
                    return got
                first = end = 0
            if first == end:
                first, of_first = frame, index
            end = frame + 1
        done[0] = index + 1
        if now() - began > TIME_SLICE_NS:
            break
    if first < end:
        return read_run(fd, table, of_first, first, end)
    return 0


# ---- sums --------------------------------------------------------------------------------------

cdef void sum_blocks(const table_t *table, totals_t *totals) noexcept nogil:
    cdef const block_t *block
    cdef uint32_t own, all
    cdef size_t index
    cdef int i
    for index in range(table.count):
        block = &table.blocks[index]
        for i in range(BLOCK_FRAMES):
            own, all = block.own[i], block.all[i]
            # Nobody maps the zero page, as the kernel counts.
            if not own or not all:
                continue
            totals.frames += 1
            totals.pages += own
            totals.unique += own >= all
            totals.changed += own > all
            totals.share += PAGE_SHARE // all * own if own < all else PAGE_SHARE


cdef void sum_pages(const table_t *table, const uint64_t *frames, size_t count,
                    totals_t *totals) noexcept nogil:
    """Sum over the pages of one process, whose mappings the table counts.

    A frame that it maps several times counts as one, in shares.
    """
    cdef const block_t *block = NULL
    cdef uint64_t number
    cdef uint32_t own, all
    cdef size_t i
    for i in range(count):
        number = frames[i] // BLOCK_FRAMES
        if block is NULL or block.number != number:
            block = find(table, number)
            if block is NULL:
                continue
        own, all = block.own[frames[i] % BLOCK_FRAMES], block.all[frames[i] % BLOCK_FRAMES]
        if not all:
            continue
        all = max(own, all)
        totals.frames += 1
        totals.share += PAGE_SHARE // all
        if own >= all:
            totals.unique += PAGE_SHARE // own


cdef void look_up(const table_t *table, const uint64_t *frames, size_t count, bint of_all,
                  uint32_t *counts) noexcept nogil:
    cdef const block_t *block = NULL
    cdef uint64_t number
    cdef size_t i
    for i in range(count):
        number = frames[i] // BLOCK_FRAMES
        if block is NULL or block.number != number:
            block = find(table, number)
        if block is NULL:
            counts[i] = 0
        elif of_all:
            counts[i] = block.all[frames[i] % BLOCK_FRAMES]
        else:
            counts[i] = block.own[frames[i] % BLOCK_FRAMES]


# ---- for Python --------------------------------------------------------------------------------

cdef object afford = None


def limit_growth(object affordable):
    """Set the function that checks whether what grows still fits into free memory."""
    global afford
    afford = affordable


cdef class FrameTable:
    """How often some processes map each frame, and how often all processes do."""

    cdef table_t table

    def __dealloc__(self):
        free(self.table.blocks)
        free(self.table.slots)

    def add(self, const uint64_t[::1] frames):
        """Count frames: one element a page of any of the processes, in any order."""
        cdef size_t done = 0, count = frames.shape[0], part
        cdef int problem = 0
        while done < count:
            part = min(count - done, <size_t> SLICE_FRAMES)
            with nogil:
                problem = add(&self.table, &frames[done], part)
            if problem < 0:
                raise MemoryError
            done += part
            if self.table.capacity > self.table.checked and afford is not None:
                afford(self.table.capacity, sizeof(block_t), "blocks of frames")
                self.table.checked = self.table.capacity
            PyErr_CheckSignals()

    def read(self, int fd, object path):
        """Read from /proc/kpagecount how often each frame is mapped."""
        cdef size_t done = 0
        cdef ssize_t got
        if not self.table.count:
            return
        with nogil:
            sort_blocks(&self.table)
        while done < self.table.count:
            with nogil:
                got = read_blocks(fd, &self.table, &done)
            if got < 0:
                raise failure(-got, path)
            PyErr_CheckSignals()

    def totals(self):
        """Return sums over all frames.

        How many there are, how many pages map them, how many no other process maps, how many were
        unmapped meanwhile; and the share that these processes have of them, in bytes.
        """
        cdef totals_t totals
        memset(&totals, 0, sizeof(totals))
        with nogil:
            sum_blocks(&self.table, &totals)
        return (totals.frames, totals.pages, totals.unique, totals.changed,
                totals.share >> SHARE_BITS)

    def sums(self, const uint64_t[::1] frames, const int64_t[::1] lengths, uint64_t[:, ::1] sums):
        """Sum over the pages of one process, which alone the table counts.

        Parameters
        ----------
        frames : array of uint64
            One element a page.
        lengths : array of int64
            How many pages each row has.
        sums : array of uint64
            Filled with a row for each: pages, the bytes of its share, and the bytes of what no
            other process maps.
        """
        cdef size_t done = 0, row
        cdef totals_t totals
        for row in range(<size_t> lengths.shape[0]):
            memset(&totals, 0, sizeof(totals))
            if lengths[row]:
                with nogil:
                    sum_pages(&self.table, &frames[done], lengths[row], &totals)
                done += lengths[row]
            sums[row, 0] = totals.frames
            sums[row, 1] = totals.share >> SHARE_BITS
            sums[row, 2] = totals.unique >> SHARE_BITS

    def own(self, const uint64_t[::1] frames, uint32_t[::1] counts):
        """Fill in how often these processes map each frame."""
        if not frames.shape[0]:
            return
        with nogil:
            look_up(&self.table, &frames[0], frames.shape[0], False, &counts[0])

    def all(self, const uint64_t[::1] frames, uint32_t[::1] counts):
        """Fill in how often all processes map each frame."""
        if not frames.shape[0]:
            return
        with nogil:
            look_up(&self.table, &frames[0], frames.shape[0], True, &counts[0])

    @property
    def size(self):
        """How many bytes it takes."""
        cdef size_t slots = self.table.slots_mask + 1
        return self.table.capacity * sizeof(block_t) + slots * sizeof(uint32_t)
