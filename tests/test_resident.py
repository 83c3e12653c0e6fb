"""resident(): how many bytes of an object are in RAM."""

import array
import ctypes
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.lib.stride_tricks import sliding_window_view as windows

import fastpagemap as fpm
import memory
import oracle
import tracked
from linux import PAGE

PAGES = 24


@pytest.fixture(scope="module")
def striped():
    """Memory of which every third page is present."""
    with memory.sparse(PAGES) as made:
        yield made


def in_ram(values):
    """How many different bytes of an array lie on present pages: one element after the other."""
    base = values.__array_interface__["data"][0]
    strides = [np.arange(n) * s for n, s in zip(values.shape, values.strides, strict=True)]
    offsets = sum(np.ix_(*strides)) if strides else np.zeros(1, int)
    first = (base + np.asarray(offsets)).ravel()
    addresses = np.unique(np.add.outer(first, np.arange(values.itemsize)))
    start, end = fpm.span(values)
    present = np.array([word >> 63 for word in oracle.words(start, end)], bool)
    return int(present[(addresses - start) // PAGE].sum())


@pytest.mark.parametrize(
    "view",
    [
        lambda v: v,
        lambda v: v[5:6],
        lambda v: v[100:-100],
        lambda v: v[::7],
        lambda v: v[::-1],
        lambda v: v[50_000:100:-3],
        lambda v: v[:: 2 * PAGE + 1],
        lambda v: v.view(np.uint32)[3::5],
        lambda v: v.view([("a", "u1"), ("b", "u1", 3)])["b"],
        lambda v: v[: 96 * 1000].reshape(96, 1000)[20:, 900:50:-2],
        lambda v: v[: 96 * 1000].reshape(96, 1000).T,
        lambda v: v[: 96 * 1000].reshape(96, 1000).T[3:500:2, ::5],
        lambda v: v[: 90 * 1001].reshape(90, 7, 143)[1::2, ::3, 10:140:4],
        lambda v: np.broadcast_to(v[7], (100, 100)),
        lambda v: np.broadcast_to(v[: 3 * PAGE : 2], (20, 3 * PAGE // 2)),
        lambda v: windows(v[::50], 10),
        lambda v: windows(v[: 90 * 1001].reshape(90, 1001)[:, ::50], (9, 3)),
        lambda v: windows(v[: 90 * 1000].reshape(90, 1000)[:, :999:50], (9, 3)),
        lambda v: v[:0],
        lambda v: v[:300].reshape(3, 100)[:, :0],
    ],
)
def test_resident_bytes_of_an_array(striped, view):
    """Its own bytes, each once, and none of what lies between them or beside."""
    values = view(tracked.array(striped))
    expected = in_ram(values) if values.size else 0
    assert fpm.resident(values) == expected
    assert type(fpm.resident(values)) is int


@given(st.data())
def test_any_view(striped, data):
    """Sliced and transposed at random."""
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    stretch = data.draw(st.integers(1, PAGES * PAGE // (8 * int(np.prod(shape)))))
    values = tracked.array(striped)[: 8 * int(np.prod(shape)) * stretch].view(np.uint64)
    values = values.reshape(*shape, stretch)[..., :: data.draw(st.integers(1, stretch))]
    for axis in range(values.ndim):
        step = data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        first = data.draw(st.integers(0, values.shape[axis] - 1))
        values = np.moveaxis(np.moveaxis(values, axis, 0)[first::step], 0, axis)
    values = values.transpose(data.draw(st.permutations(range(values.ndim))))
    assert fpm.resident(values) == in_ram(values)


def test_resident_of_what_has_memory():
    for owner in (b"x" * 100, bytearray(5000), array.array("d", range(700)), np.ones(10**5)):
        assert fpm.resident(owner) == memoryview(owner).nbytes
    values = (ctypes.c_int64 * 1000)(*range(1000))
    assert fpm.resident(values) == 8000
    with mmap.mmap(-1, 5 * PAGE) as mapped:
        mapped[2 * PAGE] = 1
        assert fpm.resident(mapped) == PAGE
    assert fpm.resident(b"") == fpm.resident(np.empty((3, 0))) == 0
    with pytest.raises(TypeError, match="has no memory to ask about"):
        fpm.resident([1, 2])


def test_elements_that_interleave():
    values = as_strided(np.zeros(100, np.uint8), (5, 5), (3, 4))
    with pytest.raises(ValueError, match="interleave"):
        fpm.resident(values)
