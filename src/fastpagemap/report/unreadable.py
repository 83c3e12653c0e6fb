"""Say which processes are not in a report, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from errno import EACCES, EPERM

from fastpagemap.report.report import Unreadable
from fastpagemap.report.text import plural, printable

__all__ = ["lines", "summary"]

#: Processes that are named; the others are only counted.
MAX_NAMED = 20
#: Such processes are most of them for a user without privileges: they are not named.
_FORBIDDEN = os.strerror(EACCES), os.strerror(EPERM)


def summary(unreadable: Sequence[Unreadable]) -> str:
    """Return how many processes could not be read, and why."""
    reasons: dict[str, int] = {}
    for one in unreadable:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    count = len(unreadable)
    why = "; ".join(
        f"{number} of them: {reason}" if len(reasons) > 1 else reason
        for reason, number in reasons.items()
    )
    return f"{count} {plural(count, 'process')} could not be read: {why}"


def lines(unreadable: Sequence[Unreadable]) -> Iterator[str]:
    """Yield the summary, and a line for each process but those that this user may not read."""
    if not unreadable:
        return
    yield printable(summary(unreadable))
    named = [one for one in unreadable if not one.reason.startswith(_FORBIDDEN)]
    for one in named[:MAX_NAMED]:
        yield printable(f"process {one.pid} ({one.name}): {one.reason}")
    if len(named) > MAX_NAMED:
        yield f"{len(named) - MAX_NAMED} more are in what --json prints"
