"""What lies behind a process's present pages: how often it is mapped, its node, its folio."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._kernel import folios as kernel_folios
from .._kernel import frames, numa
from .._kernel.failures import is_refusal
from ..model.entry import PAGE_SIZE, Category, frame_numbers
from ..model.errors import UnsupportedError
from ..model.frame_flags import FOLIO_DTYPE, KPF
from ..model.runs import Addresses, Spans, close_gaps, concat_rows
from ..process.frames import FLAGS, MAPCOUNTS, open_frames, reading_order
from ..process.limits import affordable
from ..process.namespaces import is_foreign
from ..process.nodes import node_ranges
from ..process.process import Process
from .regions import regions

__all__ = ["fill_mapcounts", "fill_nodes", "folios", "hidden"]

# A read of entries costs as much as so many more of them.
_MAX_GAP_BYTES = 32 * PAGE_SIZE
# Pages at a time: what is needed for each stays small.
_PIECE_PAGES = 1 << 16
_NO_BARRIERS = np.empty(0, np.uint64)
_PRESENT_BIT = np.uint64(63)


def fill_mapcounts(
    process: Process, start: int, end: int, counts: npt.NDArray[np.uint32], *, zeroed: bool
) -> None:
    """Fill how often each page of a span is mapped; `zeroed` arrays are 0 already."""
    file = open_frames(MAPCOUNTS)
    if not zeroed:
        counts.fill(0)
    for pages, pfns in _present(process, start, end):
        found = np.empty(len(pfns), np.uint32)
        frames.read_counts(file.fd, f"/proc/{MAPCOUNTS}", pfns, reading_order(pfns), found)
        counts[pages] = found
    process.check_alive()


def fill_nodes(process: Process, start: int, end: int, nodes: npt.NDArray[np.int16]) -> None:
    """Fill the node of each page of a span; -1 where there is none, and for zero pages."""
    nodes.fill(-1)
    spans = _present_spans(process, start, end)
    pid = _number(process)
    refused: OSError | None = None
    if pid is not None:
        try:
            numa.nodes(pid, process.path, *spans, start, nodes)
            _check_still(process)
            return
        except OSError as error:
            process.check_alive()  # EINVAL: its memory is gone, or so says a sandbox
            if error.errno == errno.ESRCH:
                raise process.gone() from None
            if not is_refusal(error):
                raise
            refused = error.with_traceback(None)  # which has this frame, and would be kept by it
    try:
        _fill_by_frames(process, start, end, nodes)
    except PermissionError:
        if refused is None or not isinstance(refused, PermissionError) or pid == 0:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                "nodes of pages cannot be found out: move_pages is missing or forbidden here, and "
                "frame numbers, the other way, need CAP_SYS_ADMIN",
                process.path,
            ) from None
        raise PermissionError(
            refused.errno,
            f"{os.strerror(refused.errno or errno.EPERM)} (move_pages, which tells nodes of pages: "
            "needs the same user or CAP_SYS_PTRACE; a sandbox may forbid it)",
            process.path,
        ) from None


def folios(process: Process, start: int, end: int) -> npt.NDArray[np.void]:
    """Return the folios that are mapped in a span, in address order."""
    file = open_frames(FLAGS)
    starts, ends = close_gaps(*_present_spans(process, start, end), _MAX_GAP_BYTES, _NO_BARRIERS)
    capacity = max(_PIECE_PAGES, 2 * kernel_folios.BATCH_PAGES)
    found, total = [], 0
    at = address = count = 0
    rows = np.empty(capacity, FOLIO_DTYPE)
    while at < len(starts):
        flat = rows.view(np.uint64).reshape(capacity, -1)
        try:
            count, at, address = kernel_folios.find(
                process.pagemap, process.path, file.fd, starts, ends, at, address, flat, count
            )
        except PermissionError:
            raise hidden(process) from None
        if at < len(starts) and count:
            # The last one may go on.
            total += count - 1
            affordable(total, 2 * FOLIO_DTYPE.itemsize, "folios")
            found.append(rows[: count - 1].copy())
            rows[0], count = rows[count - 1], 1
    process.check_alive()
    found.append(rows[:count])
    return concat_rows(found, FOLIO_DTYPE)


# ---- which pages, and which frames -------------------------------------------------------------


def _present_spans(process: Process, start: int, end: int) -> Spans:
    """Return the spans of the pages that are present."""
    present = Category.PRESENT
    found = regions(process, start, end, present, 0, 0, present)
    return np.ascontiguousarray(found["start"]), np.ascontiguousarray(found["end"])


def _present(process: Process, start: int, end: int) -> Iterator[tuple[Any, Addresses]]:
    """Yield indexes of present pages in a span, and their frames."""
    spans = close_gaps(*_present_spans(process, start, end), _MAX_GAP_BYTES, _NO_BARRIERS)
    for starts, ends in _pieces(*spans):
        lengths = ((ends - starts) // np.uint64(PAGE_SIZE)).astype(np.int64)
        entries = np.zeros(int(lengths.sum()), np.uint64)
        kernel_folios.read_spans(process.pagemap, process.path, starts, ends, entries)
        first = ((starts - np.uint64(start)) // np.uint64(PAGE_SIZE)).astype(np.int64)
        before = np.cumsum(lengths) - lengths
        pages = np.arange(len(entries)) + np.repeat(first - before, lengths)
        there = (entries >> _PRESENT_BIT).astype(bool)
        pfns = frame_numbers(entries[there])
        if not pfns.all():
            raise hidden(process)
        yield pages[there], pfns


def _pieces(starts: Addresses, ends: Addresses) -> Iterator[Spans]:
    """Yield spans, a number of them at a time that comes to few pages; long ones are cut."""
    at, size = 0, _PIECE_PAGES * PAGE_SIZE
    reached = np.cumsum(ends - starts)
    while at < len(starts):
        before = int(reached[at - 1]) if at else 0
        last = int(np.searchsorted(reached, before + size, "right"))
        if last > at:
            yield starts[at:last], ends[at:last]
            at = last
            continue
        for low in range(int(starts[at]), int(ends[at]), size):
            high = min(low + size, int(ends[at]))
            yield np.array([low], np.uint64), np.array([high], np.uint64)
        at += 1


def hidden(process: Process) -> PermissionError:
    """Return the exception for frame numbers that the kernel does not show."""
    return PermissionError(
        errno.EPERM,
        f"{os.strerror(errno.EPERM)} (frame numbers are hidden: needs CAP_SYS_ADMIN when the "
        "PageMap is made)",
        f"{process.path}/pagemap",
    )


# ---- nodes -------------------------------------------------------------------------------------


def _number(process: Process) -> int | None:
    """Return what move_pages calls a process; None if that cannot be known."""
    if process.pid == os.getpid():
        return 0
    thread = process.where("maps").removesuffix("maps")
    if not thread:
        return process.pid
    # Its main thread has ended. In another pid namespace other numbers are its threads'.
    return None if is_foreign() else int(thread.strip("/").rpartition("/")[2])


def _check_still(process: Process) -> None:
    """Raise ProcessLookupError unless the pid was this process's all the time."""
    process.check_alive()
    try:
        # It is not given to another as long as this is there.
        os.stat(process.where("maps"), dir_fd=process.directory)
    except (FileNotFoundError, ProcessLookupError):
        raise process.gone() from None


def _fill_by_frames(process: Process, start: int, end: int, nodes: npt.NDArray[np.int16]) -> None:
    """Tell nodes by frame numbers."""
    ranges, file = node_ranges(), open_frames(FLAGS)
    for pages, pfns in _present(process, start, end):
        found, flags = np.empty(len(pfns), np.int16), np.empty(len(pfns), np.uint64)
        ranges.look_up(pfns, found)
        frames.read(file.fd, f"/proc/{FLAGS}", pfns, reading_order(pfns), flags)
        # As move_pages does: a zero page is nobody's.
        found[flags & int(KPF.ZERO_PAGE) != 0] = -1
        nodes[pages] = found
    process.check_alive()
