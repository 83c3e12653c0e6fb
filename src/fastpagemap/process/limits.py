"""How much memory a result may use: what the machine has left, and this process's cgroups."""

import glob
import math
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel.failures import tells_of_file
from .._kernel.growing import limit_growth
from ..model import entry
from ..model.integers import not_negative
from .cgroups import left_in_cgroups

__all__ = ["MIN_CHECKED_BYTES", "affordable", "as_uint64", "output"]

MIN_CHECKED_BYTES = 1 << 24
"""Smaller results are not checked: that would cost a tenth of what filling them costs."""

# What else is needed meanwhile: the interpreter's own objects, huge pages begun.
_MARGIN_BYTES = 1 << 23
# For so long nobody is likely to use up the other half of what was left.
_CREDIT_S = 0.05
_NODES = "/sys/devices/system/node/node*/meminfo"
# The lines of a node begin with its number.
_LINE = re.compile(rb"^(?:Node \d+ )?(\w+(?:\(\w+\))?): +(\d+) kB", re.MULTILINE)


def affordable(count: int, itemsize: int, what: str = "pages") -> None:
    """Raise MemoryError if a result would not fit into the memory that is free now.

    The kernel grants a large array at once, but not its pages: if they run out while it is filled,
    the kernel kills a process.
    """
    size = count * itemsize
    if size < MIN_CHECKED_BYTES:
        return
    # With page tables: 8 bytes for each 4096.
    needed = size + (size >> 9) + _MARGIN_BYTES
    if _credit.grants(needed):
        return
    least = 1 << 63
    for available, whose in _left():
        least = min(least, available)
        if needed > available:
            raise MemoryError(
                f"{count} {what} need {size >> 20} MiB, {available >> 20} MiB are available{whose}"
                ": ask for parts of the span, or mapping by mapping"
            )
    _credit.renew(least // 2 - needed)


def output(
    out: npt.NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    what: str = "pages",
) -> npt.NDArray[Any]:
    """Return the array to fill: `out` if it fits, or a new one; MemoryError if that would not."""
    if out is None:
        affordable(math.prod(shape), dtype.itemsize, what)
    return entry.output(out, shape, dtype)


def as_uint64(integers: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint64]:
    """Return integers as contiguous uint64; MemoryError if that takes a copy that does not fit.

    ValueError if one is negative: they are looked through once it is known that they fit.
    """
    if not integers.flags.c_contiguous or integers.dtype != np.uint64:
        affordable(integers.size, 8, what)
    return np.asarray(not_negative(integers, what), np.uint64, order="C")


class _Credit:
    """Bytes that may be granted for a moment without looking again: half of what was left.

    To look costs as much as to fill a result that has been filled before, and a program that asks
    at all asks often. A child process may be in another cgroup, and looks for itself.
    """

    def __init__(self) -> None:
        self._whose, self._until, self._left = 0, 0.0, 0

    def renew(self, size: int) -> None:
        """Grant `size` bytes from now on."""
        self._whose, self._until, self._left = os.getpid(), time.monotonic() + _CREDIT_S, size

    def grants(self, size: int) -> bool:
        """Return whether `size` bytes are granted; they are then used up."""
        if size > self._left or time.monotonic() > self._until or self._whose != os.getpid():
            return False
        self._left -= size
        return True


_credit = _Credit()


def _left() -> Iterator[tuple[int, str]]:
    """Yield how many bytes are left, and by whose limit."""
    for source in (_in_meminfo, _in_nodes, _in_sysinfo):
        available = source()
        if available is not None:
            yield available, ""
            break
    yield from left_in_cgroups()


def _in_meminfo() -> int | None:
    """Return MemAvailable; an estimate before Linux 3.14; None where /proc does not tell."""
    try:
        with open("/proc/meminfo", "rb") as file:
            text = file.read()
    except (FileNotFoundError, PermissionError):  # ProcSubset=pid has none
        return None
    sizes = {name: int(size) << 10 for name, size in _LINE.findall(text)}
    if b"MemAvailable" in sizes:
        return sizes[b"MemAvailable"]
    if b"MemFree" not in sizes:
        return None
    # Cached includes shared memory, which does not give way.
    cached = sizes.get(b"Buffers", 0) + sizes.get(b"Cached", 0) - sizes.get(b"Shmem", 0)
    return sizes[b"MemFree"] + max(0, cached)


def _in_nodes() -> int | None:
    """Return an estimate from the memory nodes in /sys; None where it does not tell."""
    total = None
    for path in glob.glob(_NODES):
        try:
            with open(path, "rb") as file:
                text = file.read()
        except (FileNotFoundError, PermissionError):
            return None
        sizes = {name: int(size) << 10 for name, size in _LINE.findall(text)}
        # The kernel keeps up to half of the file pages in use.
        cached = (sizes.get(b"Active(file)", 0) + sizes.get(b"Inactive(file)", 0)) // 2
        total = (total or 0) + sizes.get(b"MemFree", 0) + cached
    return total


def _in_sysinfo() -> int | None:
    """Return what is free altogether; None where this process may not ask."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    except OSError as error:
        if not tells_of_file(error):
            raise
        return None


limit_growth(affordable)
