"""Which processes ``fastpagemap top`` shows, where not all are wanted; no screen here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastpagemap.cli.naming import matching
from fastpagemap.cli.processes import user_given, user_of
from fastpagemap.process.stat import Stat

__all__ = ["Chosen"]


class Chosen:
    """Processes of a user, or with a name or a command line that matches; by default all.

    To read a command line takes a worker. So that is done once for each process, and again when its
    name has changed: then it has called exec.

    Parameters
    ----------
    name, user : str or None
        As for ``report --all``.
    """

    def __init__(self, name: str | None = None, user: str | None = None) -> None:
        self._name, self._user = name, None if user is None else user_given(user)
        self._fits: dict[tuple[int, int, str], bool] = {}

    def among(self, found: Mapping[int, Stat]) -> Iterator[int]:
        """Yield the chosen ones of the processes that there are now."""
        pids = [pid for pid in found if self._user is None or user_of(pid) == self._user]
        if self._name is not None:
            self._match(self._name, {pid: found[pid] for pid in pids})
        for pid in pids:
            if self._name is None or self._fits[_identity(pid, found[pid])]:
                yield pid

    def _match(self, name: str, found: Mapping[int, Stat]) -> None:
        known = {pid: self._fits.get(_identity(pid, about)) for pid, about in found.items()}
        new = [pid for pid, fits in known.items() if fits is None]
        matched = set(matching(name, new) if new else ())
        self._fits = {
            _identity(pid, found[pid]): pid in matched if fits is None else fits
            for pid, fits in known.items()
        }


def _identity(pid: int, about: Stat) -> tuple[int, int, str]:
    return pid, about.started, about.name
