"""Say which processes are not in a report, and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import EACCES, EPERM

from fastpagemap.report.report import Unreadable
from fastpagemap.report.text import plural, printable

__all__ = ["lines", "summary"]

#: Processes that are named; the others are only counted.
MAX_NAMED = 20
#: Process ids that someone typed, and that are listed for one reason.
MAX_TYPED = 12
#: Such processes are most of them for a user without privileges: they are not named.
_FORBIDDEN = os.strerror(EACCES), os.strerror(EPERM)


def summary(unreadable: Sequence[Unreadable], typed: Collection[int] = ()) -> str:
    """Return how many processes could not be read, and why; list the pids that someone typed."""
    reasons: dict[str, list[int]] = {}
    for one in unreadable:
        reasons.setdefault(one.reason, []).append(one.pid)
    whole = f"{len(unreadable)} {plural(len(unreadable), 'process')} could not be read"
    if len(reasons) == 1:
        [(why, pids)] = reasons.items()
        return f"{whole}{_listed(pids, typed)}: {why}"
    parts = (f"{len(pids)} of them{_listed(pids, typed)}: {why}" for why, pids in reasons.items())
    return f"{whole}: {'; '.join(parts)}"


def _listed(pids: Iterable[int], typed: Collection[int]) -> str:
    listed = sorted(pid for pid in pids if pid in typed)
    some = ", ".join(map(str, listed[:MAX_TYPED]))
    more = f" and {len(listed) - MAX_TYPED} more" if len(listed) > MAX_TYPED else ""
    return f" ({some}{more})" if listed else ""


def lines(unreadable: Sequence[Unreadable], typed: Collection[int] = ()) -> Iterator[str]:
    """Yield the summary, and a line for each process but those that this user may not read.

    The pids that someone typed are in the summary, whatever the reason.
    """
    if not unreadable:
        return
    yield printable(summary(unreadable, typed))
    others = [one for one in unreadable if one.pid not in typed]
    named = [one for one in others if not one.reason.startswith(_FORBIDDEN)]
    for one in named[:MAX_NAMED]:
        yield printable(f"process {one.pid} ({one.name}): {one.reason}")
    if len(named) > MAX_NAMED:
        yield f"{len(named) - MAX_NAMED} more are in what --json prints"
