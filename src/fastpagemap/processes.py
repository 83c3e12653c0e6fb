"""usage_of: the memory of several processes, one row each."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ._kernel.failures import tells_of_file
from .engine.process_sums import summed_columns, sums_of
from .process.identity import each, pid_of
from .process.process import Process, open_process

__all__ = ["outcomes", "usage_of"]

Answer = TypeVar("Answer")


def usage_of(
    processes: Any,
    *,
    fields: Iterable[str] | None = None,
    left_out: dict[int, Exception] | None = None,
) -> npt.NDArray[np.void]:
    """Return how much memory each of several processes has, one row a process, in bytes.

    Parameters
    ----------
    processes : iterable of int or object, or one of these
        Pids, or objects with a ``.pid``; see ``PageMap``. A process that is named twice has one
        row.
    fields : iterable of str, optional
        The columns wanted beside ``pid``, in their order. Fewer columns cost less. By default all
        sizes that this kernel can fill, without those that cost more.
    left_out : dict, optional
        Filled with the processes that have no row: the pid, and the exception that says why. If it
        is not given and no process has a row, one of these exceptions is raised.

    Returns
    -------
    ndarray
        Structured, one row for each process that can be read, in the order of `processes`:
        ``pid``, int64, and, uint64, in bytes, the sums over all mappings of the process of the
        columns that ``PageMap.usage`` has: ``size``, ``present``, ``swapped``,
        ``swapped_shared``, ``unknown``, ``shared``, ``exclusive``, ``soft_dirty``, ``huge``,
        ``zero``. Only where `fields` names them: ``pss``, ``uss``, ``cached``, ``cache_dirty``,
        ``cache_writeback``. A page that a process maps twice counts twice, but in ``pss`` by its
        share. For memory of several processes counted once, see ``Group``.

    Raises
    ------
    ProcessLookupError, PermissionError, UnsupportedError, MemoryError
        `left_out` is not given, and no process has a row. It is the exception of the first process
        that is running, or of the first one if none is.
    UnsupportedError
        This kernel cannot fill a column that `fields` names.
    ValueError, TypeError
        There is no such column, or one of `processes` is no pid and has none.

    Notes
    -----
    A process has no row if it has ended, has no memory (a zombie, a kernel thread) or ends
    meanwhile (ProcessLookupError), if this user may not read it (PermissionError), or if the paths
    of its files are too long to be read (MemoryError). It keeps no other process from having one.

    The processes are read one after the other, with three open files at a time, and go on
    meanwhile. One that keeps its memory locked, by a FUSE file system that does not answer, makes
    the call wait, and Ctrl-C does not end that. ``fastpagemap report --all`` reads each process
    from a child, and gives it up. A program that must not wait has to do so, too
    (docs/embedding.md).

    Examples
    --------
    >>> rows = fpm.usage_of([os.getpid(), os.getppid()], fields=["present", "swapped"])
    >>> rows.dtype.names
    ('pid', 'present', 'swapped')
    >>> bool(rows["pid"][0] == os.getpid()), bool(rows["present"][0] > 0)
    (True, True)
    """
    columns = summed_columns(fields)
    failed = {} if left_out is None else left_out
    rows: dict[int, list[int]] = {}

    def ask(process: Process) -> list[int]:
        return sums_of(process, columns, counted=False).sizes

    for pid, outcome in outcomes(processes, ask, rows):
        if not isinstance(outcome, Exception):
            rows[pid] = outcome
            failed.pop(pid, None)  # an object of another process that had the pid before
        elif pid not in rows:
            failed[pid] = outcome
    if left_out is None and failed and not rows:
        raise _telling(failed.values())
    table = np.empty(len(rows), [("pid", np.int64), *((name, np.uint64) for name in columns)])
    table["pid"] = list(rows)
    sizes = np.array(list(rows.values()), np.uint64).reshape(len(rows), len(columns))
    for number, name in enumerate(columns):
        table[name] = sizes[:, number]
    return table


def outcomes(
    processes: Any, ask: Callable[[Process], Answer], known: Container[int] = ()
) -> Iterator[tuple[int, Answer | Exception]]:
    """Yield the pid of each process, asked one after the other, and its answer, or why it has none.

    Those that are in `known` when it is their turn are not asked.
    """
    for process in each(processes):
        pid = getattr(process, "pid", process)
        outcome: Answer | Exception
        try:
            pid = pid_of(process)
            if pid in known:
                continue
            outcome = ask(open_process(process, briefly=True))
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and not tells_of_file(error):
                raise
            # With what led to it, it would keep files of the process open.
            error.__traceback__ = error.__context__ = None
            outcome = error
        yield pid, outcome


def _telling(errors: Iterable[Exception]) -> Exception:
    """Return the first error of a process that is running, or of any if none is."""
    found = list(errors)
    return next((it for it in found if not isinstance(it, ProcessLookupError)), found[0])
