"""What has changed in the mappings of processes since they were read last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from fastpagemap.report.report import LABELS, About, Report

__all__ = ["Changes", "joined"]

#: A process: its pid, and when it was started; another one may get its pid.
Key = tuple[int | None, int | None]
#: What a row says of its process; see ``About``.
_OF_PROCESS = ("pid", "start_time", "cgroup", "name")


class Changes:
    """Compares each report of a process's mappings with the one before."""

    def __init__(self) -> None:
        self._last: dict[Key, Report] = {}

    def forget(self) -> None:
        """Take everything for new that is read from now on."""
        self._last.clear()

    def since_last(self, now: Report) -> Iterator[Report]:
        """Yield the rows that are new or changed, and those of what is not mapped any more."""
        key = (now.about.pid, now.about.start_time)
        before, self._last[key] = self._last.get(key), now
        if before is None:
            yield now
            return
        if before.labels == now.labels:
            changed = np.zeros(len(now), bool)
            for name in now.columns:
                changed |= now.usage[name] != before.usage[name]
        else:
            known = set(_cells(before))
            changed = np.array([row not in known for row in _cells(now)], bool)
            mapped = set(now.labels["start"])
            yield _gone(before.take([start not in mapped for start in before.labels["start"]]))
        if _origin(before.about) != _origin(now.about):  # another cgroup, or another name
            changed[:] = True
        yield now.take(changed)

    def ended(self, read: Collection[Key], refused: Collection[int]) -> Iterator[Report]:
        """Yield the rows of those that were neither read this time nor refused: all are gone."""
        for key in set(self._last).difference(read):
            if key[0] not in refused:
                yield _gone(self._last.pop(key))


def _cells(report: Report) -> Iterator[tuple[object, ...]]:
    """Yield all of each row."""
    return zip(*report.labels.values(), report.usage.tolist(), strict=True)


def _origin(about: About) -> tuple[object, ...]:
    return tuple(getattr(about, name) for name in _OF_PROCESS)


def _gone(report: Report) -> Report:
    """Return the rows of mappings that are not there any more: all sizes are 0."""
    gone = report.take(slice(None))
    gone.usage[:] = np.zeros(1, gone.usage.dtype)
    return gone


def joined(reports: Sequence[Report], about: About) -> Report:
    """Return the rows of several processes' mappings as one report.

    Parameters
    ----------
    reports : sequence of Report
        At least one.
    about : About
        What is the same in all rows: the host, and the time.
    """
    labels = {
        name: [value for each in reports for value in each.labels[name]]
        for name in LABELS["mapping"]
    }
    for name in _OF_PROCESS:
        labels[name] = [
            value for each in reports for value in [getattr(each.about, name)] * len(each)
        ]
    return Report(about, "mapping", labels, np.concatenate([each.usage for each in reports]))
