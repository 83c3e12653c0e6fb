"""Columns of usage that tell how much of a mapping is shared with whom, and sums of a process."""

from __future__ import annotations

import contextlib
import errno

import numpy as np
import numpy.typing as npt

from .._kernel.procmaps import cut_back
from ..model.errors import UnsupportedError
from ..model.mapping import Mapping
from ..model.runs import bounds
from ..process.frame_probes import sees_pfns
from ..process.frames import MAPCOUNTS, open_frames
from ..process.mappings import mappings
from ..process.process import Process
from ..process.smaps import rollup, size_of, smaps
from .frames import shares

__all__ = ["SHARE_COLUMNS", "count_shares", "sums_of_smaps"]

SHARE_COLUMNS = ("pss", "uss")

_PRIVATE = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")

Sums = npt.NDArray[np.uint64]


def count_shares(process: Process, rows: list[Mapping] | None) -> tuple[list[Mapping], Sums]:
    """Return mappings, all of them for None, and pss and uss of each, in bytes.

    Raises
    ------
    UnsupportedError
        This user may not see frames, and a row is a part of a mapping, of which smaps has the sums.
    """
    counts = None
    if sees_pfns():
        with contextlib.suppress(PermissionError, UnsupportedError):
            counts = open_frames(MAPCOUNTS)
    if counts is not None:
        chosen = mappings(process) if rows is None else rows
        return chosen, shares(process, counts.fd, chosen, rows is None)
    # Rows and sums are of one reading: a heap may have grown before another one.
    known, sums = _by_smaps(process)
    return (known, sums) if rows is None else (rows, _sums_of(process, rows, known, sums))


def _by_smaps(process: Process) -> tuple[list[Mapping], Sums]:
    """Return all mappings, pss and uss as smaps has them.

    There uss leaves out pages that the process maps twice, and pss hugetlb pages that others map.
    """
    rows: list[Mapping] = []
    sums: list[tuple[int, int]] = []
    for mapping, fields in smaps(process, "Pss", *_PRIVATE):
        cut_back(rows, mapping.start)  # those that it has grown over meanwhile
        del sums[len(rows) :]
        size = {name: size_of(text) for name, text in fields.items()}
        rows.append(mapping)
        sums.append((_pss(size), sum(size.get(name, 0) for name in _PRIVATE)))
    return rows, np.array(sums, np.uint64).reshape(-1, 2)


def _sums_of(process: Process, rows: list[Mapping], known: list[Mapping], sums: Sums) -> Sums:
    """Return the sums of the mappings that each row consists of."""
    starts, ends = bounds(known)
    asked_starts, asked_ends = bounds(rows)
    firsts = np.searchsorted(ends, asked_starts, "right").tolist()
    lasts = np.searchsorted(starts, asked_ends).tolist()
    found = np.zeros((len(rows), 2), np.uint64)
    for number, (row, first, last) in enumerate(zip(rows, firsts, lasts, strict=True)):
        if first >= last:
            continue  # nothing is mapped there, or no more
        if starts[first] < row.start or row.end < ends[last - 1]:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"pss and uss of {row.start:x}-{row.end:x} need CAP_SYS_ADMIN and root's "
                "/proc/kpagecount: without them there are the sums of whole mappings alone, and "
                "this is a part of one (which may have grown since)",
                process.path,
            )
        found[number] = sums[first:last].sum(axis=0)
    return found


def _pss(sizes: dict[str, int]) -> int:
    """Return the Pss; by how many others a shared hugetlb page is mapped, no sum tells."""
    return sizes.get("Pss", 0) + sizes.get("Private_Hugetlb", 0)


def sums_of_smaps(process: Process) -> tuple[int, int, int]:
    """Return rss, pss and uss of a process, in bytes, as smaps has them.

    Hugetlb pages are added; those that others map, to rss alone.
    """
    sums = rollup(process)
    hugetlb = sum(sums.get(f"{kind}_Hugetlb", 0) for kind in ("Private", "Shared"))
    return sums["Rss"] + hugetlb, _pss(sums), sum(sums.get(name, 0) for name in _PRIVATE)
