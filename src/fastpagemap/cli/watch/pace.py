"""How often samples are taken, and what their counters come to in a second."""

from __future__ import annotations

import math

from fastpagemap.process.stat import Stat

__all__ = ["Meter", "Pace"]


class Pace:
    """When to take the next sample.

    Not before `interval` has passed, and not before the cost of the last sample is a `share` of the
    time since it began.
    """

    def __init__(self, interval: float, share: float) -> None:
        self.interval, self.share = interval, share
        self._next = -math.inf

    def due(self, now: float) -> bool:
        """Return whether it is time for a sample."""
        return now >= self._next

    def hurry(self) -> None:
        """Make a sample due at once: the view has changed."""
        self._next = -math.inf

    def spent(self, began: float, cost: float) -> None:
        """Note when a sample began, and what it cost, in seconds of processor time."""
        # Ticks never come exactly at the interval, so half an interval is tolerated.
        self._next = began + max(self.interval / 2, cost / self.share - self.interval / 2)


class Meter:
    """Turns the page faults that /proc/PID/stat counts into rates."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def rates(self, stat: Stat, now: float) -> tuple[float | None, float | None]:
        """Return minor and major faults per second since the last call."""
        counted = now, stat.minor, stat.major
        last, self._last = self._last, counted
        if last is None or now <= last[0]:
            return None, None
        seconds = now - last[0]
        return (counted[1] - last[1]) / seconds, (counted[2] - last[2]) / seconds
