"""Group: several processes, with what they share counted once."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ._kernel.descriptor import Descriptor
from .engine import group_sums
from .engine.frames import gather, mapped_sets, overlaps, sharers
from .engine.physical import hidden
from .model.closing import Closing
from .model.errors import UnsupportedError
from .model.span import Start
from .process.capabilities import sees_pfns
from .process.family import members, memories, tree
from .process.frames import MAPCOUNTS, open_frames
from .process.identity import each, pid_of
from .process.process import Process, open_process

__all__ = ["Group"]

Answer = TypeVar("Answer")


class Group(Closing[list[Process]]):
    """Several processes, of whose memory each page counts once.

    Parameters
    ----------
    processes : iterable of int or object
        Pids, or objects with a ``.pid``; see ``PageMap``. A process that is named twice is in the
        group once.

    Attributes
    ----------
    pids : tuple of int
        The processes of the group, without those in `ended`.
    ended : tuple of int
        The pids of processes that have ended, or never had memory. They are left out of all
        answers.

    Raises
    ------
    ValueError
        No process is named, or the group is closed.
    ProcessLookupError
        There is no such process, or it has no memory. Or all processes of the group have ended.
    PermissionError, UnsupportedError
        As ``PageMap`` does.
    OSError
        EMFILE: each process takes three open files, and RLIMIT_NOFILE does not allow that many.

    Notes
    -----
    What frames a process maps is shown to CAP_SYS_ADMIN alone, and how often each is mapped to root
    or with CAP_DAC_READ_SEARCH. Without these, `usage` and `total` have those columns alone that
    smaps tells, and `sharers` and `overlap` raise PermissionError.

    Memory counts whatever its kind: hugetlb, too, which the kernel's RSS and PSS leave out; but if
    smaps has to do, hugetlb pages that others map are in no pss. The zero page is no memory. A page
    that one process maps several times counts several times in its rss, as in the kernel's, and
    once in everything else.

    Processes that share all of their memory (clone with CLONE_VM; vfork, until exec) have all of it
    in each of their rows, and count as one process in `total`. kcmp(2) tells them; without
    CONFIG_KCMP, where it is forbidden, or with the /proc of another pid namespace, they count twice
    in `total`, and `overlap` may lack what both map.

    The processes go on while they are looked at, one after the other. A page that one of them gives
    back meanwhile and another one takes counts twice. With CONFIG_NO_PAGE_MAPCOUNT (Linux 6.15) the
    kernel only estimates how often a page of a large folio is mapped.

    Source: Documentation/admin-guide/mm/pagemap.rst, Documentation/filesystems/proc.rst.

    Examples
    --------
    >>> with fpm.Group([os.getpid(), os.getpid()]) as group:
    ...     rows, total = group.usage(), group.total()
    >>> len(rows), bool(total["rss"] > 0)
    (1, True)
    """

    def __init__(self, processes: Iterable[Any]) -> None:
        self._start(_opened(processes), [])

    def _start(self, held: list[Process], ended: list[int]) -> None:
        self._held = held
        self._ended = dict.fromkeys(ended)
        self._counts: Descriptor | None = None
        # Processes outside that are not asked what they have in swap: they would not answer.
        self._skipped: Collection[int] = ()
        try:
            if sees_pfns():
                self._counts = open_frames(MAPCOUNTS)
        except (PermissionError, UnsupportedError):  # then smaps has to do
            pass

    @classmethod
    def tree(cls, process: Any) -> Self:
        """Return the group of a process and all its descendants, as they are now.

        Where /proc hides the processes of other users from this one (hidepid), it does not show
        whose children they are: they and their descendants are not in the group.

        Parameters
        ----------
        process : int or object
            See ``PageMap``.
        """
        return cls._of(*tree(process))

    @classmethod
    def cgroup(cls, path: str) -> Self:
        """Return the group of the processes in a cgroup, and in all cgroups below it.

        Parameters
        ----------
        path : str
            The directory of a cgroup of version 1 or 2, or its name as in /proc/PID/cgroup. The
            kernel's threads, which have no memory, are left out of any.

        Raises
        ------
        ValueError
            `path` is empty.
        FileNotFoundError
            There is no such cgroup.
        ProcessLookupError
            No process with memory is in it.
        PermissionError
            One of them may not be read, or /proc does not show it (hidepid).
        UnsupportedError
            It has processes of another pid namespace.
        """
        held, ended = members(path)
        if not held:
            raise ProcessLookupError(f"the cgroup {path} has no process with memory")
        return cls._of(held, ended)

    @classmethod
    def _of(cls, held: list[Process], ended: list[int]) -> Self:
        """Return the group of open processes, and of some that have ended."""
        group = cls.__new__(cls)
        group._start(held, ended)
        return group

    def __repr__(self) -> str:
        if self._held is None:
            return "<Group: closed>"
        return f"<Group: processes {', '.join(map(str, self.pids))}>"

    def __len__(self) -> int:
        return len(self.pids)

    def close(self) -> None:
        """Let go of the processes; calls under way in other threads still finish."""
        super().close()
        self._counts = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The pids of the processes in the group."""
        return tuple(process.pid for process in self._processes())

    @property
    def ended(self) -> tuple[int, ...]:
        """The pids of the processes that have ended."""
        return tuple(self._ended)

    def _processes(self) -> list[Process]:
        return [process for process in self._need_open() if process.pid not in self._ended]

    def _ask(self, question: Callable[[Process], Answer]) -> list[tuple[Process, Answer]]:
        """Ask each process, of those with the same memory one; leave out those that have ended."""
        found = []
        processes = self._processes()
        memory = memories(processes)
        answers: dict[int, Answer] = {}
        for process in processes:
            own = memory[process.pid]
            try:
                if own not in answers:
                    answers[own] = question(process)
                found.append((process, answers[own]))
            except ProcessLookupError:
                self._ended[process.pid] = None
        if not found:
            raise _all_ended()
        return found

    def usage(self) -> npt.NDArray[np.void]:
        """Return how much memory each process has, and how much of it is its own.

        Returns
        -------
        ndarray
            Structured, one row for each process, ``pid`` int64, the others uint64, in bytes:
            ``rss``, what it maps; ``pss``, where each page counts by its share, divided by how
            often it is mapped; ``uss``, what no other process maps; ``swapped``; ``swapped_pss``,
            ``swapped_uss``, the same of what is swapped; ``unknown``, what may be swapped or not.
            Without frame numbers (see above), or if another process may have the same in swap and
            cannot be read or seen, there are no ``swapped_pss`` and ``swapped_uss``. In a container
            the processes outside of it cannot be seen.
        """
        return group_sums.usage_of(self._ask, self._counts, self._skipped)

    def total(self) -> np.void:
        """Return how much memory the processes have together, each page counted once.

        Returns
        -------
        numpy.void
            One row, all fields uint64, in bytes: ``rss`` and ``pss``, the sums of those of the
            processes, of which only one counts if several share one memory (see above); ``union``,
            the distinct memory that any of them maps; ``unique``, what no process outside of the
            group maps, which is freed once all have ended, unless it is a file's; ``swapped``, the
            sum; ``swapped_union`` and ``swapped_unique``, the same of what is swapped: private
            memory by its place in the swap area, shared memory by file and page; ``unknown``;
            ``changed``, memory that was unmapped while it was counted, as far as that shows.
            Without frame numbers there are ``rss``, ``pss``, ``swapped``, ``unknown``; there is no
            ``swapped_unique`` if ``usage`` has no ``swapped_uss``; and there is no ``changed``
            where the kernel does not count single pages.
        """
        return group_sums.total_of(self._ask, self._counts, self._skipped)

    def sharers(self, process: Any, start: Start, end: int | None = None) -> npt.NDArray[np.uint16]:
        """Return how many processes of the group map each page of a span of one of them.

        Parameters
        ----------
        process : int or object
            One of the group.
        start, end : int, or one object with memory
            The span.

        Returns
        -------
        ndarray of uint16
            One element a page: 1 where only `process` maps it; 0 where it is not present, and for
            the zero page.

        Raises
        ------
        PermissionError
            Frame numbers are hidden from this user.
        ProcessLookupError
            `process` has ended.
        ValueError
            `process` is not in the group.
        """
        pid = pid_of(process)
        if pid not in self.pids:
            if pid in self._ended:
                raise _has_ended(pid)
            raise ValueError(f"process {pid} is not in the group: {', '.join(map(str, self.pids))}")
        member = next(each for each in self._processes() if each.pid == pid)
        start, end, _ = member.span(start, end)
        counts = self._need_frames()
        answers = self._ask(gather)
        asked = [answer for answer in answers if answer[0].pid == pid]
        if not asked:
            raise _has_ended(pid)
        gathered = [found for _, found in answers]
        together = sum(found is asked[0][1] for found in gathered)
        return sharers(asked[0][0], start, end, mapped_sets(gathered, counts.fd), together)

    def overlap(self) -> npt.NDArray[np.uint64]:
        """Return how much memory each two processes map both, in bytes.

        Returns
        -------
        ndarray of uint64
            Of shape (n, n), in the order of `pids`. On the diagonal is what each one maps, every
            page once.

        Raises
        ------
        PermissionError
            Frame numbers are hidden from this user.
        """
        counts = self._need_frames()
        gathered = [found for _, found in self._ask(gather)]
        return overlaps(gathered, mapped_sets(gathered, counts.fd))

    def _need_frames(self) -> Descriptor:
        """Return the open /proc/kpagecount; raise if this user may not see frames."""
        processes = self._processes()
        if not processes:
            raise _all_ended()
        counts = self._counts
        if counts is None:
            open_frames(MAPCOUNTS)
            raise hidden(processes[0])
        return counts


def _has_ended(pid: int) -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, f"process {pid} has ended")


def _all_ended() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, "all processes of the group have ended")


def _opened(processes: Any) -> list[Process]:
    """Open processes, each once."""
    held: dict[int, Process] = {}
    for process in each(processes):
        pid = pid_of(process)
        if pid not in held:
            held[pid] = open_process(process)
    if not held:
        raise ValueError("a group needs one process at least")
    return list(held.values())
