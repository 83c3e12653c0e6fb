"""What fastpagemap says of memory by every way to ask it, and whether it is true.

answers() is what one reader says, and fails where it contradicts itself; true() holds it against
the kernel's own account of the same process, read by root.
"""

import io
import itertools
import os
from typing import NamedTuple

import _core
import _torture
import numpy as np

import fastpagemap as fpm
import oracle
import oracle_files
from compare import Truth, by_every_way, by_page, check_runs
from fastpagemap import State
from linux import PAGE
from oracle_files import UNTOLD

#: The masks, and the bit of a state that says the same.
MASKS = {
    "present": State.PRESENT,
    "swapped": State.SWAPPED,
    "unknown": State.UNKNOWN,
    "shared": State.SHARED,
    "exclusive": State.EXCLUSIVE,
}
#: Columns of usage() that are sums of a mask.
SUMS = ("present", "shared", "exclusive")
_STATE_SUMS = {"huge": State.HUGE, "zero": State.ZERO}


class Said(NamedTuple):
    """What one reader says of a span, page by page, and in sums."""

    masks: dict  # name to a list of bools
    states: list
    usage: list  # (start, end, swapped, unknown) of each mapping
    residency: list  # rows of what was asked
    guard: list


def allocations(chance, start, end):
    """Random addresses and sizes in a span and around it, where nothing is."""
    found = [(start, end - start), (start - PAGE, end - start + 2 * PAGE), (end - 1, 1)]
    for _ in range(30):
        size = chance.choice([0, 1, chance.randrange(200), chance.randrange(9000), 50 * PAGE])
        address = chance.randrange(start - 3 * PAGE, end + 2 * PAGE)
        found.append((address, min(size, end + 3 * PAGE - address)))
    return found


def answers(pid, start, end, asked, parts):
    """Ask everything; assert that the answers agree with each other. Picklable.

    `asked` are allocations, `parts` are spans within that are asked by themselves.
    """
    with fpm.PageMap(pid) as pm:
        pages = pm.read(start, end)
        masks = {name: by_every_way(pm, pages, name) for name in MASKS}
        mappings = [m for m in pm.mappings() if m.start < end and start < m.end]
        runs = pm.states(mappings)
        usage = pm.usage(mappings)
        residency = pm.residency(*zip(*asked, strict=True))
        _parts_agree(pm, start, masks, parts)
        _core.agrees(pages, masks, pid)
        _regions_agree(pm, start, end, masks)
        _snapshot_agrees(pm, mappings, runs, usage)
        guard = pages.guard.tolist()
    check_runs(runs, mappings)
    states = by_page(runs, start, end)
    for name, state in MASKS.items():
        assert [bool(one & state) for one in states] == masks[name], f"states and {name}"
    _usage_agrees(start, end, mappings, usage, masks, states)
    rows = [
        (int(row["start"]), int(row["end"]), int(row["swapped"]), int(row["unknown"]))
        for row in usage
    ]
    return Said(masks, states, rows, residency.tolist(), guard)


def _parts_agree(pm, start, masks, parts):
    """A part asked by itself says what it says within the whole."""
    for low, high in parts:
        pages = slice((low - start) // PAGE, (high - start) // PAGE)
        for name in MASKS:
            assert getattr(pm, name)(low, high).tolist() == masks[name][pages], f"part of {name}"


def _regions_agree(pm, start, end, masks):
    """regions() of one category is the mask of that name."""
    for name in ("present",):
        category = fpm.Category[name.upper()]
        regions = pm.regions(start, end, mask=category, returns=category)
        told = [False] * ((end - start) // PAGE)
        for low, high, _ in regions.tolist():
            for address in range(low, high, PAGE):
                told[(address - start) // PAGE] = True
        assert told == masks[name], f"regions and {name}"


def _snapshot_agrees(pm, mappings, runs, usage):
    """A snapshot that was saved and loaded has the same runs and sums of these mappings."""
    if _torture.SANITIZED:
        return
    snapshot = pm.snapshot()
    file = io.BytesIO()
    snapshot.save(file)
    file.seek(0)
    loaded = fpm.Snapshot.load(file)
    assert loaded.states.tolist() == snapshot.states.tolist(), "runs of a loaded snapshot"
    assert loaded.mappings == snapshot.mappings, "mappings of a loaded snapshot"
    spans = {(m.start, m.end) for m in mappings}
    starts, ends = (np.array([m[i] for m in mappings], np.uint64) for i in (0, 1))
    at = np.searchsorted(starts, loaded.states["start"], side="right") - 1
    inside = (at >= 0) & (loaded.states["start"] < ends[at])
    assert loaded.states[inside].tolist() == runs.tolist(), "snapshot and states"
    rows = [row for row in loaded.usage() if (row["start"], row["end"]) in spans]
    for row, other in zip(rows, usage, strict=True):
        for name in (*SUMS, *_STATE_SUMS):
            if name in row.dtype.names and name in other.dtype.names:
                assert row[name] == other[name], f"{name} of snapshot and usage"


def _usage_agrees(start, end, mappings, usage, masks, states):
    """Each row has the sums of the masks; what masks do not know, the sum may."""
    for mapping, row in zip(mappings, usage, strict=True):
        if not (start <= mapping.start and mapping.end <= end):
            continue
        part = slice((mapping.start - start) // PAGE, (mapping.end - start) // PAGE)
        for name in SUMS:
            assert row[name] == sum(masks[name][part]) * PAGE, f"usage of {name}"
        for name, state in _STATE_SUMS.items():
            if name in usage.dtype.names:
                found = sum(bool(one & state) for one in states[part]) * PAGE
                # the huge zero page is huge to a scan, and counted as zero alone
                zero = sum(bool(one & State.ZERO) for one in states[part]) * PAGE
                assert found - zero <= row[name] <= found, f"usage of {name}"
        swapped, unknown = (sum(masks[name][part]) * PAGE for name in ("swapped", "unknown"))
        assert swapped <= row["swapped"] <= swapped + unknown, "usage of swapped"
        assert row["swapped"] + row["unknown"] <= swapped + unknown, "usage of unknown"


class Rights(NamedTuple):
    """What a reader can see of its own or another's memory."""

    types: bool  # of swap entries
    cachestat: bool
    all: bool  # nothing is unknown to it


def true(said, truth, start, rights, copies):
    """Assert that what was said of a span is so; `copies`: pages with a copy in RAM."""
    rows = zip(truth.words, truth.in_files, truth.meanings(), strict=True)
    for page, (word, in_file, meaning) in enumerate(rows):
        for name in ("present", "shared", "exclusive"):
            _same(said.masks[name][page], getattr(meaning, name), name, page)
        _same(said.guard[page], oracle.decode(word).guard, "guard", page)
        _same(bool(said.states[page] & State.SOFT_DIRTY), meaning.soft_dirty, "soft-dirty", page)
        told = said.masks["swapped"][page], said.masks["unknown"][page]
        assert told in _allowed(word, meaning, in_file, rights, page in copies), (page, told)
    _sums_are_true(said, truth, start)


def _same(one, other, name, page):
    assert one == other, f"{name} of page {page} is {one}"


def _allowed(word, meaning, in_file, rights, copy):
    """What may be told of a page: pairs of swapped and unknown."""
    yes, no, unknown = (True, False), (False, False), (False, True)
    entry = oracle.decode(word)
    if meaning.present or (meaning.swapped and (rights.types or entry.guard)):
        return [yes if meaning.swapped else no]
    if entry.swapped and not entry.guard and not rights.types:  # a marker looks like swap
        return [yes] if meaning.swapped else [yes, no, unknown]
    # markers hide what the file has from a private mapping alone: see oracle_files.in_swap()
    if in_file is None:
        return [no]
    if in_file is UNTOLD:
        return [yes, no, unknown]
    allowed = [yes if in_file else no]
    if in_file and copy and not rights.cachestat:
        allowed.append(no)
    return allowed if rights.all else [*allowed, unknown]


def _sums_are_true(said, truth, start):
    """The true sum of each mapping lies between what was told and what may be beside it."""
    end = start + len(truth.words) * PAGE
    for low, high, swapped, unknown in said.usage:
        if low < start or end < high:
            continue
        part = slice((low - start) // PAGE, (high - start) // PAGE)
        if UNTOLD in truth.in_files[part] or _has_markers(truth.words[part]):
            continue
        real = sum(map(_is_swapped, truth.words[part], truth.in_files[part])) * PAGE
        if any(said.masks["unknown"][part]) or unknown:
            assert swapped <= real <= swapped + unknown, f"sum of {low:#x}"


def _is_swapped(word, in_file):
    return oracle.meaning(word).swapped or (in_file is True and not word >> 62)


def _has_markers(words):
    return any(oracle.decode(w).swapped and not oracle.meaning(w).swapped for w in words)


def residency_is_true(said, asked, start):
    """Each row has the bytes of the pages that the masks name."""
    columns = ("present", "swapped", "shared", "exclusive")
    sums = {name: _bytes_below(said.masks[name]) for name in columns}
    for (address, size), row in zip(asked, said.residency, strict=True):
        for name, value in zip(columns, row, strict=False):
            below = sums[name]
            wanted = below(address + size - start) - below(address - start)
            assert value == wanted, f"residency: {name} of {size} bytes at {address:#x}"


def _bytes_below(mask):
    """Return a function: the bytes of pages in a mask below an offset from its start."""
    sums = list(itertools.accumulate(mask, initial=0))

    def below(offset):
        offset = min(max(offset, 0), len(mask) * PAGE)
        page, rest = divmod(offset, PAGE)
        return sums[page] * PAGE + (rest * mask[page] if rest else 0)

    return below


def copies_in_ram(start, end, pid="self"):
    """The pages of shared memory that are not mapped and have a copy in RAM (root)."""
    found = set()
    for line in oracle.maps(pid):
        if line.start >= end or line.end <= start or not oracle_files.is_shared_memory(line, pid):
            continue
        fd = oracle_files.open_mapping(line.start, line.end, pid)
        try:
            for address in range(max(start, line.start), min(end, line.end), PAGE):
                if oracle_files.is_incore(fd, (line.offset + address - line.start) // PAGE):
                    found.add((address - start) // PAGE)
        finally:
            os.close(fd)
    return found


__all__ = ["Rights", "Said", "Truth", "allocations", "answers", "copies_in_ram", "true"]
