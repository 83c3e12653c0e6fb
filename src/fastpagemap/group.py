"""Group: several processes, with what they share counted once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .engine.members import Members, has_ended
from .model.closing import Closing
from .model.span import Start
from .process.family import members, tree
from .process.identity import each, pid_of
from .process.process import Process, open_process

__all__ = ["Group"]


class Group(Closing[Members]):
    """Several processes, with memory that they share counted once.

    Parameters
    ----------
    processes : iterable of int or object
        Pids, or objects with a ``.pid``; see ``PageMap``. A process that is given twice is in the
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
        No process is given, or the group is closed.
    TypeError
        One of `processes` is neither a pid nor an object that has one.
    ProcessLookupError
        There is no such process, or it has no memory. Or all processes of the group have ended.
    PermissionError, UnsupportedError
        As ``PageMap`` does.
    OSError
        EMFILE: each process takes three open files, and RLIMIT_NOFILE does not allow that many.

    Notes
    -----
    Privileges: to count pages once, frame numbers are needed (CAP_SYS_ADMIN), and how often each
    frame is mapped (root or CAP_DAC_READ_SEARCH). Without them, `usage` and `total` only have the
    columns that smaps can fill, and `sharers` and `overlap` raise PermissionError.

    What counts: all kinds of memory, including hugetlb, which the kernel's RSS and PSS leave out.
    If the figures come from smaps, pss lacks hugetlb pages that others map. The zero page does not
    count. If one process maps a page several times, its rss counts the page as often, like the
    kernel's RSS. All other columns count it once.

    Processes with one memory: processes may share all of it (clone with CLONE_VM; vfork, until
    exec). Each of them then has all of it in its row, and `total` counts them as one process. They
    are found by kcmp(2). If that is missing (CONFIG_KCMP) or forbidden, or if /proc is that of
    another pid namespace, `total` counts them twice, and `overlap` may lack what both map.

    Time: the processes are looked at one after the other and go on meanwhile. If one gives a page
    back and another one takes it, the page counts twice. With CONFIG_NO_PAGE_MAPCOUNT (Linux 6.15)
    the kernel only estimates how often a page of a large folio is mapped.

    Source: Documentation/admin-guide/mm/pagemap.rst, Documentation/filesystems/proc.rst.

    Examples
    --------
    >>> with fpm.Group([os.getpid(), os.getpid()]) as group:
    ...     rows, total = group.usage(), group.total()
    >>> len(rows), bool(total["rss"] > 0)
    (1, True)
    """

    def __init__(self, processes: Iterable[Any]) -> None:
        self._hold(Members(_opened(processes)))

    def _hold(self, held: Members) -> None:
        self._held = held
        self._ended = held.ended  # told even once the group is closed

    @classmethod
    def tree(cls, process: Any) -> Self:
        """Return the group of a process and all its descendants, as they are now.

        If /proc hides the processes of other users (hidepid), it does not show whose children they
        are. Then they and their descendants are not in the group.

        Parameters
        ----------
        process : int or object
            See ``PageMap``.
        """
        return cls._of(*tree(process))

    @classmethod
    def cgroup(cls, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Self:
        """Return the group of the processes in a cgroup, and in all cgroups below it.

        Parameters
        ----------
        path : str, bytes or path object
            The directory of a cgroup of version 1 or 2, or its name as in /proc/PID/cgroup. Kernel
            threads are left out, as they have no memory.

        Raises
        ------
        ValueError
            `path` is empty.
        TypeError
            `path` is none.
        FileNotFoundError
            There is no such cgroup.
        ProcessLookupError
            No process with memory is in it.
        PermissionError
            One of them may not be read, or /proc does not show it (hidepid).
        UnsupportedError
            It has processes of another pid namespace.
        """
        name = os.fsdecode(path)
        held, ended = members(name)
        if not held:
            raise ProcessLookupError(f"the cgroup {name} has no process with memory")
        return cls._of(held, ended)

    @classmethod
    def _of(cls, held: list[Process], ended: list[int]) -> Self:
        """Return the group of open processes, and of some that have ended."""
        group = cls.__new__(cls)
        group._hold(Members(held, ended))
        return group

    def __repr__(self) -> str:
        if self._held is None:
            return "<Group: closed>"
        return f"<Group: processes {', '.join(map(str, self.pids))}>"

    def __len__(self) -> int:
        return len(self.pids)

    @property
    def pids(self) -> tuple[int, ...]:
        """The pids of the processes in the group."""
        return tuple(process.pid for process in self._need_open().running())

    @property
    def ended(self) -> tuple[int, ...]:
        """The pids of the processes that have ended."""
        return tuple(self._ended)

    def usage(self) -> npt.NDArray[np.void]:
        """Return how much memory each process has, and how much of it is its own.

        Returns
        -------
        ndarray
            Structured, one row for each process. ``pid`` is int64, the others uint64, in bytes:

            - ``rss``: what it maps
            - ``pss``: the same, each page divided by how often it is mapped
            - ``uss``: what no other process maps
            - ``swapped``: in swap
            - ``swapped_pss``, ``swapped_uss``: the same as pss and uss, of swapped
            - ``unknown``: in swap or never touched

        Notes
        -----
        ``swapped_pss`` and ``swapped_uss`` are absent without frame numbers (see above). They are
        also absent if another process may have the same memory in swap, and cannot be read or seen.
        From a container, processes outside of it cannot be seen.
        """
        return self._need_open().usage()

    def total(self) -> np.void:
        """Return how much memory the processes have together, each page counted once.

        Returns
        -------
        numpy.void
            One row, all fields uint64, in bytes:

            - ``rss``, ``pss``, ``swapped``, ``unknown``: the sums over the processes. If several
              processes share one memory, only one of them counts (see above).
            - ``union``: what any of them maps, each page once
            - ``unique``: the part of union that no process outside of the group maps. It is freed
              once all have ended, unless it is a file's.
            - ``swapped_union``, ``swapped_unique``: the same of swapped. Private memory is told
              apart by its place in the swap area, shared memory by file and page.
            - ``changed``: memory that was unmapped while it was counted, as far as that shows

        Notes
        -----
        Without frame numbers there are only ``rss``, ``pss``, ``swapped`` and ``unknown``.
        ``swapped_unique`` is absent if ``usage`` has no ``swapped_uss``. ``changed`` is absent if
        the kernel does not count single pages.
        """
        return self._need_open().total()

    def sharers(self, process: Any, start: Start, end: int | None = None) -> npt.NDArray[np.uint16]:
        """Return how many processes of the group map each page of a span in one of them.

        Parameters
        ----------
        process : int or object
            One of the group.
        start, end : int, or one object with memory
            The span.

        Returns
        -------
        ndarray of uint16
            One element a page: 1 if only `process` maps it; 0 if it is not present there, or is
            the zero page.

        Raises
        ------
        PermissionError
            Frame numbers are hidden from this user.
        ProcessLookupError
            `process` has ended.
        ValueError
            `process` is not in the group, or the span is wrong; see ``PageMap``.
        TypeError
            `process` has no pid, or the span is neither two integers nor one object with memory.
        MemoryError
            The result would not fit into free memory.
        """
        pid, held = pid_of(process), self._need_open()
        member = next((each for each in held.running() if each.pid == pid), None)
        if member is None:
            if pid in held.ended:
                raise has_ended(pid)
            raise ValueError(f"process {pid} is not in the group: {', '.join(map(str, self.pids))}")
        start, end, _ = member.span(start, end)
        return held.sharers(member, start, end)

    def overlap(self) -> npt.NDArray[np.uint64]:
        """Return how much memory each pair of processes has in common, in bytes.

        Returns
        -------
        ndarray of uint64
            The shape is (n, n), in the order of `pids`. The diagonal has what each process maps,
            every page once.

        Raises
        ------
        PermissionError
            Frame numbers are hidden from this user.
        """
        return self._need_open().overlap()


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
