"""Blocks of neighbouring frames, with how often some processes map each, found by a hash table.

Their size follows what is mapped, not how much RAM there is.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BLOCK_FRAMES = 4

ctypedef struct block_t:
    uint64_t number                 # of its first frame, in blocks
    uint32_t[BLOCK_FRAMES] own      # how often the processes that were added map each frame

ctypedef struct table_t:
    block_t *blocks
    size_t count
    size_t capacity
    size_t checked                  # the bytes that are known to fit into free memory
    uint64_t pages                  # how many frames were added, each as often as it was
    uint32_t *slots                 # a hash table: the number of a block, plus 1
    size_t slot_count

# Count frames: one element a page of any of the processes, in any order.
cdef int add_frames(table_t *table, const uint64_t *frames, size_t count) noexcept nogil
# Return a block by its number, or NULL.
cdef const block_t *find_block(const table_t *table, uint64_t number) noexcept nogil
# Sort the blocks, in place. Until they are indexed none is found.
cdef void sort_blocks(table_t *table) noexcept nogil
cdef int index_blocks(table_t *table) noexcept nogil
cdef size_t table_bytes(const table_t *table) noexcept nogil
cdef void free_table(table_t *table) noexcept nogil
