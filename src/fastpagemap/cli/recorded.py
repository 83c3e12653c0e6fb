"""Which processes ``fastpagemap record`` records, found anew each time."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fastpagemap.cli.naming import named
from fastpagemap.cli.processes import has_memory, processes
from fastpagemap.cli.targets import processes_of
from fastpagemap.process import stat
from fastpagemap.process.family import Known, descendants, known_at

__all__ = ["Targets", "everyone"]


def everyone() -> list[int]:
    """Return all processes that have memory, but this one."""
    return _but_this(pid for pid in processes() if has_memory(pid))


class Targets:
    """The processes that words mean: process ids, and names, which others may come to have.

    Parameters
    ----------
    words : iterable of str
    tree : bool
        Their descendants, too, also once the parents of these have ended.

    Raises
    ------
    click.BadParameter, ProcessLookupError
        A word means no process now.
    """

    def __init__(self, words: Iterable[str], tree: bool) -> None:
        found = {word: processes_of(word) for word in words}
        self._names = [word for word in found if not word.isdecimal()]
        self._given = [known_at(*pids) for word, pids in found.items() if word.isdecimal()]
        #: The pids that are words.
        self.typed = {each.pid for each in self._given}
        self._tree = tree
        self._relatives: set[Known] = set()

    def __call__(self) -> list[int] | None:
        """Return the pids; None if nothing was given by its name, and everything has ended."""
        self._given = [each for each in self._given if _lives(each)]
        pids = {each.pid for each in self._given}
        for name in self._names:
            pids.update(named(name))
        if self._tree:
            kept = {each for each in self._relatives if _lives(each)}
            self._relatives = kept | set(descendants(*pids, *(each.pid for each in kept)))
            pids.update(each.pid for each in self._relatives)
        return _but_this(pids) if pids or self._names else None


def _lives(each: Known) -> bool:
    found = stat.read(each.pid)
    return found is not None and found.started == each.began and has_memory(each.pid)


def _but_this(pids: Iterable[int]) -> list[int]:
    return sorted(set(pids) - {os.getpid()})
