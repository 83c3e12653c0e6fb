"""How much stack the C level takes: a signal handler has not much."""

import ctypes

import numpy as np
import pytest

import memory
from fastpagemap import core
from needs import Absent, need

#: What core.pxd promises to a signal handler.
STACK = 80 << 10


def stack_used(function, *arguments):
    """How many bytes of stack a C function takes, called on one of its own (makecontext)."""
    libc = ctypes.CDLL(None)
    need(hasattr(libc, "makecontext"), "makecontext (glibc)", Absent)
    stack = np.full(1 << 20, 0xAA, np.uint8)
    back, there = (ctypes.c_uint64 * 512)(), (ctypes.c_uint64 * 512)()
    libc.getcontext(there)
    # struct ucontext_t begins with: flags, link, and the stack's address, flags and size
    there[1], there[2], there[4] = ctypes.addressof(back), stack.ctypes.data, stack.nbytes
    words = [ctypes.c_uint64(argument) for argument in arguments]
    libc.makecontext(there, ctypes.c_void_p(function), len(words), *words)
    assert libc.swapcontext(back, there) == 0
    return stack.nbytes - int(np.argmax(stack != 0xAA))


@pytest.mark.parametrize("step", [1, 2, 7])
def test_no_more_stack_than_promised(step):
    name_of, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    api = pointer(core._C_API, name_of(core._C_API))
    fill_mask = (ctypes.c_void_p * 4).from_address(api)[3]
    mask = np.zeros(1 << 16, np.uint8)
    with (
        memory.touched(len(mask), step) as made,
        open("/proc/self/pagemap", "rb") as pagemap,
        open("/proc/self/maps", "rb") as maps,
    ):
        # by their numbers in core.pxd
        for number, name in enumerate(("PRESENT", "SWAP_ENTRY", "SHARED", "EXCLUSIVE")):
            fds = pagemap.fileno(), maps.fileno()
            span = made.start, len(mask)
            used = stack_used(fill_mask, *fds, *span, number, mask.ctypes.data)
            assert used <= STACK, name
            if name in ("PRESENT", "EXCLUSIVE"):
                assert mask.sum() == len(range(0, len(mask), step))
