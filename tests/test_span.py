"""span(): the pages that cover whatever has memory."""

import array
import ctypes
import mmap
from types import SimpleNamespace

import numpy as np
import pytest

import fastpagemap as fpm
import memory
from linux import PAGE


def pages_of(first, last):
    """The page-aligned span around bytes from address `first` up to `last`."""
    return first // PAGE * PAGE, -(-last // PAGE) * PAGE


def around(values):
    """What span() must say of a numpy array, from numpy's own word on where its bytes are."""
    first, last = np.lib.array_utils.byte_bounds(values)
    return pages_of(first, last)


BASE = np.arange(60_000, dtype=np.uint32)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(BASE, id="whole"),
        pytest.param(BASE[5:6], id="one"),
        pytest.param(BASE[::7], id="strided"),
        pytest.param(BASE[::-1], id="backwards"),
        pytest.param(BASE[50_000:100:-3], id="strided backwards"),
        pytest.param(BASE.reshape(300, 200)[20:, 100:50:-2], id="two-dimensional"),
        pytest.param(BASE.reshape(300, 200).T, id="transposed"),
        pytest.param(BASE.view([("a", "u1"), ("b", "u1", 3)])["b"], id="a field"),
        pytest.param(BASE.view("M8[s]"), id="dates"),
        pytest.param(np.broadcast_to(BASE[7], (1000, 1000)), id="broadcast"),
        pytest.param(np.asfortranarray(np.ones((50, 40))), id="Fortran"),
        pytest.param(np.ones(30, np.longdouble), id="longdouble"),
        pytest.param(np.ones((0, 5)), id="empty"),
    ],
)
def test_arrays(values):
    start, end = fpm.span(values)
    if values.size:
        assert (start, end) == around(values)
    else:
        assert start == end
    assert start % PAGE == end % PAGE == 0
    assert type(start) is type(end) is int


def test_every_place_in_a_page():
    base = BASE.view(np.uint8)
    for first in range(0, 2 * PAGE, 61):
        for size in (1, PAGE - 1, PAGE, PAGE + 1):
            part = base[first : first + size]
            assert fpm.span(part) == around(part)


def test_read_only_arrays():
    values = np.arange(10_000)
    values.flags.writeable = False
    assert fpm.span(values) == around(values)


def test_bytes_like():
    holder = bytearray(50_000)
    first = ctypes.addressof(ctypes.c_char.from_buffer(holder))
    expected = pages_of(first, first + len(holder))
    assert fpm.span(holder) == fpm.span(memoryview(holder)) == expected
    assert fpm.span(memoryview(holder).toreadonly()) == expected
    assert fpm.span(memoryview(holder)[30_000:30_010]) == pages_of(first + 30_000, first + 30_010)
    assert fpm.span(memoryview(holder)[::-2]) == pages_of(first + 1, first + 50_000)
    text = b"x" * 50_000
    assert fpm.span(text) == around(np.frombuffer(text, np.uint8))
    numbers = array.array("d", range(5000))
    first, count = numbers.buffer_info()
    assert fpm.span(numbers) == pages_of(first, first + 8 * count)


def test_mmap():
    with mmap.mmap(-1, 5 * PAGE) as mapped, fpm.PageMap() as pm:
        start, end = fpm.span(mapped)
        assert end - start == 5 * PAGE
        mapped[2 * PAGE] = 1
        assert pm.present(start, end).tolist() == [False, False, True, False, False]


def test_ctypes():
    values = (ctypes.c_int64 * 1000)()
    first = ctypes.addressof(values)
    assert fpm.span(values) == pages_of(first, first + 8000)


@pytest.mark.parametrize("strides", [None, (8,), (-8,), (24,)])
def test_array_interface(strides):
    made = memory.Memory(20)
    data = (made.at(10), True)
    owner = SimpleNamespace(
        __array_interface__={
            "version": 3,
            "data": data,
            "shape": (500,),
            "typestr": "<f8",
            "strides": strides,
        }
    )
    reach = 499 * (strides or (8,))[0]
    first, last = min(data[0], data[0] + reach), max(data[0], data[0] + reach)
    assert fpm.span(owner) == pages_of(first, last + 8)
    made.close()


def test_no_byte_gives_an_empty_span():
    for nothing in (b"", bytearray(), memoryview(b""), np.empty(0), np.empty((3, 0, 2))):
        start, end = fpm.span(nothing)
        assert start == end
        assert start % PAGE == 0
        with fpm.PageMap() as pm:
            assert pm.present(start, end).shape == (0,)


@pytest.mark.parametrize("thing", [None, 7, "text", object(), [1, 2], {}, int], ids=repr)
def test_what_has_no_memory_is_a_type_error(thing):
    with pytest.raises(TypeError):
        fpm.span(thing)


def test_a_span_is_what_the_methods_take():
    values = np.ones(100_000)
    with fpm.PageMap() as pm:
        assert pm.present(*fpm.span(values)).all()


def test_the_buffer_is_not_held():
    values = bytearray(100)
    fpm.span(values)
    values.extend(b"x" * 1000)  # a BufferError if it were
