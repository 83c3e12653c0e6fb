"""A table of frames: how often some processes map each, and how often all processes do."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpagemap._kernel cimport abi
from fastpagemap._kernel.frame_blocks cimport (BLOCK_FRAMES, add_frames, block_t, find_block,
                                               free_table, index_blocks, sort_blocks, table_bytes,
                                               table_t)
from fastpagemap._kernel.frames cimport read_window
from fastpagemap._kernel.growing cimport check_fits

from .failures import failure

cdef enum:
    # Reading the counts of so many blocks in between costs less than another read.
    MAX_GAP_BLOCKS = 2
    MAX_READ_BLOCKS = 2048
    # Frames to add, and blocks to read, between two checks for a signal.
    SLICE_FRAMES = 1 << 17
    SLICE_BLOCKS = 1 << 14
    # Bits of a share of a byte: sums of a page divided by its count are rounded down below these.
    SHARE_BITS = 16

ctypedef struct totals_t:
    uint64_t frames                 # that any process maps
    uint64_t pages                  # how often these processes map them
    uint64_t unique                 # that no other process maps
    uint64_t changed                # whose counts cannot be: they changed meanwhile
    uint64_t share                  # bytes, << SHARE_BITS


cdef uint64_t PAGE_SHARE = <uint64_t> abi.sysconf(abi._SC_PAGESIZE) << SHARE_BITS


# ---- the counts of all processes ---------------------------------------------------------------

cdef void add_to_totals(totals_t *totals, uint32_t own, uint64_t all) noexcept nogil:
    # Nobody maps the zero page, as the kernel counts.
    if not all:
        return
    totals.frames += 1
    totals.pages += own
    totals.unique += own >= all
    totals.changed += own > all
    totals.share += PAGE_SHARE // all * own if own < all else PAGE_SHARE


cdef size_t run_end(const table_t *table, size_t first) noexcept nogil:
    """Return where the run of blocks ends that are read together with a block."""
    cdef const block_t *blocks = table.blocks
    cdef size_t index = first + 1
    while (index < table.count
            and blocks[index].number - blocks[index - 1].number <= MAX_GAP_BLOCKS + 1
            and blocks[index].number - blocks[first].number < MAX_READ_BLOCKS):
        index += 1
    return index


cdef ssize_t read_run(int fd, const table_t *table, size_t index, size_t end, uint32_t *found,
                      totals_t *totals) noexcept nogil:
    """Read the counts of a run of blocks: keep them, or add them to the totals."""
    cdef uint64_t[MAX_READ_BLOCKS * BLOCK_FRAMES] counts
    cdef const block_t *block = &table.blocks[index]
    cdef const block_t *final = &table.blocks[end - 1]
    cdef uint64_t first = block.number * BLOCK_FRAMES, last = final.number * BLOCK_FRAMES, frame
    cdef ssize_t got
    cdef int i
    while not block.own[first % BLOCK_FRAMES]:
        first += 1
    last += BLOCK_FRAMES - 1
    while not final.own[last % BLOCK_FRAMES]:
        last -= 1
    got = read_window(fd, first, last + 1 - first, counts)
    if got < 0:
        return got
    for index in range(index, end):
        block = &table.blocks[index]
        for i in range(BLOCK_FRAMES):
            if not block.own[i]:
                continue
            frame = block.number * BLOCK_FRAMES + i
            if found is NULL:
                add_to_totals(totals, block.own[i], counts[frame - first])
            else:
                found[index * BLOCK_FRAMES + i] = min(counts[frame - first],
                                                      <uint64_t> 0xFFFFFFFF)
    return got


cdef ssize_t read_blocks(int fd, const table_t *table, size_t *done, uint32_t *found,
                         totals_t *totals) noexcept nogil:
    """Read the counts of SLICE_BLOCKS of the sorted blocks, or some more, or to their end."""
    cdef size_t end, stop = min(table.count, done[0] + SLICE_BLOCKS)
    cdef ssize_t got
    while done[0] < stop:
        end = run_end(table, done[0])
        got = read_run(fd, table, done[0], end, found, totals)
        if got < 0:
            return got
        done[0] = end
    return 0


# ---- sums --------------------------------------------------------------------------------------

cdef void sum_pages(const table_t *table, const uint32_t *counts, const uint64_t *frames,
                    size_t count, totals_t *totals) noexcept nogil:
    """Sum over the pages of one process, whose mappings the table counts.

    A frame that it maps several times counts as one, in shares.
    """
    cdef const block_t *block = NULL
    cdef uint64_t number
    cdef uint32_t own, all
    cdef size_t i
    cdef int at
    for i in range(count):
        number, at = frames[i] // BLOCK_FRAMES, frames[i] % BLOCK_FRAMES
        if block is NULL or block.number != number:
            block = find_block(table, number)
            if block is NULL:
                continue
        own, all = block.own[at], counts[(block - table.blocks) * BLOCK_FRAMES + at]
        if not all:
            continue
        all = max(own, all)
        totals.frames += 1
        totals.share += PAGE_SHARE // all
        if own >= all:
            totals.unique += PAGE_SHARE // own


cdef void look_up(const table_t *table, const uint32_t *counts, const uint64_t *frames,
                  size_t count, uint32_t *found) noexcept nogil:
    """Look up how often all processes map each frame; without `counts`, how often these do."""
    cdef const block_t *block = NULL
    cdef uint64_t number
    cdef size_t i
    cdef int at
    for i in range(count):
        number, at = frames[i] // BLOCK_FRAMES, frames[i] % BLOCK_FRAMES
        if block is NULL or block.number != number:
            block = find_block(table, number)
        if block is NULL:
            found[i] = 0
        elif counts is NULL:
            found[i] = block.own[at]
        else:
            found[i] = counts[(block - table.blocks) * BLOCK_FRAMES + at]


# ---- for Python --------------------------------------------------------------------------------

cdef int read_all(FrameTable table, int fd, object path, uint32_t *counts,
                  totals_t *totals) except -1:
    """Read the counts of all blocks, into an array or into totals."""
    cdef size_t done = 0
    cdef ssize_t got
    with nogil:
        sort_blocks(&table.table)
    while done < table.table.count:
        with nogil:
            got = read_blocks(fd, &table.table, &done, counts, totals)
        if got < 0:
            raise failure(-got, path)
        PyErr_CheckSignals()
    return 0


cdef const uint32_t *counts_of(FrameTable table) except? NULL:
    """Return the counts that were read; raise if they are not those of all frames."""
    if table.read_pages != table.table.pages:
        raise ValueError("frames were added after the counts of all processes were read")
    return table.counts


cdef int look_up_all(FrameTable table, const uint64_t[::1] frames, uint32_t[::1] found,
                     const uint32_t *counts) except -1:
    if frames.shape[0] != found.shape[0]:
        raise ValueError(f"{frames.shape[0]} frames do not fit an array of {found.shape[0]}")
    if frames.shape[0]:
        with nogil:
            look_up(&table.table, counts, &frames[0], frames.shape[0], &found[0])
    return 0


cdef class FrameTable:
    """How often some processes map each frame, and how often all processes do."""

    def __dealloc__(self):
        free_table(&self.table)
        free(self.counts)

    cdef int check(self) except -1:
        """Raise MemoryError if the table will not fit into free memory."""
        cdef size_t size = table_bytes(&self.table)
        if size > self.table.checked:
            check_fits(size, 1, "bytes for frames")
            self.table.checked = size
        return 0

    @property
    def pages(self):
        """How many frames were added, each as often as it was."""
        return self.table.pages

    def add(self, const uint64_t[::1] frames):
        """Count frames: one element a page of any of the processes, in any order."""
        cdef size_t done = 0, count = frames.shape[0], part
        cdef int problem = 0
        while done < count:
            part = min(count - done, <size_t> SLICE_FRAMES)
            with nogil:
                problem = add_frames(&self.table, &frames[done], part)
            if problem < 0:
                raise MemoryError
            done += part
            self.check()
            PyErr_CheckSignals()

    def read(self, int fd, object path):
        """Read from /proc/kpagecount how often all processes map each frame that was added."""
        cdef size_t size = self.table.count * BLOCK_FRAMES
        check_fits(size, sizeof(uint32_t), "counts of frames")
        free(self.counts)
        self.counts = <uint32_t *> calloc(max(size, <size_t> 1), sizeof(uint32_t))
        if self.counts is NULL:
            raise MemoryError
        read_all(self, fd, path, self.counts, NULL)
        if index_blocks(&self.table) < 0:
            raise MemoryError
        self.read_pages = self.table.pages

    def totals(self, int fd, object path):
        """Read the counts of all processes, and return sums over all frames.

        How many there are, how many pages map them, how many no other process maps, how many were
        unmapped meanwhile; and the share that these processes have of them, in bytes.
        """
        cdef totals_t totals
        memset(&totals, 0, sizeof(totals))
        read_all(self, fd, path, NULL, &totals)
        return (totals.frames, totals.pages, totals.unique, totals.changed,
                totals.share >> SHARE_BITS)

    def sums(self, const uint64_t[::1] frames, const int64_t[::1] lengths, uint64_t[:, ::1] sums):
        """Sum over the pages of one process, which alone the table counts; after `read`.

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
        cdef size_t done = 0, row, count = frames.shape[0]
        cdef const uint32_t *counts = counts_of(self)
        cdef totals_t totals
        if sums.shape[0] != lengths.shape[0] or sums.shape[1] != 3:
            raise ValueError(f"an array of {sums.shape[0]} rows of {sums.shape[1]} sums does not "
                             f"fit 3 sums of {lengths.shape[0]} rows")
        for row in range(<size_t> lengths.shape[0]):
            if lengths[row] < 0 or <size_t> lengths[row] > count - done:
                raise ValueError(f"row {row} of {lengths[row]} frames, {count - done} are left")
            memset(&totals, 0, sizeof(totals))
            if lengths[row]:
                with nogil:
                    sum_pages(&self.table, counts, &frames[done], lengths[row], &totals)
                done += lengths[row]
            sums[row, 0] = totals.frames
            sums[row, 1] = totals.share >> SHARE_BITS
            sums[row, 2] = totals.unique >> SHARE_BITS
        if done != count:
            raise ValueError(f"{count} frames are more than those of the rows, {done}")

    def own(self, const uint64_t[::1] frames, uint32_t[::1] counts):
        """Fill in how often these processes map each frame."""
        look_up_all(self, frames, counts, NULL)

    def all(self, const uint64_t[::1] frames, uint32_t[::1] counts):
        """Fill in how often all processes map each frame; after `read`."""
        look_up_all(self, frames, counts, counts_of(self))
