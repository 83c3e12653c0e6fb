"""Where the swapped memory of processes is, so that each place can be counted once.

A swapped page of private memory has a place in a swap area: type and offset. One of shared memory
has a place in its file, which the page tables of those that map it do not show.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._kernel import pagecache
from .._kernel.failures import is_refusal
from ..model.entry import PAGE_SIZE
from ..model.mapping import Mapping
from ..model.runs import Spans, State, edges_of, has_any, in_spans, union
from ..process.backing import Backings, kernel_tmpfs
from ..process.family import others, swaps_anything
from ..process.mappings import mappings
from ..process.namespaces import shows_all
from ..process.opening import is_tmpfs, look
from ..process.process import Process
from .frames import locations
from .states import state_runs
from .survey import RESOLVED

__all__ = ["Swapped", "count_swapped", "swapped_of"]

# A file: its device and inode, and the ipc namespace of a SysV segment. Its inode is its id, which
# other files on the kernel's own tmpfs may have, such as a segment of another namespace. A file of
# an overlay is that of the layer, which others may have mapped themselves.
File = tuple[int, int, str]
FilePages = dict[File, list[Spans]]


class Count(NamedTuple):
    """How much one process has in swap, in pages: its share of it, and what no other maps."""

    all: float
    share: float
    own: float


class Swapped(NamedTuple):
    """What one process has in swap."""

    # The swap type and offset of each swapped page of private memory.
    locations: npt.NDArray[np.uint64]
    # Swapped pages of files of shared memory.
    files: FilePages
    # How many pages of shared memory may be swapped or not.
    unknown: int


class Counted(NamedTuple):
    """What the processes of a group have in swap, in bytes."""

    # For each process: all, its share, what no other has, and what is unknown.
    rows: list[list[int]]
    # The sum, the distinct places, those that no process outside has, and what is unknown.
    total: list[int]
    # Whether all other processes could be looked at.
    complete: bool


def swapped_of(process: Process, locations: npt.NDArray[np.uint64]) -> Swapped:
    """Return what a process has in swap, given that of its private memory."""
    return Swapped(locations, *swapped_files(process))


def count_swapped(
    found: list[Swapped], group: list[Process], skipped: Collection[int] = ()
) -> Counted:
    """Count each place once; look for it in all other processes but those that are skipped."""
    private = [each.locations for each in found]
    files = [each.files for each in found]
    wanted = {file for pages in files for file in pages}
    distinct = np.unique(np.concatenate([*private, np.empty(0, np.uint64)]))
    found_outside, complete = _others(group, distinct, wanted, skipped)
    one, places, alone = count_locations(private, [own for own, _ in found_outside])
    other, pages, own = count_files(files, [mapped for _, mapped in found_outside])
    rows = []
    for a, b, each in zip(one, other, found, strict=True):
        sizes = a.all + b.all, a.share + b.share, a.own + b.own, each.unknown
        rows.append([int(size * PAGE_SIZE) for size in sizes])
    total = [sum(row[0] for row in rows), (places + pages) * PAGE_SIZE, (alone + own) * PAGE_SIZE]
    return Counted(rows, [*total, sum(row[3] for row in rows)], complete)


def _others(
    group: list[Process],
    places: npt.NDArray[np.uint64],
    wanted: set[File],
    skipped: Collection[int],
) -> tuple[list[tuple[npt.NDArray[np.uint64], FilePages]], bool]:
    """Return which of some places processes outside of the group have, or map of wanted files.

    Also whether that is all: not if a process that may have some cannot be seen or read, or has so
    many that they do not fit into memory.
    """
    found: list[tuple[npt.NDArray[np.uint64], FilePages]] = []
    if not len(places) and not wanted:
        return found, True
    complete = shows_all()
    for pid in others(group):
        if pid in skipped:
            complete = False
            continue
        try:
            swaps = len(places) > 0 and swaps_anything(pid)
            if swaps or wanted:
                process = Process(pid)
                own = locations(process) if swaps else places[:0]
                found.append(
                    (places[_numbers(places, own)], mapped_files(process, wanted) if wanted else {})
                )
        except ProcessLookupError:  # it has ended, or never had memory
            continue
        except (PermissionError, MemoryError):
            complete = False
    return found, complete


def swapped_files(process: Process) -> tuple[FilePages, int]:
    """Return which pages of files of shared memory, as a process maps them, are swapped.

    Also how many pages of it may be or not.
    """
    if not pagecache.swap_in_use():
        return {}, 0
    backings = Backings(process)
    chosen = [m for m in mappings(process) if m.device and backings.is_shmem(m) is not False]
    if not chosen:
        return {}, 0
    runs = state_runs(process, chosen, RESOLVED)
    unsure = runs[has_any(runs["state"], State.UNKNOWN)]
    runs = runs[has_any(runs["state"], State.SWAPPED_SHARED)]
    starts = np.array([mapping.start for mapping in chosen], np.uint64)
    found: FilePages = {}
    owners = np.searchsorted(starts, runs["start"], "right") - 1
    for number in np.unique(owners).tolist():
        mapping, own = chosen[number], runs[owners == number]
        found.setdefault(_file(backings, mapping), []).append(
            (_page(mapping, own["start"]), _page(mapping, own["end"]))
        )
    return found, int((unsure["end"] - unsure["start"]).sum()) // PAGE_SIZE


def _file(backings: Backings, mapping: Mapping) -> File:
    """Return which file is behind a mapping."""
    if mapping.device == kernel_tmpfs():
        is_segment = mapping.path.startswith("/SYSV")
        namespace = _ipc_namespace(backings.files.process) if is_segment else ""
        return mapping.device, mapping.inode, namespace
    if backings.is_shmem(mapping) is None:
        layer = backings.files.layer(mapping, lambda file, _: is_tmpfs(file))
        if layer is not None:
            about = look(layer)
            return about.device, about.inode, ""
    return mapping.device, mapping.inode, ""


def _ipc_namespace(process: Process) -> str:
    """Return the name of a process's ipc namespace; raise PermissionError if it is not told."""
    try:
        return os.fsdecode(process.readlink("ns/ipc"))
    except FileNotFoundError:  # a kernel without such namespaces, if the process is still there
        process.check_alive()
        return ""
    except OSError as error:
        if not is_refusal(error):
            raise
        where = f"/proc/{process.pid}/ns/ipc"
        raise PermissionError(error.errno, os.strerror(error.errno or 0), where) from None


def _page(mapping: Mapping, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the pages of a mapping's file at some addresses."""
    behind = addresses - np.uint64(mapping.start) + np.uint64(mapping.offset)
    return behind // np.uint64(PAGE_SIZE)


def mapped_files(process: Process, wanted: Collection[File]) -> FilePages:
    """Return which pages of some files a process maps, swapped or not; only of those it maps."""
    found: FilePages = {}
    backings = Backings(process)
    inodes = {inode for _, inode, _ in wanted}
    for mapping in mappings(process):
        # A file of an overlay has its layer's inode.
        if mapping.inode in inodes and (file := _file(backings, mapping)) in wanted:
            ends = np.array([mapping.start, mapping.end], np.uint64)
            first, end = _page(mapping, ends)
            found.setdefault(file, []).append((np.array([first]), np.array([end])))
    return found


def count_locations(
    group: Sequence[npt.NDArray[np.uint64]], others: Sequence[npt.NDArray[np.uint64]]
) -> tuple[list[Count], int, int]:
    """Count the places in swap areas of each process of a group.

    Returns
    -------
    tuple
        A Count for each; how many places there are; and how many of them no other process has.
    """
    places, refs = np.unique(np.concatenate([*group, np.empty(0, np.uint64)]), return_counts=True)
    outside = np.zeros(len(places), np.int64)
    for found in others:
        outside += np.bincount(_numbers(places, found), minlength=len(places))
    counts = []
    for found in group:
        own, times = np.unique(found, return_counts=True)
        total = (refs + outside)[np.searchsorted(places, own)]
        counts.append(Count(len(found), float((times / total).sum()), int((times == total).sum())))
    return counts, len(places), int((outside == 0).sum())


def _numbers(places: npt.NDArray[np.uint64], found: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Return the number of each found place that is among some, which are sorted."""
    at = np.searchsorted(places, found)
    inside = at < len(places)
    at = at[inside]
    numbers: npt.NDArray[np.intp] = at[places[at] == found[inside]]
    return numbers


def count_files(
    group: Sequence[FilePages], others: Sequence[FilePages]
) -> tuple[list[Count], int, int]:
    """Do what `count_locations` does, for swapped pages of files."""
    counts = [Count(0, 0, 0)] * len(group)
    distinct = unique = 0
    holders_outside = by_file(others)
    for file, holders_inside in by_file(group).items():
        mine = list(holders_inside.values())
        theirs = list(holders_outside.get(file, {}).values())
        # Those of others, too: they may map a part of what is swapped here.
        edges = edges_of(*(edge for each in (*mine, *theirs) for span in each for edge in span))
        sizes = np.diff(edges).astype(np.int64)
        has = np.array([_covers(edges, ranges) for ranges in mine])
        outside = sum(
            (_covers(edges, ranges).astype(np.int64) for ranges in theirs),
            np.zeros(len(sizes), np.int64),
        )
        holders = has.sum(axis=0) + outside
        distinct += int(sizes[has.any(axis=0)].sum())
        unique += int(sizes[has.any(axis=0) & (outside == 0)].sum())
        for number, own in zip(holders_inside, has, strict=True):
            mapped = sum(int((end - start).sum()) for start, end in holders_inside[number])
            share = float((sizes[own] / holders[own]).sum())
            alone = int(sizes[own & (holders == 1)].sum())
            before = counts[number]
            counts[number] = Count(before.all + mapped, before.share + share, before.own + alone)
    return counts, distinct, unique


def by_file(processes: Sequence[FilePages]) -> dict[File, dict[int, list[Spans]]]:
    """Return, for each file, the ranges of those processes that have any of it, by their number."""
    found: dict[File, dict[int, list[Spans]]] = {}
    for number, pages in enumerate(processes):
        for file, ranges in pages.items():
            found.setdefault(file, {})[number] = ranges
    return found


def _covers(edges: npt.NDArray[np.uint64], ranges: list[Spans]) -> npt.NDArray[np.bool_]:
    """Return which of the stretches between edges are in any of some ranges."""
    if not ranges:
        return np.zeros(len(edges) - 1, bool)
    starts = np.concatenate([start for start, _ in ranges])
    ends = np.concatenate([end for _, end in ranges])
    return in_spans(edges[:-1], *union(starts, ends))
