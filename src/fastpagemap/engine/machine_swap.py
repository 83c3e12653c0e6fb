"""Where the swap of the whole machine is: in processes, and in files that none maps."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .._kernel import pagecache
from ..model.entry import PAGE_SIZE, page_count
from ..model.errors import UnsupportedError
from ..model.runs import Spans
from ..process.family import swaps_anything
from ..process.held_files import Found, Tmpfs, deleted_files, files_on, open_found, segments
from ..process.leases import Leases
from ..process.opening import pass_over
from ..process.process import Process
from .frames import locations
from .shmem_runs import search_runs
from .swap_places import File, Swapped, by_file, count_files, count_locations, swapped_of

__all__ = ["Counters", "Machine", "NamedFile", "OfProcess", "OnTmpfs", "Unmapped", "counted"]
__all__ += ["counters", "of_file", "of_process", "of_tmpfs"]

_MEMINFO = "/proc/meminfo"


class Counters(NamedTuple):
    """What /proc/meminfo has of swap, in bytes. `cached`: of the copies in RAM (SwapCached)."""

    total: int
    free: int
    cached: int


class NamedFile(NamedTuple):
    """A file of shared memory, and its swapped pages."""

    file: File
    path: str
    ranges: Spans


class OnTmpfs(NamedTuple):
    """A file on a mounted tmpfs; `swapped`: bytes of it in swap, None if that is not known."""

    path: str
    device: int
    inode: int
    swapped: int | None


class OfProcess(NamedTuple):
    """What one process has in swap, and the files without a path that its descriptors hold."""

    pid: int
    name: str
    swapped: Swapped
    held: list[NamedFile]


@dataclasses.dataclass(frozen=True)
class Unmapped:
    """Swapped bytes of a file that no process maps there; `pid`: of who holds it open, or 0."""

    path: str
    swapped: int
    pid: int


class Machine(NamedTuple):
    """Where the swap of the machine is, in bytes.

    `rows` has for each process: its private memory, all that it maps of shared memory, its share
    of both, and what no other process has.
    """

    rows: list[tuple[int, int, int, int]]
    unmapped: list[Unmapped]
    # Each place once: in processes, and in what none of them maps.
    in_processes: int
    in_unmapped: int


def counters() -> Counters:
    """Return what /proc/meminfo has of swap.

    Raises
    ------
    UnsupportedError
        This /proc has no meminfo.
    """
    try:
        with open(_MEMINFO, "rb") as file:
            sizes = dict(line.split(b":", 1) for line in file if line.startswith(b"Swap"))
        names = (b"SwapTotal", b"SwapFree", b"SwapCached")
        return Counters(*(int(sizes[name].split()[0]) * 1024 for name in names))
    except (FileNotFoundError, PermissionError, KeyError):
        raise UnsupportedError(
            errno.EOPNOTSUPP, "how much swap is used is in meminfo, which this /proc lacks"
        ) from None


def of_process(pid: int) -> OfProcess:
    """Return what a process has in swap; its page tables are read only where some of it may be."""
    process = Process(pid)
    own = np.empty(0, np.uint64)
    if swaps_anything(pid):
        own = np.unique(locations(process))
    swapped = swapped_of(process, own)
    held = {named.file: named for named in map(_named, deleted_files(process)) if named}
    return OfProcess(pid, process.name(), swapped, list(held.values()))


def of_tmpfs(tmpfs: Tmpfs, leases: Leases, most: int) -> tuple[list[OnTmpfs], bool]:
    """Return the files on a tmpfs that have something in swap, or may have.

    None of them is waited for. False if there are more than `most` names.
    """
    files: list[OnTmpfs] = []
    for found in files_on(tmpfs, leases, most):
        if found is None:
            return files, False
        swapped = _swapped(found)
        if swapped != 0:
            files.append(OnTmpfs(found.path, found.about.device, found.about.inode, swapped))
    return files, True


def of_file(file: OnTmpfs, leases: Leases) -> NamedFile | None:
    """Return the swapped pages of a file; None if it has none by now.

    That waits for who has locked the file, such as while it writes to it.
    """
    found = open_found(file.path, file.device, file.inode, leases)
    return None if found is None else _named(found)


def _swapped(found: Found) -> int | None:
    """Return how many bytes of a file are in swap; None if that is not told without its pages."""
    if not found.about.size:
        return 0
    try:
        pages = page_count(found.about.size)
        return pagecache.evicted(found.file.fd, found.path, 0, pages) * PAGE_SIZE
    except OSError as error:
        pass_over(error)
        return None


def _named(found: Found) -> NamedFile | None:
    """Return the swapped pages of a file; None if it has none, or the kernel does not tell."""
    if _swapped(found) == 0:
        return None
    try:
        ranges = search_runs(found.file.fd, found.path, 0, page_count(found.about.size))
    except OSError as error:
        pass_over(error)
        return None
    if ranges is None or not len(ranges[0]):
        return None
    return NamedFile((found.about.device, found.about.inode, ""), found.path, ranges)


def counted(found: Sequence[OfProcess], tmpfs: Iterable[NamedFile]) -> Machine:
    """Count each place once, over all processes and the files on each tmpfs."""
    private = [each.swapped.locations for each in found]
    files = [each.swapped.files for each in found]
    one, places, _ = count_locations(private, [])
    other, pages, _ = count_files(files, [])
    rows = []
    for a, b in zip(one, other, strict=True):
        sizes = (a.all, b.all, a.share + b.share, a.own + b.own)
        all_own, mapped, share, alone = (int(size * PAGE_SIZE) for size in sizes)
        rows.append((all_own, mapped, share, alone))
    named = {each.file: (each, 0) for each in tmpfs}
    for process in found:
        for each in process.held:
            named.setdefault(each.file, (each, process.pid))
    unmapped = []
    holders = by_file(files)
    for each, pid in named.values():
        size = _outside(each, list(holders.get(each.file, {}).values()))
        if size:
            unmapped.append(Unmapped(each.path, size, pid))
    unmapped += [
        Unmapped(f"SysV segment {segment.number}", segment.swapped, 0)
        for segment in segments()
        if segment.swapped and not segment.attached
    ]
    return Machine(
        rows, unmapped, (places + pages) * PAGE_SIZE, sum(each.swapped for each in unmapped)
    )


def _outside(named: NamedFile, holders: list[list[Spans]]) -> int:
    """Return the swapped bytes of a file that none of those who have some of it maps there."""
    mapped = [{named.file: ranges} for ranges in holders]
    whole = {named.file: [named.ranges]}
    _, inside, _ = count_files(mapped, [])
    _, distinct, _ = count_files([*mapped, whole], [])
    return (distinct - inside) * PAGE_SIZE
