"""A row of the table of goals: what was measured, beside what, and what is wanted."""

import math
import os
import platform
from collections.abc import Iterable
from typing import NamedTuple

from lab import Rows, Scale, readable

HEADER = ("question", "memory", "took", "beside", "which took", "is", "goal", "met")
#: the table in a Markdown file stands between these
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Goal(NamedTuple):
    """One measured value and the most that it may be.

    `limit` is None for a row that only explains another; `value` is NaN for one that could not be
    measured here, and infinite for one that was given up.
    """

    question: str
    memory: str
    took: str
    beside: str
    floor: str
    value: float
    limit: float | None
    unit: str = ""

    @property
    def met(self) -> str:
        """Say whether the goal was met, by the value as it is shown."""
        if math.isnan(self.value):
            return "not measured"
        if self.limit is None:
            return ""
        value = self.value if self.unit else round(self.value, 2)
        return "yes" if value <= self.limit else "no"

    def cells(self) -> tuple[str, ...]:
        """Return its cells, as in HEADER."""
        value = "" if math.isnan(self.value) else self._told(self.value)
        limit = "" if self.limit is None else self._told(self.limit)
        return (
            self.question,
            self.memory,
            self.took,
            self.beside,
            self.floor,
            value,
            limit,
            self.met,
        )

    def _told(self, value: float) -> str:
        if math.isinf(value):
            return "given up"
        if not self.unit:
            return f"{value:.2f}"
        return f"{value:,.0f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"


def duration(seconds: float) -> str:
    """Return a time as people write it."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def ratio(
    question: str, memory: str, took: float, beside: str, floor: float, limit: float | None
) -> Goal:
    """Return a row that is wanted as a ratio to its floor."""
    return Goal(question, memory, duration(took), beside, duration(floor), took / floor, limit)


def more(
    question: str, memory: str, took: float, beside: str, floor: float, limit: float, unit: str
) -> Goal:
    """Return a row that may take some microseconds or milliseconds more than its floor."""
    over = (took - floor) * {"us": 1e6, "ms": 1e3}[unit]
    return Goal(
        question, memory, duration(took), beside, duration(floor), over, limit, f"{unit} more"
    )


def unmeasured(question: str, memory: str, why: str) -> Goal:
    """Return a row that this machine, or this user, cannot measure."""
    return Goal(question, memory, "", why, "", math.nan, None)


def grouped(goals: Iterable[Goal]) -> list[Goal]:
    """Bring the rows of each question together, in the order in which they were first measured."""
    order: dict[str, int] = {}
    for goal in (goals := list(goals)):
        order.setdefault(goal.question, len(order))
    return sorted(goals, key=lambda goal: order[goal.question])


def rows(goals: Iterable[Goal]) -> Rows:
    """Lay the goals out as a table."""
    return [HEADER, *(goal.cells() for goal in goals)]


def summary(goals: list[Goal]) -> str:
    """Count what was met."""
    met = [goal.met for goal in goals]
    text = f"{met.count('yes')} of {met.count('yes') + met.count('no')} goals are met"
    return f"{text}, {met.count('not measured')} were not measured"


def where(scale: Scale, load: str) -> str:
    """Say on what machine this was measured, of how much memory, and how often."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    processor = f"{os.cpu_count()} x {names[0]}" if names else f"{os.cpu_count()} processors"
    return (
        f"Linux {platform.release()}, {processor}, {load} at the start; "
        f"{readable(scale.size)} of each kind of memory; medians of {scale.rounds}."
    )


def markdown(goals: list[Goal], about: str, command: str) -> str:
    """Return the table in Markdown, with the command that measured it."""
    header, *lines = rows(goals)
    rule = ("---", "---", "---:", "---", "---:", "---:", "---:", "---")
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))
    return f"Measured by `{command}`:\n{about}\n\n{body}\n\n{summary(goals)}."


def replaced(page: str, table: str) -> str:
    """Return a page with another table in it; the table alone, where the page has no place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return f"{table}\n"
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
