"""Spans of pages: check addresses, and find the span that covers an object's memory."""

import numbers
import operator
from typing import Any, TypeGuard, cast

from .entry import PAGE_SIZE, page_count
from .layout import Memory, layout_of

__all__ = ["Start", "checked", "is_memory", "span", "spanned"]


Start = int | Memory
"""Where a span begins, or an object with memory, which has an end of its own."""


def span(buffer: Memory) -> tuple[int, int]:
    """Return the page-aligned span that covers an object's memory.

    Parameters
    ----------
    buffer : object
        An object with the buffer protocol (bytes, bytearray, memoryview, mmap, array.array, ctypes
        arrays, pyarrow buffers, numpy arrays of any strides and dtype), with
        ``__array_interface__``, with ``__dlpack__`` (torch and jax tensors on the CPU, also those
        that require a gradient), or with a memoryview as its ``buf``
        (``multiprocessing.shared_memory.SharedMemory``). It may be read-only. For a Series of
        pandas or polars, give ``numpy.asarray(series)``: that is its memory, unless numpy copies.

    Returns
    -------
    start, end : int
        Addresses in bytes, as the methods of ``PageMap`` take them. The first and the last page may
        hold memory of other objects, too. An object without bytes gives an empty span.

    Raises
    ------
    TypeError
        The object has no memory to ask about, or its memory is on another device, or it hands out
        a new copy each time (images of Pillow).

    Notes
    -----
    Keep the object alive: the addresses do not hold its memory. Nothing is copied, and no library
    is imported.

    Source: https://docs.python.org/3/c-api/buffer.html,
    https://numpy.org/doc/stable/reference/arrays.interface.html, https://dmlc.github.io/dlpack.

    Examples
    --------
    >>> array = np.zeros(100_000)
    >>> start, end = fpm.span(array)
    >>> start % fpm.PAGE_SIZE, end % fpm.PAGE_SIZE, end - start >= array.nbytes
    (0, 0, True)
    """
    first, last = layout_of(buffer).extent()
    start = first // PAGE_SIZE * PAGE_SIZE
    return start, (page_count(last) * PAGE_SIZE if last > first else start)


def spanned(
    start: Start, end: int | None, last: int | None = None, *, page_size: int = PAGE_SIZE
) -> tuple[int, int, int]:
    """Return the start, the end and the number of pages of what a caller asks about.

    Parameters
    ----------
    start : int or object
        An address; or, alone, an object as `span` takes it.
    end : int or None
        The end of the span that begins at an address.
    last : int, optional
        The end for an address without one.
    page_size : int, optional
        What addresses are multiples of.

    Raises
    ------
    TypeError
        It is an address without an end, an object with one, or an object without memory.
    ValueError
        As from `checked`.
    """
    if end is None and is_memory(start):
        return checked(*span(start))
    end = last if end is None else end
    try:
        if end is None:
            raise TypeError(f"start {operator.index(cast(int, start)):#x} has no end")
        return checked(start, end, page_size)
    except TypeError as error:
        raise TypeError(f"{error}: give start and end, or one object with memory alone") from None


def is_memory(start: Start) -> TypeGuard[Memory]:
    """Return whether what is given as a span, without an end, is no address."""
    # numpy's numbers are meant as addresses, although they are buffers, too. A tuple is a Mapping,
    # or a span that was not unpacked.
    return not isinstance(start, (numbers.Number, tuple))


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
