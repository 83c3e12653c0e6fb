"""Spans of pages: checked addresses, and the span that covers an object's memory."""

import operator
from typing import Any

import numpy as np

from . import reading
from .entry import PAGE_SIZE

__all__ = ["checked", "span"]


def span(buffer: Any) -> tuple[int, int]:
    """Return the page-aligned span that covers an object's memory.

    Parameters
    ----------
    buffer : object
        Anything with the buffer protocol (bytes, bytearray, memoryview, mmap, array.array, numpy
        arrays of any strides and dtype) or with ``__array_interface__``; read-only ones too.

    Returns
    -------
    start, end : int
        Addresses in bytes, as ``PageMap``'s methods take them. Other objects may have memory on
        the first and the last page, too. An object without a byte gives an empty span.

    Raises
    ------
    TypeError
        The object has no memory to ask about.

    Notes
    -----
    Keep the object alive: the addresses are those of its memory, and do not hold it.
    """
    try:
        first, last = reading.extent(buffer)
    except (TypeError, BufferError, ValueError) as error:
        interface = getattr(buffer, "__array_interface__", None)
        if interface is None or interface.get("data") is None:
            raise TypeError(
                f"{type(buffer).__name__!r} has no memory to ask about: "
                f"a buffer or __array_interface__ is needed ({error})"
            ) from None
        first, last = _interface_extent(interface)
    start = first // PAGE_SIZE * PAGE_SIZE
    return start, (-(-last // PAGE_SIZE) * PAGE_SIZE if last > first else start)


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
    """Return start, end and how many pages lie between, or say what is wrong with the addresses.

    Raises
    ------
    TypeError
        An address is no integer.
    ValueError
        An address is not page-aligned, negative or above 2**64, or `end` is below `start`.
    """
    start, end = operator.index(start), operator.index(end)
    if start % size or end % size or not 0 <= start <= end <= 1 << 64:
        raise ValueError(_wrong(start, end, size))
    return start, end, (end - start) // size


def _wrong(start: int, end: int, size: int) -> str:
    """Say what is wrong with a pair of addresses."""
    for name, address in (("start", start), ("end", end)):
        if not 0 <= address <= 1 << 64:
            return f"{name} {address:#x} is no address: 0 to 2**64 is"
        if address % size:
            return f"{name} {address:#x} is not aligned to the page size, {size}"
    return f"end {end:#x} is below start {start:#x}"


def affordable(count: int, itemsize: int) -> None:
    """Raise MemoryError if a result would not fit into the memory that is free now.

    A large array is allocated without being there; filling it would have the kernel kill someone.
    """
    size = count * itemsize
    if size < 1 << 26:
        return
    with open("/proc/meminfo", "rb") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith(b"MemAvailable"))
    if size > available << 10:
        raise MemoryError(
            f"{count} pages need {size >> 20} MiB, {available >> 10} MiB are available: "
            "ask for parts of the span, or mapping by mapping"
        )
