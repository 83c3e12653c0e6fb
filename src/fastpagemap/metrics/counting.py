"""Count what is dear of groups of processes, within a share of a processor's time."""

from __future__ import annotations

import functools
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..engine.members import ALL_PIDS, Members
from ..process import stat
from ..process.family import Known, open_again
from ..report.openmetrics import Amounts
from .errand import MAX_LEFT_BEHIND, Errand
from .reading import PATIENCE_S, rows

__all__ = ["Counter"]

# By process, and by group: what several processes of it have counts once.
_SHARES = ("pss", "uss")
_ONCE = ("union", "swapped_union")
# Seconds of which a budget may be spent at once: where nobody scrapes for long, and at first.
_MAX_SAVED_S, _FIRST_S = 60.0, 15.0
# Members hold three files a process open. The rest of this process needs some, too.
_FILES_A_PROCESS, _MAX_SHARE_OF_FILES = 3, 1 / 2


class _Counted(NamedTuple):
    """What was counted of a group, in bytes by column, and when; ``time.monotonic``."""

    sizes: dict[str, int]
    time: float


class Counter:
    """Counts what is dear, in a thread, for a share of a processor's time."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._known: dict[str, list[Known]] = {}
        self._counted: dict[str, _Counted] = {}
        self._left_behind: list[Errand[dict[str, int]]] = []
        # Seconds that may be spent; less than 0 after a group that took longer.
        self._left, self._since = budget * _FIRST_S, time.monotonic()

    def tell(self, groups: dict[str, Amounts]) -> None:
        """Add to groups what was counted of them, and its age."""
        now = time.monotonic()
        with self._lock:
            counted = dict(self._counted)
        for label, amounts in groups.items():
            if label in counted:
                amounts.sizes.update(counted[label].sizes)
                amounts.ages.update(dict.fromkeys(counted[label].sizes, now - counted[label].time))

    def go_on(self, pids_of: dict[str, list[int]]) -> None:
        """Count these groups from now on, as far as the budget goes; forget all others."""
        if not self._budget:
            return
        known = {label: list(_known(pids)) for label, pids in pids_of.items()}
        now = time.monotonic()
        with self._lock:
            self._known = known
            self._counted = {k: v for k, v in self._counted.items() if k in known}
            earned = self._budget * (now - self._since)
            self._left = min(self._left + earned, self._budget * _MAX_SAVED_S)
            self._since = now
            # A forked child has no thread: it is seen to have ended.
            if self._left > 0 and not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._run, args=(now,), name="fastpagemap-metrics", daemon=True
                )
                self._thread.start()

    def _run(self, scraped: float) -> None:
        """Count groups, each once, until the budget is spent."""
        while (label := self._oldest(scraped)) is not None:
            members = self._known.get(label, ())
            errand = Errand(functools.partial(_dear, members))
            if errand.ends(PATIENCE_S):
                sizes = errand.answer()
            else:  # one of them keeps its memory locked
                sizes = {}
                self._left_behind.append(errand)
            with self._lock:
                self._left -= errand.spent
                if label in self._known:  # else it has ended meanwhile
                    self._counted[label] = _Counted(sizes, time.monotonic())

    def _oldest(self, scraped: float) -> str | None:
        """Return the group that was counted longest ago; None if there is nothing to do now."""
        with self._lock:
            times = {label: self._time_of(label) for label in self._known}
            label = min(times, key=times.__getitem__, default=None)
            self._left_behind = [each for each in self._left_behind if each.is_alive()]
            may = self._left > 0 and len(self._left_behind) < MAX_LEFT_BEHIND
            return label if may and label is not None and times[label] < scraped else None

    def _time_of(self, label: str) -> float:
        return self._counted[label].time if label in self._counted else 0.0


def _known(found: Iterable[int]) -> Iterator[Known]:
    for pid in found:
        its = stat.read(pid)
        if its is not None:
            yield Known(pid, its.started)


def _dear(known: Iterable[Known]) -> dict[str, int]:
    """Return what is dear of a group, in bytes by column; what cannot be counted is not there."""
    members = list(known)
    found: dict[str, int] = {}
    try:
        processes, _ = rows((each.pid for each in members), _SHARES)
        if processes:
            found = {name: sum(each.sizes[name] for each in processes) for name in _SHARES}
        if processes and _may_open(len(members)):
            # Only `swapped_unique` needs to know what processes outside have in swap.
            total = Members(*open_again(members), ALL_PIDS).total()
            found |= {name: int(total[name]) for name in _ONCE if name in (total.dtype.names or ())}
    except (OSError, MemoryError):  # all have ended, one may not be read, no file can be opened
        pass
    return found


def _may_open(count: int) -> bool:
    """Return whether a group of so many processes leaves enough files for the rest of this one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count * _FILES_A_PROCESS <= soft * _MAX_SHARE_OF_FILES
