"""io_uring(7), as much of it as reads into memory."""

import ctypes
import mmap
import os
import struct

import linux

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # one number on every architecture
_GETEVENTS, _REGISTER_BUFFERS = 1, 0
_OFF_CQ_RING, _OFF_SQES = 0x8000000, 0x10000000
_OP_READ_FIXED, _OP_READ = 4, 22


class Ring:
    """A ring of one request at a time."""

    def __init__(self):
        parameters = (ctypes.c_uint32 * 30)()
        self._fd = linux.syscall(_SETUP, 1, parameters)
        # struct io_sqring_offsets and io_cqring_offsets
        self._submission, self._completion = parameters[10:20], parameters[20:30]
        self._rings = [
            mmap.mmap(self._fd, 4096, offset=offset) for offset in (0, _OFF_CQ_RING, _OFF_SQES)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for each in self._rings:
            each.close()
        os.close(self._fd)

    def register(self, start, size):
        """Pin memory as buffer 0."""
        linux.syscall(_REGISTER, self._fd, _REGISTER_BUFFERS, (ctypes.c_size_t * 2)(start, size), 1)

    def read(self, fd, start, size, registered=False):
        """Read a file from its beginning into memory; wait for it."""
        submission, completion, entries = self._rings
        operation = _OP_READ_FIXED if registered else _OP_READ
        entries[:64] = struct.pack(
            "BBHiQQIiQHHiQQ", operation, 0, 0, fd, 0, start, size, 0, 0, 0, 0, 0, 0, 0
        )
        tail, array = self._submission[1], self._submission[6]
        (number,) = struct.unpack_from("I", submission, tail)
        struct.pack_into("I", submission, array, 0)
        struct.pack_into("I", submission, tail, number + 1)
        linux.syscall(_ENTER, self._fd, 1, 1, _GETEVENTS, 0, 0)
        head, mask, entries_at = self._completion[0], self._completion[2], self._completion[5]
        (number,) = struct.unpack_from("I", completion, head)
        (bits,) = struct.unpack_from("I", completion, mask)
        _, result = struct.unpack_from("Qi", completion, entries_at + (number & bits) * 16)
        struct.pack_into("I", completion, head, number + 1)
        if result != size:
            raise OSError(-result, "io_uring read")
