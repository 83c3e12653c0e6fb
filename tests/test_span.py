"""span(): the pages that cover whatever has memory."""

import array
import ctypes
import mmap
from multiprocessing import shared_memory
from types import SimpleNamespace

import numpy as np
import pytest

import fastpagemap as fpm
import memory
from linux import PAGE
from needs import Missing


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


def interface(**changed):
    """An object that tells of BASE by ``__array_interface__``, otherwise in some points."""
    told = {**BASE.__array_interface__, **changed}
    return SimpleNamespace(__array_interface__={k: v for k, v in told.items() if v is not ...})


def test_array_interface_on_a_buffer():
    """The data may be another object with memory, and where in it the array begins."""
    holder = bytearray(50_000)
    owner = interface(data=holder, shape=(100,), offset=8000)
    assert fpm.span(owner) == fpm.span(memoryview(holder)[8000:8400])


class Image:
    """Copies its pixels each time it is asked for them, as pictures of Pillow do."""

    @property
    def __array_interface__(self):
        return {"version": 3, "data": bytes(50_000), "shape": (50_000,), "typestr": "|u1"}


@pytest.mark.parametrize("ask", [fpm.span, fpm.resident, fpm.PageMap().present])
def test_a_copy_is_not_the_memory_asked_about(ask):
    with pytest.raises(TypeError, match=r"'Image' has no memory .* of a copy"):
        ask(Image())


@pytest.mark.parametrize(
    "wrong",
    [
        interface(typestr=...),
        interface(typestr="zz"),
        interface(data=None),
        interface(data=("7", False)),
        interface(data=(2**70, False)),
        interface(shape=(-4,)),
        interface(shape=(2**62,)),
        interface(strides=(4, 4)),
        SimpleNamespace(__array_interface__=7),
    ],
)
def test_an_array_interface_that_makes_no_sense(wrong):
    with pytest.raises(TypeError, match="'SimpleNamespace' has no memory to ask about"):
        fpm.span(wrong)


def test_what_can_make_an_array_says_so():
    """A Series of pandas or polars tells of its memory to numpy alone."""

    class Series:
        def __array__(self):
            return BASE

    with pytest.raises(TypeError, match=r"numpy\.asarray\(\) may make of it"):
        fpm.span(Series())


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


def test_shared_memory():
    """Its .buf is the memory; closed, there is none."""
    held = shared_memory.SharedMemory(create=True, size=3 * PAGE)
    try:
        start, end = fpm.span(held)
        assert end - start == 3 * PAGE
        held.buf[PAGE] = 1
        with fpm.PageMap() as pm:
            assert pm.present(start, end).tolist() == [False, True, False]
        held.close()
        with pytest.raises(TypeError, match="no memory to ask about"):
            fpm.span(held)
    finally:
        held.unlink()


class Tensor:
    """Tells of its memory by DLPack alone, as torch's do; numpy writes the capsule."""

    def __init__(self, values, requires_grad=False):
        self.values, self.requires_grad = values, requires_grad

    def __dlpack__(self, **options):
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient")
        return self.values.__dlpack__(**options)

    def detach(self):
        return Tensor(self.values)


class OldTensor(Tensor):
    """One from before there were versions of it."""

    def __dlpack__(self):
        return super().__dlpack__()


@pytest.mark.parametrize(
    "values",
    [
        BASE,
        BASE[::7],
        BASE[::-1],
        BASE.reshape(300, 200)[20:, 100:50:-2],
        BASE.reshape(300, 200).T,
        np.ones((3, 1, 4), np.complex128),
        np.ones((), np.float16),
        np.ones((5, 0, 3)),
    ],
    ids=lambda values: f"{values.shape} {values.strides}",
)
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("kind", [Tensor, OldTensor])
def test_dlpack(values, requires_grad, kind):
    told = fpm.span(kind(values, requires_grad))
    if values.size:
        assert told == around(values)
    else:
        assert told[0] == told[1]


def test_dlpack_of_another_device():
    """What a capsule says is in memory of another kind is nowhere here."""

    class OnDevice:
        def __dlpack__(self):
            capsule = BASE.__dlpack__()
            get = ctypes.pythonapi.PyCapsule_GetPointer
            get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            ctypes.c_int32.from_address(get(capsule, b"dltensor") + 8).value = 2
            return capsule

    with pytest.raises(TypeError, match=r"on a device .*number 2"):
        fpm.span(OnDevice())


def test_a_tensor_that_will_not_tell():
    tensor = Tensor(BASE, requires_grad=True)
    tensor.detach = lambda: tensor
    with pytest.raises(TypeError, match="require gradient"):
        fpm.span(tensor)


def test_pyarrow():
    try:
        import pyarrow
    except ImportError as error:
        raise Missing("pyarrow") from error
    values = pyarrow.array(range(10_000), pyarrow.int32())
    buffer = values.buffers()[1]
    assert fpm.span(buffer) == pages_of(buffer.address, buffer.address + buffer.size)
    assert fpm.span(buffer.slice(5000, 100))[0] == (buffer.address + 5000) // PAGE * PAGE
    assert fpm.span(values) == pages_of(buffer.address, buffer.address + 40_000)
