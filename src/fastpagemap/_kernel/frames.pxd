"""Reading /proc/kpageflags, kpagecount and kpagecgroup: one u64 a page frame.

`file` is one of them, open. 0 stands for a frame beyond the end of the file.
"""

from libc.stdint cimport uint64_t

cdef enum:
    # Frames read at a time. Kept small, because the buffer is on the stack.
    WINDOW_FRAMES = 1024

# Return the count, or -errno. In any order; frames that follow each other closely are read at once.
cdef ssize_t read_frames(int file, const uint64_t *frames, size_t count,
                         uint64_t *values) noexcept nogil
# The same for `count` consecutive frames from `first` on.
cdef ssize_t read_window(int file, uint64_t first, size_t count, uint64_t *values) noexcept nogil
