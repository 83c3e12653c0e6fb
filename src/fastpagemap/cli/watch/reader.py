"""What ``fastpagemap watch`` reads of a process, here or in a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastpagemap.cli.asking import Remote, naming
from fastpagemap.cli.watch.area import View
from fastpagemap.engine.shares import SHARE_COLUMNS
from fastpagemap.model.entry import PAGE_SIZE
from fastpagemap.model.mapping import Mapping
from fastpagemap.model.runs import Runs
from fastpagemap.pagemap import PageMap
from fastpagemap.process.probes import soft_dirty
from fastpagemap.process.process import Process
from fastpagemap.report.report import SIZES

__all__ = ["Reader", "RemoteReader"]

Usage = npt.NDArray[np.void]

#: Seconds that the process may keep the view waiting; then the view says so, and goes on.
PATIENCE = 1.0


class About(NamedTuple):
    """What stays as it is of a process.

    `soft_dirty` says whether the kernel keeps soft-dirty bits, `columns` which sizes it can tell.
    """

    name: str
    uid: int
    soft_dirty: bool
    columns: tuple[str, ...]


class Reader:
    """A process that is held open.

    Parameters
    ----------
    pid : int
        The process.
    dirty : bool
        Clear the soft-dirty bits whenever pages were read.
    """

    #: Seconds of processor time that others have used for it.
    spent = 0.0

    def __init__(self, pid: int, dirty: bool) -> None:
        self._process = Process(pid)
        self._pagemap = PageMap(pid)
        self._process.check_alive()  # both are the same process, not two with one pid
        self._dirty = dirty
        if dirty:
            self._pagemap.clear_soft_dirty()
        # Learn now what this kernel can do, so that the first sample does not pay for it.
        self._pages_of(View(0, PAGE_SIZE))
        self._columns = self._pagemap.usage([]).dtype.names or ()

    def about(self) -> About:
        """Return what stays as it is."""
        columns = (*(name for name in self._columns if name in SIZES), *SHARE_COLUMNS)
        return About(self._process.name(), self._process.uid(), soft_dirty(), columns)

    def sums(self, fields: tuple[str, ...]) -> tuple[list[Mapping], Usage]:
        """Return the mappings, and columns of what each of them uses."""
        mappings = [m for m in self._pagemap.mappings() if m.start < View().end]
        return mappings, self._pagemap.usage(mappings, fields=fields)

    def pages(self, view: View | None) -> Runs:
        """Return the states of the pages of a view, whatever is mapped there, or of all pages."""
        runs = self._pagemap.states() if view is None else self._pages_of(view)
        if self._dirty:
            self._pagemap.clear_soft_dirty()
        return runs

    def stat(self) -> bytes:
        """Return /proc/PID/stat."""
        return self._process.read("stat")

    def close(self) -> None:
        """Let go of the process."""
        self._pagemap.close()

    def _pages_of(self, view: View) -> Runs:
        return self._pagemap.states([Mapping(*view, "----", 0, 0, 0, "")])


class RemoteReader:
    """A `Reader` in a worker: the process may lock its memory, and the view goes on.

    Parameters
    ----------
    pid : int
        The process.
    make : callable
        Makes the reader.
    timeout : float
        The seconds that the process may keep the worker waiting when it is first read.
    """

    def __init__(self, pid: int, make: Callable[[], Reader], timeout: float) -> None:
        self._pid, self._timeout = pid, timeout
        self._remote = Remote(make, timeout)

    @property
    def spent(self) -> float:
        """Seconds of processor time that the worker has used."""
        return self._remote.spent

    def about(self) -> About:
        """See `Reader`."""
        with naming(self._pid):
            about: About = self._remote.call("about")
        return about

    def sums(self, fields: tuple[str, ...]) -> tuple[list[Mapping], Usage]:
        """See `Reader`."""
        mappings, usage = self._call("sums", fields)
        return mappings, usage

    def pages(self, view: View | None) -> Runs:
        """See `Reader`."""
        runs: Runs = self._call("pages", view)
        return runs

    def stat(self) -> bytes:
        """See `Reader`."""
        text: bytes = self._call("stat")
        return text

    def close(self) -> None:
        """Give the worker up."""
        self._remote.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._remote.call(method, *arguments, seconds=min(self._timeout, PATIENCE))
