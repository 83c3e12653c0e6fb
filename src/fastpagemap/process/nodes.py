"""Which NUMA node a page frame is on, by what /sys and /proc/zoneinfo say of its memory."""

import errno
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..model.entry import PAGE_SIZE
from ..model.errors import UnsupportedError

__all__ = ["NodeRanges", "node_ranges"]

_SYSTEM = "/sys/devices/system"
_NODES = f"{_SYSTEM}/node"
_BLOCKS = f"{_SYSTEM}/memory"
_ZONEINFO = "/proc/zoneinfo"
_ZONE = re.compile(r"^Node (\d+), zone", re.MULTILINE)
# Frames looked up at a time: what is needed for that stays in the processor's cache.
_BATCH_FRAMES = 1 << 14

# A range of frames, and its node.
Range = tuple[int, int, int]


class NodeRanges(NamedTuple):
    """Ranges of frames, sorted and disjoint, and the node of each."""

    starts: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.uint64]
    nodes: npt.NDArray[np.int16]

    def look_up(self, pfns: npt.NDArray[np.uint64], out: npt.NDArray[np.int16]) -> None:
        """Put the node of each frame into `out`; -1 for a frame in no range. Both are flat."""
        for first in range(0, len(pfns), _BATCH_FRAMES):
            wanted = pfns[first : first + _BATCH_FRAMES]
            at = np.searchsorted(self.starts, wanted, "right") - 1
            found = np.where(wanted < self.ends[at], self.nodes[at], -1)
            out[first : first + _BATCH_FRAMES] = np.where(at < 0, -1, found)


def node_ranges() -> NodeRanges:
    """Find out which frames are on which node, now: memory can be plugged in and pulled out.

    Raises
    ------
    UnsupportedError
        /sys is not mounted, or does not show it, as in some sandboxes.
    """
    names = _listed(_NODES)
    blocks = _listed(_BLOCKS)
    if names is None and blocks is None and _listed(_SYSTEM) is None:
        raise UnsupportedError(
            errno.EOPNOTSUPP, "memory nodes cannot be found out: /sys is not mounted here", _NODES
        )
    nodes = {} if names is None else dict(_blocks_of_nodes(names))
    if names is None:  # a kernel without CONFIG_NUMA
        nodes = {0: _numbers(blocks or (), "memory")}
    found = list(_told_apart(nodes)) if any(nodes.values()) else list(_by_zones(_zones()))
    # searchsorted must find something to look at; the frame number is none.
    return _joined(found or [((1 << 64) - 1, (1 << 64) - 1, -1)])


def _listed(path: str) -> list[str] | None:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _numbers(names: Iterable[str], kind: str) -> set[int]:
    """Return the numbers of those names that are a kind and a number: memory12."""
    found = (re.fullmatch(rf"{kind}(\d+)", name) for name in names)
    return {int(match[1]) for match in found if match}


def _blocks_of_nodes(names: Iterable[str]) -> Iterator[tuple[int, set[int]]]:
    """Yield each node and its memory blocks."""
    for node in sorted(_numbers(names, "node")):
        yield node, _numbers(_listed(f"{_NODES}/node{node}") or (), "memory")


def _told_apart(nodes: dict[int, set[int]]) -> Iterator[Range]:
    """Yield the ranges of memory blocks; of one that several nodes have, by its zones."""
    with open(f"{_BLOCKS}/block_size_bytes") as file:
        size = int(file.read(), 16) // PAGE_SIZE
    seen: set[int] = set()
    shared: set[int] = set()
    for blocks in nodes.values():
        shared |= seen & blocks
        seen |= blocks
    for node, blocks in nodes.items():
        yield from ((block * size, (block + 1) * size, node) for block in blocks - shared)
    if shared:
        zones = list(_by_zones(_zones()))
        for block in shared:
            start, end = block * size, (block + 1) * size
            cut = ((max(start, low), min(end, high), node) for low, high, node in zones)
            yield from (part for part in cut if part[0] < part[1])


def _zones() -> list[Range]:
    """Return the span of each zone, holes included; of different nodes they may overlap."""
    try:
        with open(_ZONEINFO) as file:
            text = file.read()
    except FileNotFoundError:
        raise UnsupportedError(
            errno.EOPNOTSUPP, "memory nodes cannot be found out: /proc has no zoneinfo", _ZONEINFO
        ) from None
    heads = list(_ZONE.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    zones = []
    for head, end in zip(heads, ends, strict=True):
        spanned = re.search(r"^ +spanned +(\d+)", text[head.end() : end], re.MULTILINE)
        start = re.search(r"^ +start_pfn: +(\d+)", text[head.end() : end], re.MULTILINE)
        if spanned and start and int(spanned[1]):
            zones.append((int(start[1]), int(start[1]) + int(spanned[1]), int(head[1])))
    return zones


def _by_zones(zones: list[Range]) -> Iterator[Range]:
    """Yield the parts of zones that are of one node for sure."""
    edges = sorted({edge for start, end, _ in zones for edge in (start, end)})
    for low, high in itertools.pairwise(edges):
        nodes = {node for start, end, node in zones if start <= low and high <= end}
        if len(nodes) == 1:
            yield low, high, nodes.pop()


def _joined(ranges: list[Range]) -> NodeRanges:
    """Return ranges, sorted, with neighbours of one node joined: so there are few."""
    joined: list[Range] = []
    for start, end, node in sorted(ranges):
        if joined and joined[-1][1:] == (start, node):
            joined[-1] = (joined[-1][0], end, node)
        else:
            joined.append((start, end, node))
    starts, ends, nodes = zip(*joined, strict=True)
    return NodeRanges(
        np.array(starts, np.uint64), np.array(ends, np.uint64), np.array(nodes, np.int16)
    )
