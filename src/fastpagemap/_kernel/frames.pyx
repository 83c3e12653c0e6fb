"""Read what the kernel says of page frames, without the GIL.

A read costs as much as seven frames. So frames that lie close together are read together, with what
lies between them.

Source: fs/proc/page.c, Documentation/admin-guide/mm/pagemap.rst.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpagemap._kernel cimport abi

from .failures import failure

cdef enum:
    # Frames between two that are read at once: what a read costs by itself.
    MAX_GAP_FRAMES = 7
    # Frames between two checks for a pending signal: 30 ms.
    SIGNAL_CHECK_FRAMES = 1 << 18

# An entry has no more bits for a frame number; larger ones would overflow the file's offset.
cdef uint64_t END = <uint64_t> 1 << 55


cdef ssize_t read_window(int file, uint64_t first, size_t count, uint64_t *values) noexcept nogil:
    cdef char *buffer = <char *> values
    cdef size_t size = count * sizeof(uint64_t), done = 0
    cdef ssize_t got
    if first >= END:
        memset(buffer, 0, size)
        return count
    while done < size:
        got = abi.pread(file, buffer + done, size - done, first * sizeof(uint64_t) + done)
        if got > 0:
            done += got
        elif got == 0:  # beyond the last frame
            memset(buffer + done, 0, size - done)
            break
        elif errno != EINTR:
            return -errno
    return count


cdef size_t next_window(const uint64_t *frames, const int64_t *order, size_t at, size_t count,
                        uint64_t *first, uint64_t *last) noexcept nogil:
    """Return up to which of the frames, from `at` on, one read reaches; and what it has to read.

    They may ascend, descend, and be mixed within the window.
    """
    cdef uint64_t frame = frames[order[at] if order is not NULL else at]
    cdef uint64_t low = frame, high = frame
    while True:
        first[0], last[0] = low, high
        at += 1
        if at == count:
            return at
        frame = frames[order[at] if order is not NULL else at]
        if frame < low:
            if low - frame > MAX_GAP_FRAMES + 1 or high - frame >= WINDOW_FRAMES:
                return at
            low = frame
        elif frame > high:
            if frame - high > MAX_GAP_FRAMES + 1 or frame - low >= WINDOW_FRAMES:
                return at
            high = frame


cdef ssize_t read_ordered(int file, const uint64_t *frames, const int64_t *order, size_t count,
                          uint64_t *values, uint32_t *counts) noexcept nogil:
    """Read frames into `values`, or into `counts`, where more than 32 bits become their maximum."""
    cdef uint64_t[WINDOW_FRAMES] window
    cdef uint64_t first, last, value
    cdef size_t at = 0, end, place, offset
    cdef ssize_t got
    while at < count:
        end = next_window(frames, order, at, count, &first, &last)
        got = read_window(file, first, last - first + 1, window)
        if got < 0:
            return got
        while at < end:
            place = order[at] if order is not NULL else at
            offset = frames[place] - first
            # Another thread may have changed the number since.
            value = window[offset] if offset <= last - first else 0
            if counts is NULL:
                values[place] = value
            else:
                counts[place] = <uint32_t> min(value, <uint64_t> 0xffffffff)
            at += 1
    return count


cdef ssize_t read_frames(int file, const uint64_t *frames, size_t count,
                         uint64_t *values) noexcept nogil:
    return read_ordered(file, frames, NULL, count, values, NULL)


# ---- for Python --------------------------------------------------------------------------------

cdef int read_slices(int file, object path, const uint64_t *frames, const int64_t *order,
                     size_t count, uint64_t *values, uint32_t *counts) except -1:
    """Read all frames; signals are handled now and then."""
    cdef size_t done = 0, batch, shift
    cdef ssize_t got
    while done < count:
        batch = min(count - done, <size_t> SIGNAL_CHECK_FRAMES)
        # An order is of the whole arrays.
        shift = done if order is NULL else 0
        with nogil:
            got = read_ordered(file, frames + shift, order + done if order is not NULL else NULL,
                               batch, values + shift if values is not NULL else NULL,
                               counts + shift if counts is not NULL else NULL)
        if got < 0:
            raise failure(-got, path)
        done += batch
        PyErr_CheckSignals()
    return 0


def cost(const uint64_t[::1] frames):
    """Return what reading these frames takes in their order, in times of what one frame takes."""
    cdef size_t at = 0, count = frames.shape[0], found = 0
    cdef uint64_t first, last
    with nogil:
        while at < count:
            at = next_window(&frames[0], NULL, at, count, &first, &last)
            found += MAX_GAP_FRAMES + last - first + 1
    return found


cdef const int64_t *pointer(const int64_t[::1] order) noexcept:
    if order is None:
        return NULL
    return &order[0]


def read(int file, object path, const uint64_t[::1] frames, const int64_t[::1] order,
         uint64_t[::1] values):
    """Read one value a frame. With an order, frames[order[0]] is read first, and so on."""
    cdef size_t count = frames.shape[0]
    if count:
        read_slices(file, path, &frames[0], pointer(order), count,
                    &values[0], NULL)


def read_counts(int file, object path, const uint64_t[::1] frames, const int64_t[::1] order,
                uint32_t[::1] counts):
    """Read one value a frame as `read` does; what does not fit 32 bits becomes their maximum."""
    cdef size_t count = frames.shape[0]
    if count:
        read_slices(file, path, &frames[0], pointer(order), count, NULL,
                    &counts[0])
