"""Page frames: what the kernel says of them in /proc/kpageflags, kpagecount and kpagecgroup."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import frames
from .._kernel.descriptor import Descriptor, open_file
from .._kernel.failures import IgnoringFileErrors
from ..model.closing import Closing
from ..model.errors import UnsupportedError
from ..model.integers import integers
from .limits import as_uint64, output
from .nodes import node_ranges
from .opening import is_proc

__all__ = ["CGROUPS", "FLAGS", "MAPCOUNTS", "Frames", "open_frames", "reading_order"]

FLAGS, MAPCOUNTS, CGROUPS = "kpageflags", "kpagecount", "kpagecgroup"

_U64, _U32, _I16 = np.dtype(np.uint64), np.dtype(np.uint32), np.dtype(np.int16)
# Frames sorted at a time: so the memory for that is bounded.
_SORTED_FRAMES = 1 << 20
# Sorting costs less than reading half as many frames again.
_MAX_UNSORTED_COST = 1.5
_MISSING = {
    FLAGS: "a kernel with CONFIG_PROC_PAGE_MONITOR",
    MAPCOUNTS: "a kernel with CONFIG_PROC_PAGE_MONITOR",
    CGROUPS: "a kernel with CONFIG_MEMCG",
}


def open_frames(name: str) -> Descriptor:
    """Open /proc/kpageflags, kpagecount or kpagecgroup.

    Raises
    ------
    PermissionError
        This user may not read it; the message says which capability is missing.
    UnsupportedError
        There is no such file.
    """
    path = f"/proc/{name}"
    try:
        file = open_file(path, os.O_RDONLY)
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"{os.strerror(error.errno or errno.EACCES)} (page frames are shown to root alone, or "
            "with CAP_DAC_READ_SEARCH; their numbers only with CAP_SYS_ADMIN; neither of a user "
            "namespace)",
            path,
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(name) from None
    if _is_mounted_over(file):
        raise _missing(name)
    return file


def _is_mounted_over(file: Descriptor) -> bool:
    """Return whether a file is none of /proc: containers hide some by an empty file or a device."""
    with IgnoringFileErrors():
        return not is_proc(file.fd)
    return False


def _missing(name: str) -> UnsupportedError:
    """Return the exception for a file that is not there."""
    return UnsupportedError(
        errno.EOPNOTSUPP,
        f"this /proc has no {name}: a container hides it, or it needs {_MISSING[name]}",
        f"/proc/{name}",
    )


class Frames(Closing[dict[str, Descriptor]]):
    """What the kernel says of page frames, by their numbers.

    Frame numbers come from ``Pages.pfn`` and ``decode``. The kernel shows them to CAP_SYS_ADMIN
    alone. All methods take arrays of them, of any shape and length, in any order, with duplicates.

    Raises
    ------
    PermissionError
        This user may not open the files: that takes root or CAP_DAC_READ_SEARCH. To see frame
        numbers in the first place takes CAP_SYS_ADMIN.
    UnsupportedError
        /proc has no such files: a container hides them, it is gVisor, /proc is mounted with
        ``subset=pid``, or the kernel has no CONFIG_PROC_PAGE_MONITOR.
    MemoryError
        Methods: the result would not fit into free memory.

    Notes
    -----
    The files are opened once and read at each call. Frames that lie close together are read
    together, without the GIL. Between the call that found a frame's number and this one, the frame
    may have been freed and used again.

    0 is a valid frame number. Hidden frame numbers read as 0, too.

    Source: Documentation/admin-guide/mm/pagemap.rst, include/uapi/linux/kernel-page-flags.h.

    Examples
    --------
    >>> pages = fpm.PageMap().read(np.ones(100_000))
    >>> with fpm.Frames() as frames:
    ...     names = fpm.KPF.names(frames.flags(pages.pfn))
    >>> len(names) == len(pages)
    True
    """

    def __init__(self) -> None:
        files = {name: open_frames(name) for name in (FLAGS, MAPCOUNTS)}
        with contextlib.suppress(UnsupportedError):  # raised when it is asked for
            files[CGROUPS] = open_frames(CGROUPS)
        self._held = files

    def __repr__(self) -> str:
        return f"<Frames: {'closed' if self._held is None else 'open'}>"

    def __reduce__(self) -> str:
        raise TypeError("descriptors cannot be copied or pickled: make another Frames")

    def file(self, name: str) -> Descriptor:
        """Return the open file of a name; keep it as long as its number is used."""
        files = self._need_open()
        return files[name] if name in files else open_frames(name)

    def flags(
        self, pfns: npt.ArrayLike, *, out: npt.NDArray[np.uint64] | None = None
    ) -> npt.NDArray[np.uint64]:
        """Return the flags of frames.

        Parameters
        ----------
        pfns : array_like of int
            Frame numbers, of any shape: every uint64 is accepted.
        out : ndarray of uint64, optional
            Filled and returned.

        Returns
        -------
        ndarray of uint64
            ``KPF`` flags, in the shape of `pfns`. A hole in physical memory has only NOPAGE. A
            number beyond the last frame has 0.

        Raises
        ------
        ValueError
            A number is negative or no integer, or `out` does not fit. Or this object is closed.
        """
        return self._read(FLAGS, pfns, out)

    def mapcounts(
        self, pfns: npt.ArrayLike, *, out: npt.NDArray[np.uint32] | None = None
    ) -> npt.NDArray[np.uint32]:
        """Return how many times frames are mapped, by all processes together.

        Parameters
        ----------
        pfns : array_like of int
            Frame numbers, of any shape: every uint64 is accepted.
        out : ndarray of uint32, optional
            Filled and returned.

        Returns
        -------
        ndarray of uint32
            In the shape of `pfns`; 0 for a frame that does not exist or is the zero page, which
            the kernel does not count.

        Raises
        ------
        ValueError
            A number is negative or no integer, or `out` does not fit. Or this object is closed.

        Notes
        -----
        Kernels with CONFIG_NO_PAGE_MAPCOUNT (Linux 6.15) count large folios only as a whole, and
        give the average of its pages: ``capabilities().page_mapcounts`` tells.
        """
        return self._read(MAPCOUNTS, pfns, out, _U32)

    def cgroups(
        self, pfns: npt.ArrayLike, *, out: npt.NDArray[np.uint64] | None = None
    ) -> npt.NDArray[np.uint64]:
        """Return which memory cgroups frames are charged to.

        Parameters
        ----------
        pfns : array_like of int
            Frame numbers, of any shape: every uint64 is accepted.
        out : ndarray of uint64, optional
            Filled and returned.

        Returns
        -------
        ndarray of uint64
            The inode number of the cgroup's directory, in the shape of `pfns`; 0 for none.

        Raises
        ------
        UnsupportedError
            The kernel has no memory cgroups (CONFIG_MEMCG).
        ValueError
            A number is negative or no integer, or `out` does not fit. Or this object is closed.
        """
        return self._read(CGROUPS, pfns, out)

    def nodes(
        self, pfns: npt.ArrayLike, *, out: npt.NDArray[np.int16] | None = None
    ) -> npt.NDArray[np.int16]:
        """Return which NUMA nodes frames are on.

        Parameters
        ----------
        pfns : array_like of int
            Frame numbers, of any shape: every uint64 is accepted.
        out : ndarray of int16, optional
            Filled and returned.

        Returns
        -------
        ndarray of int16
            In the shape of `pfns`; -1 if a frame is in no memory block, or if its node cannot be
            found out. 0 everywhere on a machine without NUMA.

        Raises
        ------
        UnsupportedError
            /sys is not mounted, as in some sandboxes.
        ValueError
            A number is negative or no integer, or `out` does not fit. Or this object is closed.

        Notes
        -----
        The kernel gives the nodes of memory blocks, of 128 MiB and more, which may have holes. If
        two nodes share a block, the spans of their zones (/proc/zoneinfo) decide, unless these
        overlap.

        Source: /sys/devices/system/node, Documentation/admin-guide/mm/memory-hotplug.rst.
        """
        self.file(FLAGS)
        numbers, out = _prepared(pfns, out, _I16)
        node_ranges().look_up(numbers.reshape(-1), out.reshape(-1))
        return out

    def _read(
        self,
        name: str,
        pfns: npt.ArrayLike,
        out: npt.NDArray[Any] | None,
        dtype: np.dtype[Any] = _U64,
    ) -> npt.NDArray[Any]:
        file = self.file(name)
        numbers, out = _prepared(pfns, out, dtype)
        wanted, values = numbers.reshape(-1), out.reshape(-1)
        read = frames.read if dtype.itemsize == 8 else frames.read_counts
        for first in range(0, len(wanted), _SORTED_FRAMES):
            part = slice(first, first + _SORTED_FRAMES)
            read(file.fd, f"/proc/{name}", wanted[part], reading_order(wanted[part]), values[part])
        return out


def _prepared(
    pfns: npt.ArrayLike, out: npt.NDArray[Any] | None, dtype: np.dtype[Any]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[Any]]:
    """Return frame numbers, and the array to fill for them, which has memory of its own."""
    numbers = as_uint64(integers(pfns, "frame numbers"), "frame numbers")
    out = output(out, numbers.shape, dtype, "frames")
    if np.may_share_memory(numbers, out):
        numbers = numbers.copy()
    return numbers, out


def reading_order(wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64] | None:
    """Return the order in which to read frames; None if they are read well as they are."""
    if frames.cost(wanted) <= _MAX_UNSORTED_COST * len(wanted):
        return None
    return np.argsort(wanted).astype(np.int64, copy=False)
