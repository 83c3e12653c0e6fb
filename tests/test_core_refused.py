"""The C level where a sandbox refuses scans: entries answer."""

import ctypes
import errno

import numpy as np
import pytest

import calls
import memory
import runas
import seccomp
from fastpagemap import core

QUESTIONS = {"PRESENT": 0, "SWAP_ENTRY": 1, "SHARED": 2, "EXCLUSIVE": 3, "SOFT_DIRTY": 4}


def function(index):
    """A function of the table that C programs get: fill_mask or count_pages."""
    name_of, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    api = pointer(core._C_API, name_of(core._C_API))
    address = (ctypes.c_void_p * 6).from_address(api)[index]
    arguments = [ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int]
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, *arguments, ctypes.c_void_p)(address)


def answers(made):
    """Every answer about some memory: how many pages, and which."""
    fill_mask = function(3)
    said = {}
    with open("/proc/self/pagemap", "rb") as pagemap, open("/proc/self/maps", "rb") as maps:
        for name, number in QUESTIONS.items():
            mask = np.zeros(made.pages, np.uint8)
            count = fill_mask(
                pagemap.fileno(), maps.fileno(), made.start, made.pages, number, mask.ctypes.data
            )
            said[name] = count, mask.tolist()
    return said


@pytest.mark.parametrize("request_name", ["PAGEMAP_SCAN", "PROCMAP_QUERY"])
@pytest.mark.parametrize(
    "error", [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY], ids=errno.errorcode.get
)
def test_entries_answer(error, request_name):
    def child():
        before = answers(made)
        seccomp.refuse(calls.number("ioctl"), error, calls.REQUESTS[request_name])
        return answers(made) == before, before["PRESENT"][0]

    with memory.sparse(5000) as made:
        assert runas.in_child(child) == (True, len(range(0, 5000, 3)))
