"""Collector: what prometheus_client asks at each scrape."""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..process.identity import each
from ..process.namespaces import pids
from ..report.openmetrics import DEFAULT_TOP, bounded, families, grouped
from ..snapshot.dataframes import imported
from .counting import Counter
from .reading import GROUPINGS, Reader, cheap_fields

try:
    from prometheus_client.registry import Collector as _Collector
except ModuleNotFoundError:
    imported("prometheus_client")  # says how to install it
    raise

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

__all__ = ["Collector"]

# How long a scrape waits for another one: Prometheus gives up after 10 s.
_PATIENCE_S = 8.0


class Collector(_Collector):
    """Memory of processes by group, for ``prometheus_client``.

    Parameters
    ----------
    processes : iterable of int or object, or callable, optional
        Pids, or objects with a ``.pid``; see ``PageMap``. A callable is called at each scrape and
        returns them. By default all processes there are at each scrape.
    budget : float, optional
        The share of one processor's time, from 0 to 1, for the sums that cost much: ``pss``,
        ``uss``, ``union`` and ``swapped_union``. A thread counts them after a scrape. It begins
        with the group that was counted longest ago. The next scrapes have the sums and their age.
    by : {'name', 'cgroup', 'unit'}, optional
        What a group is: the processes of one name, as ps shows it; of one cgroup; of one systemd
        unit.
    top : int, optional
        How many groups, those with the most in RAM and swap, have metrics of their own. All
        processes that are left are in the group ``other``.

    Raises
    ------
    ValueError
        `budget`, `by` or `top` is none of these.
    ModuleNotFoundError
        On import: prometheus_client is not installed.

    Notes
    -----
    Processes that have ended or have no memory are in no group. Those that this user may not read
    are counted in ``fastpagemap_unreadable_processes``. In ``union`` and ``swapped_union``, memory
    of several processes counts once. They need CAP_SYS_ADMIN, and three open files for each process
    of a group. A group that needs more than half of the files that this process may open has none.

    A process that keeps its memory locked makes a scrape wait for a second, and is unreadable until
    it lets go. A thread waits for that. More of them make it wait for some 5 seconds; those that
    are left are unreadable, until the next scrape. Processes that a scrape has read before come
    first. Once 32 threads wait, no others are read; once 64 wait, none is.

    Examples
    --------
    >>> from fastpagemap.metrics import Collector
    >>> metrics = {metric.name: metric for metric in Collector([os.getpid()]).collect()}
    >>> [sample.value for sample in metrics["namedprocess_namegroup_num_procs"].samples]
    [1.0]
    """

    def __init__(
        self,
        processes: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        *,
        budget: float = 0.01,
        by: str = "name",
        top: int = DEFAULT_TOP,
    ) -> None:
        if not 0 <= budget <= 1:
            raise ValueError(f"budget {budget}: it is a share of a processor's time, from 0 to 1")
        if by not in GROUPINGS:
            raise ValueError(f"by {by!r}: there are {', '.join(GROUPINGS)}")
        if top < 0:
            raise ValueError(f"top {top}: it is a number of groups")
        if processes is None:
            self._listed: Callable[[], Iterable[Any]] = pids
        elif callable(processes):
            self._listed = processes
        else:
            self._listed = list(each(processes)).copy
        self._name, self._top, self._budget = GROUPINGS[by], operator.index(top), budget
        self._begin()
        _collectors.add(self)

    def _begin(self) -> None:
        self._one_scrape = threading.Lock()
        self._counter, self._reader = Counter(self._budget), Reader(self._name)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without values; a registry asks for them, and nothing is read."""
        return families({}, 0)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics as they are now.

        Raises
        ------
        TimeoutError
            Another scrape goes on for too long.
        """
        if not self._one_scrape.acquire(timeout=_PATIENCE_S):
            raise TimeoutError("another scrape still goes on")
        try:
            found, unreadable = self._reader.rows(self._listed(), cheap_fields())
            groups = bounded(grouped(found), self._top)
            self._counter.tell(groups)
            self._counter.go_on({label: amounts.pids for label, amounts in groups.items()})
        finally:
            self._one_scrape.release()
        return families(groups, unreadable)


_collectors: weakref.WeakSet[Collector] = weakref.WeakSet()


def _begin_again() -> None:
    """In a forked child: the threads are not there, and one of them may have held a lock."""
    for collector in _collectors:
        collector._begin()


os.register_at_fork(after_in_child=_begin_again)
