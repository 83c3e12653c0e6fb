"""Memory of groups of processes as metrics, for Prometheus: docs/metrics.md has their names.

Names and labels are those of process-exporter, so that its dashboards show these, too. What
process-exporter lacks has a `memtype` of its own, or a metric that begins with `fastpagemap_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastpagemap.report.report import Report
from fastpagemap.report.text import printable
from fastpagemap.snapshot.dataframes import imported

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

__all__ = ["DEFAULT_TOP", "OTHER", "Amounts", "bounded", "families", "grouped", "of_report", "text"]

#: The name of the group of all processes that are in none of the largest groups.
OTHER = "other"
#: How many groups have metrics of their own.
DEFAULT_TOP = 100
#: The `memtype` of a column, where process-exporter has one; else it is called as the column.
_MEMTYPES = {"size": "virtual", "present": "resident", "pss": "proportionalResident"}
_NAMESPACE = "namedprocess_namegroup"
_MEMORY = "bytes of memory of the processes in this group"
_PROCESSES = "number of processes in this group"
_AGE = "seconds since the memory of this group and memtype was counted, where not just now"
_UNREADABLE = "processes that have memory but could not be read, so that they are in no group"


@dataclass
class Amounts:
    """What the processes of a group have.

    Attributes
    ----------
    pids : list of int
        The processes.
    sizes : dict of str to int
        Bytes by column.
    ages : dict of str to float
        By column, how many seconds ago it was counted; those that were counted just now are not in.
    """

    pids: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)

    def add(self, other: Amounts) -> None:
        """Take the processes and the bytes of another group in."""
        self.pids += other.pids
        for column, size in other.sizes.items():
            self.sizes[column] = self.sizes.get(column, 0) + size


def grouped(rows: Iterable[tuple[str, int, dict[str, int]]]) -> dict[str, Amounts]:
    r"""Sum rows of processes, each with the name of its group, its pid and its bytes by column.

    Escaped is what no format of metrics can hold, bytes that are not UTF-8, and what a terminal
    could act on: ``\xff``, ``\n``.
    """
    found: dict[str, Amounts] = {}
    for name, pid, sizes in rows:
        # An empty label is the same to Prometheus as none: a query would miss it.
        label = printable(name) or OTHER
        found.setdefault(label, Amounts()).add(Amounts([pid], sizes))
    return found


def bounded(groups: Mapping[str, Amounts], top: int) -> dict[str, Amounts]:
    """Return the groups that have the most in RAM and swap, and `OTHER` with all that are left."""

    def size(label: str) -> tuple[int, int]:
        sizes = groups[label].sizes
        known = sizes.get("present", 0) + sizes.get("swapped", 0)
        return known, max(sizes.values(), default=0)

    largest = sorted((label for label in groups if label != OTHER), key=size, reverse=True)
    found = {label: groups[label] for label in largest[:top]}
    rest = Amounts()
    for label in (*largest[top:], *({OTHER} & groups.keys())):
        rest.add(groups[label])
    return {**found, OTHER: rest} if rest.pids else found


def families(groups: Mapping[str, Amounts], unreadable: int) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of groups, as objects of prometheus_client.

    Raises
    ------
    ModuleNotFoundError
        prometheus_client is not installed.
    """
    imported("prometheus_client")
    from prometheus_client.core import GaugeMetricFamily

    labels = ["groupname", "memtype"]
    processes = GaugeMetricFamily(f"{_NAMESPACE}_num_procs", _PROCESSES, labels=labels[:1])
    memory = GaugeMetricFamily(f"{_NAMESPACE}_memory_bytes", _MEMORY, labels=labels, unit="bytes")
    ages = GaugeMetricFamily("fastpagemap_memory_age_seconds", _AGE, labels=labels, unit="seconds")
    for label, amounts in groups.items():
        processes.add_metric([label], len(amounts.pids))
        for column, size in amounts.sizes.items():
            memory.add_metric([label, _MEMTYPES.get(column, column)], size)
        for column, age in amounts.ages.items():
            ages.add_metric([label, _MEMTYPES.get(column, column)], age)
    yield from (processes, memory, ages)
    yield GaugeMetricFamily("fastpagemap_unreadable_processes", _UNREADABLE, unreadable)


def of_report(report: Report, names: Iterable[str], top: int) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of a report with a row for each process; `names` are of their groups."""
    sizes = {column: report.usage[column].tolist() for column in report.columns}
    rows = (
        (name, pid, {column: values[number] for column, values in sizes.items()})
        for number, (name, pid) in enumerate(zip(names, report.labels["pid"], strict=True))
    )
    return families(bounded(grouped(rows), top), len(report.unreadable))


def text(metrics: Iterable[GaugeMetricFamily]) -> bytes:
    """Return metrics as OpenMetrics 1.0. Prometheus's own format reads it as well."""
    from prometheus_client.openmetrics.exposition import generate_latest

    return bytes(generate_latest(_Collected(list(metrics))))  # type: ignore[no-untyped-call]


class _Collected:
    """What prometheus_client asks for metrics."""

    def __init__(self, metrics: list[Any]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Any]:
        return self._metrics
