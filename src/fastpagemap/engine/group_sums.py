"""What the processes of a group have each, and together: rows with frames, or by smaps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .._kernel.descriptor import Descriptor
from .._kernel.frame_table import FrameTable
from ..process.frame_probes import page_mapcounts
from ..process.process import Process
from .frames import Gathered, counted, gather, sums_of, totals_of
from .shares import sums_of_smaps
from .swap_places import Swapped, count_swapped, swapped_of
from .usage import usage

__all__ = ["total_of", "usage_of"]

Answer = TypeVar("Answer")

_ROW = ("pid", "rss", "pss", "uss", "swapped", "swapped_pss", "swapped_uss", "unknown")
_TOTAL = (
    *("rss", "pss", "union", "unique", "swapped", "swapped_union", "swapped_unique"),
    *("unknown", "changed"),
)
# Without frame numbers: what smaps has.
_SMAPS_ROW = ("pid", "rss", "pss", "uss", "swapped", "unknown")
_SMAPS_TOTAL = ("rss", "pss", "swapped", "unknown")


class Ask(Protocol):
    """Asks each process of a group a question; leaves those out that have ended."""

    def __call__(self, question: Callable[[Process], Answer]) -> list[tuple[Process, Answer]]: ...


def usage_of(ask: Ask, counts: Descriptor | None, skipped: Collection[int]) -> npt.NDArray[np.void]:
    """Return a row for each process; see ``Group.usage``.

    Parameters
    ----------
    ask : callable
    counts : Descriptor or None
        The open /proc/kpagecount; None if frame numbers are not seen.
    skipped : collection of int
        Processes outside that are not asked what they have in swap.
    """
    if counts is None:
        found = ask(_without_frames)
        return _table(_SMAPS_ROW, [(process.pid, *row) for process, row in found])

    def both(process: Process) -> tuple[tuple[int, int, int], Swapped]:
        sums, locations = sums_of(process, counts.fd)
        return sums, swapped_of(process, locations)

    answers = ask(both)
    once = _once(answers)
    swapped = count_swapped([swap for _, swap in once], [p for p, _ in answers], skipped)
    row_of = {id(answer): row for answer, row in zip(once, swapped.rows, strict=True)}
    rows = [(process.pid, *answer[0], *row_of[id(answer)]) for process, answer in answers]
    return _table(_ROW, rows, () if swapped.complete else ("swapped_pss", "swapped_uss"))


def total_of(ask: Ask, counts: Descriptor | None, skipped: Collection[int]) -> np.void:
    """Return what the processes have together; see ``Group.total``, and `usage_of`."""
    if counts is None:
        sums = _table(_SMAPS_ROW[1:], _once(ask(_without_frames)))
        return _total(_SMAPS_TOTAL, tuple(int(sums[name].sum()) for name in _SMAPS_TOTAL))
    answers: list[tuple[Process, tuple[Gathered, Swapped]]] = []

    def gather_all(table: FrameTable) -> list[Gathered]:
        def both(process: Process) -> tuple[Gathered, Swapped]:
            found = gather(process, swapped=True, table=table)
            return found, swapped_of(process, found.locations)

        answers[:] = ask(both)
        return [found for found, _ in _once(answers)]

    table, gathered = counted(gather_all)
    *sizes, changed = totals_of(table, gathered, counts.fd)
    swap = count_swapped([found for _, found in _once(answers)], [p for p, _ in answers], skipped)
    row = *sizes, *swap.total, changed
    without = [] if swap.complete else ["swapped_unique"]
    if page_mapcounts() is False:  # an average may be less than what these processes map
        without.append("changed")
    return _total(_TOTAL, row, without)


def _once(answers: list[tuple[Process, Answer]]) -> list[Answer]:
    """Return each answer once: processes with the same memory have the same one."""
    return list({id(answer): answer for _, answer in answers}.values())


def _total(names: tuple[str, ...], row: tuple[int, ...], without: Collection[str] = ()) -> np.void:
    total: np.void = _table(names, [row], without)[0]
    return total


def _table(
    names: tuple[str, ...], rows: list[tuple[int, ...]], without: Collection[str] = ()
) -> npt.NDArray[np.void]:
    """Return an array of rows, without some columns."""
    dtypes = {name: np.dtype(np.int64 if name == "pid" else np.uint64) for name in names}
    table = np.array(rows, list(dtypes.items()))
    kept = [name for name in names if name not in without]
    # a copy without gaps; numpy's repack_fields would take a tenth of the import of all of this
    return table[kept].astype([(name, dtypes[name]) for name in kept])


def _without_frames(process: Process) -> tuple[int, ...]:
    """Return what needs no frames of the row of a process, without its pid."""
    table = usage(process, None, ("swapped", "unknown"))
    swapped, unknown = int(table["swapped"].sum()), int(table["unknown"].sum())
    return *sums_of_smaps(process), swapped, unknown
