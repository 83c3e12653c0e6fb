"""Which pages of an array did a function write, and which of its rows?

    python examples/pages_written.py

``writes_to`` below is small enough to copy. It rests on fastpagemap.WriteTracker: the kernel notes
the first write to each page, by any thread or system call, and the writer pays one page fault for
each; nothing is copied or compared. It needs Linux 6.7, and no privileges.

Three things to know:

- The kernel tells pages, not bytes. A row that has some memory on a page written *may* have been
  written; a row without was *not*. Rows of a page or more, aligned, make it exact.
- The first and the last page of an array may hold other objects, whose writes count, too. Memory
  of one's own whole pages (``mmap``) has no such neighbours.
- The first write to a tracked transparent huge page makes it small pages for good: that keeps the
  answer exact, and costs speed. hugetlb pages stay, and are written as a whole.
"""

import contextlib
import functools
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastpagemap
from fastpagemap import PAGE_SIZE, Category, WriteTracker

Array = npt.NDArray[Any]
Spans = list[tuple[int, int]]


@contextlib.contextmanager
def writes_to(array: Array) -> Iterator[Spans]:
    """Track an array: once the block is left, the list given holds the (start, end) written."""
    written: Spans = []
    with WriteTracker(array) as tracker:
        try:
            yield written
        finally:
            found = tracker.regions(mask=Category.WRITTEN, returns=Category.WRITTEN)
            written += found[["start", "end"]].tolist()


def tells_writes(array: Array) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator: the function returns its result, and what it wrote of an array."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> tuple[Any, Spans]:
            with writes_to(array) as written:
                result = function(*args, **kwargs)
            return result, written

        return tracked

    return decorate


def rows_on(array: Array, spans: Spans) -> npt.NDArray[np.bool_]:
    """Return which rows of a C-contiguous array have a byte in one of the spans."""
    each = array.strides[0]
    first = array.ctypes.data
    touched = np.zeros(len(array), bool)
    for start, end in spans:
        # the first row that ends behind `start`, and the first that begins at `end` or behind it
        touched[max(0, (start - first) // each) : max(0, -((first - end) // each))] = True
    return touched


def runs(numbers: npt.NDArray[np.intp]) -> str:
    """Return sorted numbers as text, those that follow each other as FIRST-LAST."""
    if not len(numbers):
        return "none"
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def main() -> None:
    """Have two functions write to one array, and tell what they wrote."""
    rows, columns = 4096, PAGE_SIZE // 8 // 2  # two rows a page
    memory = mmap.mmap(-1, rows * columns * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    array = np.frombuffer(memory, float).reshape(rows, columns)

    @tells_writes(array)
    def scale(first: int, last: int) -> float:
        array[first:last] *= 2
        return float(array.sum())

    with writes_to(array) as written:
        array[7, 3] = 1
        array[1000:1010] = np.arange(columns)
        array.sum()  # reading is not writing
    tell("assignments", array, written)
    _, written = scale(2000, 2001)
    tell("scale(2000, 2001)", array, written)


def tell(what: str, array: Array, written: Spans) -> None:
    """Print what was written."""
    start, _ = fastpagemap.span(array)
    pages = [page for low, high in written for page in range(low, high, PAGE_SIZE)]
    print(what)
    print("  pages written:", runs((np.array(pages, np.intp) - start) // PAGE_SIZE))
    print("  rows on them: ", runs(np.flatnonzero(rows_on(array, written))))


if __name__ == "__main__":
    try:
        main()
    except fastpagemap.UnsupportedError as error:
        sys.exit(f"pages_written: {error}")
