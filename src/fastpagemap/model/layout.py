"""Where an object's bytes are: buffers, ``__array_interface__``, DLPack. Pure: nothing is read."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from .._kernel import buffers

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Layout", "Memory", "has_memory", "layout_of"]


# What objects raise that will not tell, or tell nonsense.
_REFUSALS = (TypeError, BufferError, ValueError, OverflowError, RuntimeError)
# Said of a Series or a DataFrame.
_ARRAYS = ", such as numpy.asarray() may make of it without copying"


class _HasArrayInterface(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class _HasDlpack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


class _HasBuf(Protocol):
    @property
    def buf(self) -> Any: ...


if TYPE_CHECKING:
    Memory = Buffer | _HasArrayInterface | _HasDlpack | _HasBuf
else:
    Memory = Any
"""Whatever has memory to ask about; see `fastpagemap.span`."""


class Layout(NamedTuple):
    """Where the elements of an array are, as numpy says it; strides are in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    def extent(self) -> tuple[int, int]:
        """Return the addresses of the first byte and of the one after the last."""
        first = last = self.address
        if 0 in self.shape or not self.itemsize:
            return first, first
        for length, stride in zip(self.shape, self.strides, strict=True):
            reach = (length - 1) * stride
            first, last = first + min(reach, 0), last + max(reach, 0)
        return first, last + self.itemsize

    def bytes_below(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return how many of the array's bytes lie below each address; each byte counts once.

        Raises
        ------
        ValueError
            Elements overlap in a way that no slicing, transposing or broadcasting makes.
        """
        first, last = self.extent()
        steps, block = self._steps()
        left = (np.clip(addresses, first, last) - np.uint64(first)).astype(np.int64)
        found = np.zeros(len(left), np.int64)
        inner = block * math.prod(count for _, count in steps)
        for stride, count in reversed(steps):
            inner //= count
            whole = np.minimum(left // stride, count - 1)
            found += whole * inner
            left -= whole * stride
        return found + np.minimum(left, block)

    def _steps(self) -> tuple[list[tuple[int, int]], int]:
        """Return the same bytes as blocks: how they repeat, and the size of each.

        Each (stride, count) repeats all that is before it, with gaps. A negative stride covers the
        same bytes as a positive one; one of 0 adds none.
        """
        axes = zip(map(abs, self.strides), self.shape, strict=True)
        block, steps, reach = self.itemsize, list[tuple[int, int]](), self.itemsize
        for stride, count in sorted(axis for axis in axes if axis[0] and axis[1] > 1):
            last, many = steps[-1] if steps else (1, block)
            if stride % last == 0 and stride <= last * many:
                # It goes on where the one before ends, or sooner.
                many += stride // last * (count - 1)
                if steps:
                    steps[-1] = last, many
                else:
                    block = many
            elif stride < reach:
                raise ValueError(f"strides {self.strides} interleave: its bytes cannot be counted")
            else:
                steps.append((stride, count))
            reach += stride * (count - 1)
        return steps, block


def layout_of(owner: Any) -> Layout:
    """Return where an object's bytes are; see `fastpagemap.span`."""
    why: Exception | None = None
    for told in (_by_buffer, _by_interface, _by_dlpack, _by_buf):
        try:
            found = told(owner)
        except _REFUSALS as error:
            why = error
            continue
        if found is not None:
            return found
    raise TypeError(
        f"{type(owner).__name__!r} has no memory to ask about: a buffer, __array_interface__ or "
        f"__dlpack__ is needed{_ARRAYS if hasattr(type(owner), '__array__') else ''} ({why})"
    )


def has_memory(thing: object) -> TypeGuard[Memory]:
    """Return whether `layout_of` says where the bytes of an object are."""
    try:
        layout_of(thing)
    except TypeError:
        return False
    return True


def _by_buffer(owner: Any) -> Layout:
    return Layout(*buffers.layout(owner))


def _by_interface(owner: Any) -> Layout | None:
    if getattr(owner, "__array_interface__", None) is None:
        return None
    # Both are alive at once: two copies are never at the same address.
    array, again = _interfaced(owner), _interfaced(owner)
    found = _by_buffer(array)
    if found.address != _by_buffer(again).address:
        raise TypeError("its __array_interface__ is of a copy, made anew each time")
    return found


def _interfaced(owner: Any) -> npt.NDArray[Any]:
    """Return an array on the memory of an ``__array_interface__``, as numpy understands it."""
    # Not of the owner itself: numpy would look for other ways, and copy.
    return np.asarray(SimpleNamespace(__array_interface__=owner.__array_interface__))


def _by_dlpack(owner: Any) -> Layout | None:
    if not hasattr(owner, "__dlpack__"):
        return None
    address, shape, strides, itemsize = buffers.dlpack_layout(_dlpack(owner))
    if strides is None:  # it is contiguous
        strides = tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Layout(address, shape, strides, itemsize)


def _by_buf(owner: Any) -> Layout | None:
    buf = getattr(owner, "buf", None)
    return _by_buffer(buf) if isinstance(buf, memoryview) else None


def _dlpack(tensor: Any) -> Any:
    """Return the capsule of a tensor; if it requires a gradient, of the detached tensor."""
    try:
        return _capsule(tensor)
    except (BufferError, RuntimeError):
        if not hasattr(tensor, "detach"):
            raise
        return _capsule(tensor.detach())


def _capsule(tensor: Any) -> Any:
    """Return the capsule, in the newer form if the object supports that."""
    try:
        return tensor.__dlpack__(max_version=(1, 0))
    except TypeError:
        return tensor.__dlpack__()
