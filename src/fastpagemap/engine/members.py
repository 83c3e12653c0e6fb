"""Several processes, asked together: what each has, and all; with frames, or by smaps."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._kernel.descriptor import Descriptor
from .._kernel.frame_table import FrameTable
from ..model.errors import UnsupportedError
from ..process.family import memories
from ..process.frame_probes import page_mapcounts, sees_pfns
from ..process.frames import MAPCOUNTS, open_frames
from ..process.process import Process
from .frames import (
    Gathered,
    counted,
    gather,
    mapped_sets,
    overlaps,
    sharers,
    sums_of,
    totals_of,
)
from .physical import hidden
from .shares import sums_of_smaps
from .swap_places import Swapped, count_swapped, swapped_of
from .usage import usage

__all__ = ["ALL_PIDS", "Members", "has_ended"]

Answer = TypeVar("Answer")

ALL_PIDS = range(1 << 31)
"""Every pid that there may be."""

_ROW = ("pid", "rss", "pss", "uss", "swapped", "swapped_pss", "swapped_uss", "unknown")
_TOTAL = (
    *("rss", "pss", "union", "unique", "swapped", "swapped_union", "swapped_unique"),
    *("unknown", "changed"),
)
# Without frame numbers: what smaps has.
_SMAPS_ROW = ("pid", "rss", "pss", "uss", "swapped", "unknown")
_SMAPS_TOTAL = ("rss", "pss", "swapped", "unknown")


class Members:
    """The processes of a group, held open; see ``Group``.

    Parameters
    ----------
    held : sequence of Process
        Each once.
    ended : iterable of int
        The pids of processes that have ended before.
    skipped : collection of int
        Processes outside that are not asked what they have in swap: they would not answer.

    Attributes
    ----------
    ended : dict of int to None
        The pids of those that have ended, in order; more may come to be in it.
    """

    def __init__(
        self, held: Sequence[Process], ended: Sequence[int] = (), skipped: Collection[int] = ()
    ) -> None:
        self._held, self._skipped = held, skipped
        self.ended: dict[int, None] = dict.fromkeys(ended)
        # The open /proc/kpagecount; None where smaps has to do.
        self._counts: Descriptor | None = None
        try:
            if sees_pfns():
                self._counts = open_frames(MAPCOUNTS)
        except (PermissionError, UnsupportedError):
            pass

    def running(self) -> list[Process]:
        """Return the processes that are not known to have ended."""
        return [process for process in self._held if process.pid not in self.ended]

    def _ask(self, question: Callable[[Process], Answer]) -> list[tuple[Process, Answer]]:
        """Ask each process, of those with the same memory one; leave out those that have ended."""
        found = []
        processes = self.running()
        memory = memories(processes)
        answers: dict[int, Answer] = {}
        for process in processes:
            own = memory[process.pid]
            try:
                if own not in answers:
                    answers[own] = question(process)
                found.append((process, answers[own]))
            except ProcessLookupError:
                self.ended[process.pid] = None
        if not found:
            raise _all_ended()
        return found

    def usage(self) -> npt.NDArray[np.void]:
        """Return a row for each process; see ``Group.usage``."""
        counts = self._counts
        if counts is None:
            found = self._ask(_without_frames)
            return _table(_SMAPS_ROW, [(process.pid, *row) for process, row in found])

        def both(process: Process) -> tuple[tuple[int, int, int], Swapped]:
            sums, locations = sums_of(process, counts.fd)
            return sums, swapped_of(process, locations)

        answers = self._ask(both)
        once = _once(answers)
        swapped = count_swapped(
            [swap for _, swap in once], [process for process, _ in answers], self._skipped
        )
        row_of = {id(answer): row for answer, row in zip(once, swapped.rows, strict=True)}
        rows = [(process.pid, *answer[0], *row_of[id(answer)]) for process, answer in answers]
        return _table(_ROW, rows, () if swapped.complete else ("swapped_pss", "swapped_uss"))

    def total(self) -> np.void:
        """Return what the processes have together; see ``Group.total``."""
        counts = self._counts
        if counts is None:
            sums = _table(_SMAPS_ROW[1:], _once(self._ask(_without_frames)))
            return _total(_SMAPS_TOTAL, tuple(int(sums[name].sum()) for name in _SMAPS_TOTAL))
        answers: list[tuple[Process, tuple[Gathered, Swapped]]] = []

        def gather_all(table: FrameTable) -> list[Gathered]:
            def both(process: Process) -> tuple[Gathered, Swapped]:
                found = gather(process, swapped=True, table=table)
                return found, swapped_of(process, found.locations)

            answers[:] = self._ask(both)
            return [found for found, _ in _once(answers)]

        table, gathered = counted(gather_all)
        *sizes, changed = totals_of(table, gathered, counts.fd)
        swap = count_swapped(
            [found for _, found in _once(answers)],
            [process for process, _ in answers],
            self._skipped,
        )
        row = *sizes, *swap.total, changed
        without = [] if swap.complete else ["swapped_unique"]
        if page_mapcounts() is False:  # an average may be less than what these processes map
            without.append("changed")
        return _total(_TOTAL, row, without)

    def sharers(self, member: Process, start: int, end: int) -> npt.NDArray[np.uint16]:
        """Return how many processes map each page of a span in one; see ``Group.sharers``."""
        counts = self._need_frames()
        answers = self._ask(gather)
        asked = [found for process, found in answers if process is member]
        if not asked:
            raise has_ended(member.pid)
        gathered = [found for _, found in answers]
        together = sum(found is asked[0] for found in gathered)
        return sharers(member, start, end, mapped_sets(gathered, counts.fd), together)

    def overlap(self) -> npt.NDArray[np.uint64]:
        """Return how much memory each pair of processes has in common; see ``Group.overlap``."""
        counts = self._need_frames()
        gathered = [found for _, found in self._ask(gather)]
        return overlaps(gathered, mapped_sets(gathered, counts.fd))

    def _need_frames(self) -> Descriptor:
        """Return the open /proc/kpagecount; raise if this user may not see frames."""
        processes = self.running()
        if not processes:
            raise _all_ended()
        if self._counts is None:
            open_frames(MAPCOUNTS)
            raise hidden(processes[0])
        return self._counts


def has_ended(pid: int) -> ProcessLookupError:
    """Return the exception for a process that has ended."""
    return ProcessLookupError(errno.ESRCH, f"process {pid} has ended")


def _all_ended() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, "all processes of the group have ended, or called exec")


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
