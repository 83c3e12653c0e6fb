"""Columns of usage that tell how much of a mapping is shared with whom, and sums of a process."""

from __future__ import annotations

import errno

import numpy as np
import numpy.typing as npt

from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..process.capabilities import sees_pfns
from ..process.frames import MAPCOUNTS, open_frames
from ..process.process import Process
from ..process.smaps import rollup, size_of, smaps
from .frames import shares

__all__ = ["SHARE_COLUMNS", "count_shares", "sums_of_smaps"]

SHARE_COLUMNS = ("pss", "uss")

_HUGETLB = ("Private_Hugetlb", "Shared_Hugetlb")
_PRIVATE = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")


def count_shares(process: Process, rows: list[Mapping], fresh: bool) -> npt.NDArray[np.uint64]:
    """Return pss and uss of some mappings, in bytes; `fresh`: these are all mappings.

    Raises
    ------
    UnsupportedError
        This user may not see frames, and a row is not a whole mapping, of which smaps has the sums.
    """
    if not sees_pfns():
        return _by_smaps(process, rows)
    try:
        counts = open_frames(MAPCOUNTS)
    except (PermissionError, UnsupportedError):
        return _by_smaps(process, rows)
    return shares(process, counts.fd, rows, fresh)


def _by_smaps(process: Process, rows: list[Mapping]) -> npt.NDArray[np.uint64]:
    """Return pss and uss as smaps has them: uss leaves out pages that the process maps twice."""
    known = {}
    names = ("Pss", *_PRIVATE, "Shared_Hugetlb")
    for mapping, fields in smaps(process, *names):
        size = {name: size_of(text) for name, text in fields.items()}
        if "Pss" in size:
            known[mapping.start, mapping.end] = (
                size["Pss"] + sum(size.get(name, 0) for name in _HUGETLB),
                sum(size.get(name, 0) for name in _PRIVATE),
            )
    found = np.zeros((len(rows), 2), np.uint64)
    for number, row in enumerate(rows):
        sums = known.get(row[:2])
        if sums is not None:
            found[number] = sums
        elif any(start < row.end and row.start < end for start, end in known):
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"pss and uss of {row.start:x}-{row.end:x}, which is no mapping as a whole, need "
                "CAP_SYS_ADMIN and root's /proc/kpagecount",
                process.path,
            )
    return found


def sums_of_smaps(process: Process) -> tuple[int, int, int]:
    """Return rss, pss and uss of a process, in bytes, as smaps has them; hugetlb pages added."""
    sums = rollup(process)
    hugetlb = sum(sums.get(name, 0) for name in _HUGETLB)
    return sums["Rss"] + hugetlb, sums["Pss"] + hugetlb, sum(sums.get(n, 0) for n in _PRIVATE)
