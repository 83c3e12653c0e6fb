"""Where an object's bytes are: buffers, ``__array_interface__``, DLPack. Pure: nothing is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from .._kernel import buffers

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Layout", "Memory", "has_memory", "layout_of"]


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
    try:
        return Layout(*buffers.layout(owner))
    except (TypeError, BufferError, ValueError) as error:
        why: Exception = error
    interface = getattr(owner, "__array_interface__", None)
    if interface is not None and interface.get("data") is not None:
        itemsize = np.dtype(interface["typestr"]).itemsize
        return _layout(interface["data"][0], interface["shape"], interface.get("strides"), itemsize)
    try:
        if hasattr(owner, "__dlpack__"):
            return _layout(*buffers.dlpack_layout(_dlpack(owner)))
        if isinstance(getattr(owner, "buf", None), memoryview):
            return Layout(*buffers.layout(owner.buf))
    except (TypeError, BufferError, ValueError, RuntimeError) as error:
        why = error
    raise TypeError(
        f"{type(owner).__name__!r} has no memory to ask about: a buffer, __array_interface__ or "
        f"__dlpack__ is needed ({why})"
    ) from None


def has_memory(thing: object) -> TypeGuard[Memory]:
    """Return whether `layout_of` says where the bytes of an object are."""
    try:
        layout_of(thing)
    except TypeError:
        return False
    return True


def _layout(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int
) -> Layout:
    """Return a layout; without strides it is contiguous."""
    if strides is None:
        strides = tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Layout(address, shape, strides, itemsize)


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
