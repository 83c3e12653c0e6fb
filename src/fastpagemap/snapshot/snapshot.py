"""A process's memory at one time: its mappings and the state of every page."""

import dataclasses
import os
import time
from collections.abc import Iterable
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..model import hooks
from ..model.errors import SnapshotError
from ..model.mapping import Mapping
from ..model.span import Start, is_memory, spanned
from ..process.process import Process
from . import answers, taking
from .data import SnapshotData
from .diff import Diff
from .open_file import Path, opened, read_up_to
from .replace_file import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Snapshot", "SnapshotError", "take"]


class Snapshot(SnapshotData):
    """The memory of a process as it was at one time, from ``PageMap.snapshot`` or a file.

    Attributes
    ----------
    pid : int
        The process; 0 if not known.
    name : str
        The name of the program, as in /proc/PID/comm. Names, commands and paths may contain any
        character but NUL; bytes that are not UTF-8 are surrogates, as from ``os.fsdecode``.
    command : str or None
        The first 16 KiB of the command line, its arguments separated by blanks; None if there is
        none or it is not known.
    time : float
        When the snapshot was taken, in seconds since the epoch.
    kernel, machine : str
        The release of the kernel, and the architecture.
    page_size : int
        Bytes per page.
    capabilities : Capabilities
        What the kernel could answer, and what the user who took the snapshot could ask.
    soft_dirty : bool
        Whether ``State.SOFT_DIRTY`` means anything.
    mappings : list of Mapping
        In address order.
    states : ndarray of RUN_DTYPE
        The runs of pages in the same state, as from ``PageMap.states``.
    uid : int or None
        The real user id of the process: the number of the user who started it; None if not known.

    Examples
    --------
    >>> before = fpm.PageMap().snapshot()
    >>> memory = mmap.mmap(-1, 1 << 20)
    >>> memory[:] = bytes(1 << 20)
    >>> diff = before.diff(fpm.PageMap().snapshot())
    >>> diff.sums()["faulted_in"] >= 1 << 20
    True
    """

    # The process that took it of itself. Not saved or pickled: whoever loads it may have its pid.
    _owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": 0}

    def __repr__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.time))
        return (
            f"<Snapshot of {self.name!r}, process {self.pid}, {when} UTC: "
            f"{len(self.mappings)} mappings, {len(self.states)} runs>"
        )

    def _repr_html_(self) -> str:
        """Return a table of the usage by mapping, for notebooks."""
        html: str = hooks.load("notebook").of_snapshot(self)
        return html

    def usage(
        self, mappings: Iterable[Mapping] | None = None, *, fields: Iterable[str] | None = None
    ) -> npt.NDArray[np.void]:
        """Return the usage of each mapping in bytes, as ``PageMap.usage`` does.

        Parameters
        ----------
        mappings : iterable of Mapping, optional
            By default all mappings of the snapshot. What the snapshot does not have counts 0.
        fields : iterable of str, optional
            The columns wanted, in their order; by default all sizes that could be filled.

        Returns
        -------
        ndarray
            Structured, one row for each mapping: sizes as uint64, texts as dtype object. ``kind``
            is found from device numbers and paths alone.

        Raises
        ------
        UnsupportedError
            A column named in `fields` could not be filled when the snapshot was taken.
        ValueError
            There is no such column, or a mapping ends at 2**64.
        TypeError
            `mappings` has something else.
        """
        return answers.usage(self, mappings, fields)

    def state(
        self,
        start: Start,
        end: int | None = None,
        out: npt.NDArray[np.uint64] | None = None,
    ) -> npt.NDArray[np.uint64]:
        """Return the ``State`` of each page of a span; 0 for pages in no run.

        Parameters
        ----------
        start, end : int, or one object with memory
            Addresses in bytes, aligned to this snapshot's pages. An object (whatever ``span``
            takes) only if this process has taken this snapshot of itself.
        out : ndarray of uint64, optional
            Filled and returned, in place of a new array; one element a page.

        Returns
        -------
        ndarray of uint64
            One element a page, in address order.

        Raises
        ------
        ValueError
            An object is given, and the snapshot is of another process, or was loaded from a file.
            Or addresses are not aligned, or `out` does not fit.
        TypeError
            The span is neither two integers nor one object with memory.
        MemoryError
            The result would not fit into free memory.
        """
        if end is None and is_memory(start) and self._owner != os.getpid():
            raise ValueError(
                "the memory of an object is this process's, which this snapshot was not taken of, "
                "as far as it knows; for the same addresses give these: *fastpagemap.span(object)"
            )
        return answers.state(self, *spanned(start, end, page_size=self.page_size), out)

    def diff(self, other: "Snapshot") -> "Diff[Snapshot]":
        """Return what changed from this snapshot to a later one.

        Pages of which only one of them has entries (`from_entries`) count as dropped, or as faulted
        in.

        Parameters
        ----------
        other : Snapshot
            The later one.

        Returns
        -------
        Diff
            Masks, mappings and sums of what changed.

        Raises
        ------
        ValueError
            Their page sizes differ.
        TypeError
            `other` is not a Snapshot.
        """
        if not isinstance(other, Snapshot):
            raise TypeError(f"other must be a Snapshot, not {other!r}")
        return Diff(self, other)

    # ---- files ----

    def save(self, file: Path | IO[bytes]) -> None:
        """Save to a file, or into one that is open for writing bytes.

        A new file is written beside a path and then renamed. So the path has either the whole
        snapshot or its old content. Unless this user started the process, nobody else may read the
        file, because addresses help attacks. A symbolic link is followed only if no other user can
        have put it there.

        Parameters
        ----------
        file : path, or file open for writing bytes

        Raises
        ------
        OSError
            The file cannot be written; the old content is still there.
        TypeError
            `file` is neither.
        SnapshotError
            `load` would refuse it: it was changed by hand and contradicts itself, or it has more
            than 64 million runs, 4 million mappings, or 256 MiB of paths.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        content = _file_format().encode(fields)
        if isinstance(file, (str, bytes, os.PathLike)):
            with replace_file(os.fsdecode(file), self.uid) as writing:
                writing.write(content)
        else:
            _check_file(file, "write")
            file.write(content)

    @classmethod
    def load(cls, file: Path | IO[bytes]) -> Self:
        """Load from a file, or from one that is open for reading bytes.

        Files from strangers are safe to load. No code in them is run, all data is checked, and a
        small file cannot take much memory.

        Parameters
        ----------
        file : path, or file open for reading bytes

        Returns
        -------
        Snapshot

        Raises
        ------
        SnapshotError
            The file is not a snapshot, is broken, or is newer than this version of fastpagemap.
        OSError
            It cannot be read; or the path is that of a named pipe or a device. ``/dev/stdin`` may
            be a pipe.
        TypeError
            `file` is neither.
        """
        formats = _file_format()
        with opened(file) as given:
            _check_file(given, "read")
            content = read_up_to(given, formats.MAX_BYTES, b"P")
        return cls(**formats.decode(content))

    @classmethod
    def from_entries(cls, source: Any, start: int = 0, *, maps: Any = None) -> Self:
        """Return a snapshot of entries, as saved with dd from /proc/PID/pagemap.

        Parameters
        ----------
        source : path, file or array_like
            A file of entries, whose holes are skipped, or an array that ``decode`` takes. For
            /proc/PID/pagemap itself, this returns ``PageMap.snapshot`` of that process.
        start : int, optional
            The address of the first entry's page, in bytes.
        maps : path, file or iterable of Mapping, optional
            The mappings of that process, as saved from its maps or smaps at the same time.

        Returns
        -------
        Snapshot
            The pid is 0; page size, kernel and capabilities are this machine's. The mappings are
            those of `maps`, cut to where there are entries. All other pages are in mappings called
            ``[unknown]`` with the permissions ``????``, one for each stretch of pages whose state
            is not 0. A gap of 512 pages or more ends a stretch.

        Raises
        ------
        ValueError
            The file is empty, does not hold a whole number of entries, extends beyond the address
            space, or holds what no kernel writes. `maps` is neither maps nor smaps. `start` or
            `maps` is given with a live pagemap, whose process knows both.
        ProcessLookupError
            The process of a live pagemap has ended.
        OSError
            It cannot be read; or the path is that of a named pipe or a device.

        Notes
        -----
        Entries of kernels before Linux 4.2 have the page shift in bits 55-60. They are recognised
        if their pages have this machine's page size. Then no page is SOFT_DIRTY, EXCLUSIVE, GUARD.

        Entries do not tell everything:

        - SWAPPED: if swap types are visible, markers are told apart by them. Types 23 to 29 are
          markers on some kernels and swap areas on others: such a page is UNKNOWN.
        - Swapped shared memory has empty entries. It is UNKNOWN if `maps` shows that the memory is
          shared, and 0 otherwise. `maps` does not show that for a tmpfs other than /dev/shm.
        - The huge zero page is SHARED before Linux 7.3.
        - No page has HUGE or ZERO.
        """
        return cls(**taking.of_entries(source, start, maps))

    # ---- elsewhere ----

    def plot(
        self,
        mappings: Iterable[Mapping] | None = None,
        *,
        width: int = 1200,
        soft_dirty: bool = False,
    ) -> "Figure":
        """Return a picture of the address space, as ``fastpagemap map`` draws it.

        Parameters
        ----------
        mappings : iterable of Mapping, optional
            The mappings to draw; all by default.
        width : int, optional
            The width of the picture in pixels; 640 at least.
        soft_dirty : bool, optional
            Colour the pages that are soft-dirty.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it, and ``savefig`` saves it. pyplot does not know it.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        TypeError
            `mappings` has something else.
        """
        try:
            picture = hooks.load("picture")
        except ModuleNotFoundError as error:
            raise ImportError(
                "pictures need matplotlib: pip install 'fastpagemap[plot]'", name="matplotlib"
            ) from error
        figure: Figure = picture.draw(self, mappings, width=width, soft_dirty=soft_dirty)
        return figure

    def to_arrow(self) -> Any:
        """Return a table of the runs: start, end, state, and their mapping's columns.

        Returns
        -------
        pyarrow.Table
            One row for each run. Bytes of a path that are not UTF-8 are escaped: ``\\xff``.

        Raises
        ------
        ModuleNotFoundError
            pyarrow is not installed.
        """
        from .arrow import table

        return table(self.mappings, self.states)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows of `to_arrow` through the Arrow PyCapsule interface.

        So ``pyarrow.table``, ``polars.DataFrame`` and DuckDB take a snapshot directly.

        Raises
        ------
        ModuleNotFoundError
            pyarrow is not installed.
        """
        stream: object = self.to_arrow().__arrow_c_stream__(requested_schema)
        return stream


def _file_format() -> ModuleType:
    """Import the module late: it imports zipfile and json, which most programs do not need."""
    from . import file_format

    return file_format


def take(process: Process) -> Snapshot:
    """Return a snapshot of a process; see ``PageMap.snapshot``."""
    taken = Snapshot(**taking.of_process(process))
    if process.is_this:
        object.__setattr__(taken, "_owner", process.pid)
    return taken


def _check_file(file: object, method: str) -> None:
    """Raise TypeError if something has no such method."""
    if not hasattr(file, method):
        doing = {"read": "reading", "write": "writing"}[method]
        raise TypeError(f"file must be a path, or a file open for {doing} bytes, not {file!r}")
