"""The 64-bit entry: its bits, the dtypes it comes in, its decoding. Pure: no I/O.

Source: Documentation/admin-guide/mm/pagemap.rst and fs/proc/task_mmu.c of the Linux kernel.
"""

import enum
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import decoding, reading
from .integers import integers, not_negative

__all__ = [
    "ENTRY_DTYPE",
    "PAGE_DTYPE",
    "PAGE_SIZE",
    "REGION_DTYPE",
    "Category",
    "Flag",
    "decode",
]

PAGE_SIZE: int = reading.PAGE_SIZE
"""Bytes per page of the running kernel."""

_FRAME_BITS = np.uint64((1 << 55) - 1)

ENTRY_DTYPE = np.dtype(
    {
        "names": ["value", "flags"],
        "formats": ["=u8", "=u2"],
        # The flags are bits 48-63: the last two bytes, or the first two on big-endian machines.
        "offsets": [0, 6 if sys.byteorder == "little" else 0],
        "itemsize": 8,
    }
)
"""One entry as the kernel gives it, in 8 bytes: ``value`` (u64), and ``flags`` (u16), which are
bits 48-63 of ``value``."""

PAGE_DTYPE = np.dtype(
    [
        ("pfn", "=u8"),
        ("swap_offset", "=u8"),
        ("swap_type", "u1"),
        ("present", "?"),
        ("swapped", "?"),
        ("file", "?"),
        ("guard", "?"),
        ("uffd_wp", "?"),
        ("exclusive", "?"),
        ("soft_dirty", "?"),
    ],
    align=True,
)
"""One entry decoded: a field for each of its bits and numbers."""


class UInt64Flag(enum.IntFlag):
    """Flags for uint64 arrays: numpy would take the members of a plain IntFlag for int64."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        return self.name or str(int(self))

    @classmethod
    def names(cls, values: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """Return the names of the flags in each number of an array, joined by ``|``.

        Parameters
        ----------
        values : array_like of int
            Of any shape. Bits that are no flags, such as frame numbers, are left out.

        Returns
        -------
        ndarray of str
            Of the same shape; ``0`` if a number has no flag.

        Raises
        ------
        ValueError
            A value is negative or not an integer.

        Examples
        --------
        >>> print(fpm.State.names([0, 1, 65]))
        ['0' 'PRESENT' 'PRESENT|HUGE']
        """
        numbers = not_negative(integers(values, "flags"), "flags").astype(np.uint64) & np.uint64(
            sum(map(int, cls))
        )
        different, places = np.unique(numbers, return_inverse=True)
        texts = np.array([str(cls(number)) for number in different.tolist()], str)
        return texts[places].reshape(numbers.shape)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Take part in ufuncs as uint64."""
        # An int: while numpy looks at an enum's member it drops what a signal handler raises.
        plain = [np.uint64(int(i)) if isinstance(i, UInt64Flag) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)


class Flag(UInt64Flag):
    """The flag bits of an entry's ``value``, by the kernel's names.

    ``entries["value"] & Flag.PRESENT`` is not 0 for present pages. The ``flags`` field has these
    bits shifted right by 48: ``entries["flags"] & (Flag.PRESENT >> 48)``.

    Examples
    --------
    >>> fpm.Flag.FILE | fpm.Flag.PRESENT
    Flag(FILE|PRESENT)
    """

    SOFT_DIRTY = 1 << 55
    MMAP_EXCLUSIVE = 1 << 56
    UFFD_WP = 1 << 57
    GUARD_REGION = 1 << 58
    FILE = 1 << 61
    SWAP = 1 << 62
    PRESENT = 1 << 63


class Category(UInt64Flag):
    """The categories of a page that PAGEMAP_SCAN knows, by the kernel's names (``PAGE_IS_*``).

    - WPALLOWED: userfaultfd may write-protect the page (``WriteTracker`` does).
    - WRITTEN: written since it was protected; means nothing without WPALLOWED.
    - FILE: a page of a file or of shared memory.
    - PRESENT: in RAM. SWAPPED: the page table has a swap entry, or another one that is not present.
    - PFNZERO: the zero page. HUGE: mapped as part of a huge page.
    - SOFT_DIRTY: written since the soft-dirty bits were cleared.
    - GUARD: a guard region. ACCESSED: read or written (Linux 7.3, ``AccessTracker``).

    Source: include/uapi/linux/fs.h, Documentation/admin-guide/mm/pagemap.rst.

    Examples
    --------
    >>> fpm.Category.names([8, 72])
    array(['PRESENT', 'PRESENT|HUGE'], dtype='<U12')
    """

    WPALLOWED = 1 << 0
    WRITTEN = 1 << 1
    FILE = 1 << 2
    PRESENT = 1 << 3
    SWAPPED = 1 << 4
    PFNZERO = 1 << 5
    HUGE = 1 << 6
    SOFT_DIRTY = 1 << 7
    GUARD = 1 << 8
    ACCESSED = 1 << 9


REGION_DTYPE = np.dtype([("start", "=u8"), ("end", "=u8"), ("categories", "=u8")])
"""A run of pages of the same categories: PAGEMAP_SCAN's ``struct page_region``."""


def values(entries: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """View entries (``ENTRY_DTYPE`` or 64-bit) as contiguous ``uint64``; copy if need be."""
    array = np.asarray(entries)
    if array.dtype == ENTRY_DTYPE:
        array = array.view(np.uint64)
    elif array.dtype.kind not in "ui" or array.dtype.itemsize != 8:
        raise ValueError(f"entries of dtype {array.dtype}: ENTRY_DTYPE or uint64 is needed")
    return np.asarray(array, dtype=np.uint64, order="C")


def decode(entries: npt.ArrayLike, out: npt.NDArray[np.void] | None = None) -> npt.NDArray[np.void]:
    """Decode entries into all their fields, in one pass.

    Parameters
    ----------
    entries : array_like
        ``ENTRY_DTYPE`` or 64-bit integers, of any shape. They may come from a live process, or from
        a copy of /proc/PID/pagemap (``np.fromfile(path, fastpagemap.ENTRY_DTYPE)``). Entries with
        the other byte order are converted.
    out : ndarray, optional
        Of ``PAGE_DTYPE``, C-contiguous, writable and of the same shape.

    Returns
    -------
    ndarray
        Of ``PAGE_DTYPE``, shaped like `entries`: ``pfn`` (0 unless present), ``swap_type`` and
        ``swap_offset`` (0 unless bit 62 is set), and the flag bits as bools. Here ``swapped`` is
        bit 62, which guard regions, markers and migration entries have, too. Frame numbers
        and swap locations are 0 unless the process that opened pagemap had CAP_SYS_ADMIN.

    Raises
    ------
    ValueError
        `entries` is of another dtype, or `out` does not fit.

    Notes
    -----
    Documentation/admin-guide/mm/pagemap.rst.

    Examples
    --------
    >>> page = fpm.decode([0xA1800000001D6C72])[0]
    >>> hex(page["pfn"]), bool(page["present"]), bool(page["exclusive"])
    ('0x1d6c72', True, True)
    """
    flat = values(entries)
    out = output(out, flat.shape, PAGE_DTYPE)
    decoding.decode(flat.reshape(-1), out.reshape(-1))
    return out


def frame_numbers(entries: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the frame numbers in the entries of present pages."""
    return entries & _FRAME_BITS


def page_count(size: int) -> int:
    """Return on how many pages so many bytes lie that begin with one."""
    return -(-size // PAGE_SIZE)


def output(
    out: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return the array to fill: `out` if it fits, or a new one for None."""
    if out is None:
        return np.empty(shape, dtype)
    fits = isinstance(out, np.ndarray) and out.dtype == dtype and out.shape == shape
    if not fits or not out.flags.carray:
        raise ValueError(f"out is {_described(out)}: {shape} of {dtype}, C-contiguous, is needed")
    return out


def _described(out: Any) -> str:
    """Describe the value given as `out`."""
    if not isinstance(out, np.ndarray):
        return f"of type {type(out).__name__}"
    flags = out.flags
    wrong = {
        "not C-contiguous": not flags.c_contiguous,
        "read-only": not flags.writeable,
        "not aligned": not flags.aligned,
    }
    return ", ".join([f"{out.shape} of {out.dtype}", *(name for name in wrong if wrong[name])])
