"""Spans of pages: check addresses, and find the span that covers an object's memory."""

import operator
from typing import Any

import numpy as np

from .._kernel import buffers
from .entry import PAGE_SIZE

__all__ = ["checked", "span"]


def span(buffer: Any) -> tuple[int, int]:
    """Return the page-aligned span that covers an object's memory.

    Parameters
    ----------
    buffer : object
        An object with the buffer protocol (bytes, bytearray, memoryview, mmap, array.array, ctypes
        arrays, pyarrow buffers, numpy arrays of any strides and dtype), with
        ``__array_interface__``, with ``__dlpack__`` (torch and jax tensors on the CPU, also those
        that require a gradient), or with a memoryview as its ``buf``
        (``multiprocessing.shared_memory.SharedMemory``). It may be read-only.

    Returns
    -------
    start, end : int
        Addresses in bytes, as ``PageMap``'s methods take them. Other objects may have memory on
        the first and the last page, too. An object of no bytes gives an empty span.

    Raises
    ------
    TypeError
        The object has no memory to ask about, or its memory is on another device.

    Notes
    -----
    Keep the object alive: the addresses do not hold its memory. Nothing is copied, and no library
    is imported.

    Source: https://docs.python.org/3/c-api/buffer.html,
    https://numpy.org/doc/stable/reference/arrays.interface.html, https://dmlc.github.io/dlpack.
    """
    first, last = _extent(buffer)
    start = first // PAGE_SIZE * PAGE_SIZE
    return start, (-(-last // PAGE_SIZE) * PAGE_SIZE if last > first else start)


def _extent(buffer: Any) -> tuple[int, int]:
    """Return the addresses of an object's first byte and of the one after the last."""
    try:
        return buffers.extent(buffer)
    except (TypeError, BufferError, ValueError) as error:
        why: Exception = error
    interface = getattr(buffer, "__array_interface__", None)
    if interface is not None and interface.get("data") is not None:
        return _interface_extent(interface)
    try:
        if hasattr(buffer, "__dlpack__"):
            return buffers.dlpack_extent(_dlpack(buffer))
        if isinstance(getattr(buffer, "buf", None), memoryview):
            return buffers.extent(buffer.buf)
    except (TypeError, BufferError, ValueError, RuntimeError) as error:
        why = error
    raise TypeError(
        f"{type(buffer).__name__!r} has no memory to ask about: a buffer, __array_interface__ or "
        f"__dlpack__ is needed ({why})"
    ) from None


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


def _interface_extent(interface: dict[str, Any]) -> tuple[int, int]:
    """Return the addresses of the first byte and of the one after the last."""
    first = last = interface["data"][0]
    shape = interface["shape"]
    itemsize = np.dtype(interface["typestr"]).itemsize
    if 0 in shape or not itemsize:
        return first, first
    strides = interface.get("strides")
    if strides is None:
        return first, first + itemsize * int(np.prod(shape, dtype=np.int64))
    for length, stride in zip(shape, strides, strict=True):
        reach = (length - 1) * stride
        first, last = first + min(reach, 0), last + max(reach, 0)
    return first, last + itemsize


def checked(start: Any, end: Any, size: int = PAGE_SIZE) -> tuple[int, int, int]:
    """Return start, end and the number of pages; raise if the addresses are wrong.

    Raises
    ------
    TypeError
        An address is not an integer.
    ValueError
        An address is not page-aligned, negative or above 2**64, or `end` is below `start`.
    """
    start, end = operator.index(start), operator.index(end)
    if start % size or end % size or not 0 <= start <= end <= 1 << 64:
        raise ValueError(_wrong(start, end, size))
    return start, end, (end - start) // size


def _wrong(start: int, end: int, size: int) -> str:
    """Return the message for a wrong pair of addresses."""
    for name, address in (("start", start), ("end", end)):
        if not 0 <= address <= 1 << 64:
            return f"{name} {address:#x} is no address: 0 to 2**64 is"
        if address % size:
            return f"{name} {address:#x} is not aligned to the page size, {size}"
    return f"end {end:#x} is below start {start:#x}"
