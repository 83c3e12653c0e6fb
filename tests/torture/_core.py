"""The C level, called through its capsule, next to the masks and the entries of the same pages."""

import ctypes
import os

import numpy as np

import oracle
from fastpagemap import core
from fastpagemap.process.probes import categories

_QUESTIONS = {"present": 0, "shared": 2, "exclusive": 3}
_U64, _SIZE, _INT = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int
_POINTER = ctypes.c_void_p


def _function(address, *types):
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, *types)(address)


def _load():
    """The functions of fastpagemap.h, in the order of its struct."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
    at = get(core._C_API, b"fastpagemap.core._C_API")
    _, *found = (_POINTER * 6).from_address(at)
    return (
        _function(found[0], _INT, _U64, _SIZE, _POINTER),
        _function(found[1], _POINTER, _SIZE, _INT, _POINTER),
        _function(found[2], _INT, _INT, _U64, _SIZE, _INT, _POINTER),
        _function(found[3], _INT, _INT, _U64, _SIZE, _INT),
    )


_read_entries, _decode, _fill_mask, _count_pages = _load()


def agrees(pages, masks, pid=None):
    """Assert that the C level says of these pages what the masks and entries say."""
    place = f"/proc/{pid or 'self'}"
    count = len(pages)
    pagemap, maps = (os.open(f"{place}/{name}", os.O_RDONLY) for name in ("pagemap", "maps"))
    try:
        entries = np.zeros(count, np.uint64)
        assert _read_entries(pagemap, pages.start, count, entries.ctypes.data) == count
        assert (entries == pages.entries["value"]).all(), "entries of the C level"
        for name, number in _QUESTIONS.items():
            wanted = masks[name]
            mask = np.full(count, 7, np.uint8)
            # Without a scan the C level takes the huge zero page for a file's, as documented.
            descriptors = (maps, -1) if categories() or name != "shared" else ()
            for descriptor in descriptors:
                mask.fill(7)
                told = _fill_mask(pagemap, descriptor, pages.start, count, number, mask.ctypes.data)
                assert told == sum(wanted), f"{name}: count of the C level"
                assert mask.tolist() == [int(one) for one in wanted], f"{name} of the C level"
                told = _count_pages(pagemap, descriptor, pages.start, count, number)
                assert told == sum(wanted), f"{name}: count of pages of the C level"
            # decoded without a scan, which alone tells the huge zero page from a shared one
            wanted = [oracle.TWINS[name](word) for word in entries.tolist()]
            told = _decode(entries.ctypes.data, count, number, mask.ctypes.data)
            assert told == sum(wanted), f"{name}, decoded by the C level"
    finally:
        os.close(pagemap)
        os.close(maps)
