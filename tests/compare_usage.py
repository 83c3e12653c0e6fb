"""The comparison of usage() with smaps, and of usage_of() with the sums of usage()."""

import functools
import os
import re
from typing import NamedTuple

import numpy as np

import fastpagemap as fpm
import oracle
import oracle_files
from compare import while_still
from features import keeps_soft_dirty
from linux import PAGE

#: Some programs reserve terabytes of addresses; reading all their entries would take too long.
LARGEST = 64 << 30


class Moment(NamedTuple):
    """All that the kernel says of a process, to see which of its mappings hold still."""

    lines: list
    sums: dict
    words: dict
    tasks: list

    @classmethod
    def of(cls, pid):
        lines = [line for line in oracle.maps(pid) if line.start < 1 << 63]
        sums = oracle.smaps(pid)
        lines = [line for line in lines if line.end - line.start <= LARGEST]
        words = {line.start: oracle.many_words(line.start, line.end, pid) for line in lines}
        return cls(lines, sums, words, tasks_of(pid))


def tasks_of(pid):
    """Each thread, whether it runs, and how often it has stopped to run.

    Who ran between two looks may have changed its memory and changed it back.
    """
    found = []
    for task in sorted(os.listdir(f"/proc/{pid}/task")):
        with open(f"/proc/{pid}/task/{task}/status", "rb") as file:
            lines = [
                line for line in file if re.match(b"State|(non)?voluntary_ctxt_switches", line)
            ]
        found.append((task, lines))
    return found


def usage_rows(pid):
    """usage() of all mappings, by their addresses."""
    with fpm.PageMap(pid) as pm:
        table = pm.usage()
    return {(int(row["start"]), int(row["end"])): row for row in table}


def check_usage(pid, zero_frames, *, alone=False):
    """Compare each mapping that held still with smaps; return how many did.

    `zero_frames`: the frames that smaps counts nowhere, the zero page's and the huge zero page's.
    `alone`: whether nobody else maps what it maps; see victim.parted(). What others map is
    exclusive or not as they come and go; and of a huge page that they map in part, each entry has
    the count of one page, and smaps has each page's own.
    """
    before = Moment.of(pid)
    in_files = {line: oracle_files.is_shared_memory(line, pid) for line in before.lines}
    rows, after = usage_rows(pid), Moment.of(pid)
    if before.tasks != after.tasks or "R (running)" in str(after.tasks):
        return 0
    still = 0
    for line in before.lines:
        span = line.start, line.end
        same = line in after.lines and before.words[line.start] == after.words[line.start]
        if same and span in rows and before.sums.get(span) == after.sums.get(span):
            entries = np.frombuffer(before.words[line.start], np.uint64)
            _check_row(rows[span], before.sums[span], entries, zero_frames, alone)
            _check_swap_of_row(rows[span], before.sums[span], in_files[line])
            still += 1
    return still


def _check_row(row, sums, entries, zero_frames, alone):
    """Rss less the zero page, Anonymous, and what is mapped by this process alone."""
    present = entries[entries >> 63 == 1]
    frames = present & np.uint64((1 << 55) - 1)
    zeros = present[np.isin(frames, np.array(sorted(zero_frames), np.uint64))]
    hugetlb = sums.get("Private_Hugetlb", 0) + sums.get("Shared_Hugetlb", 0)
    assert row["size"] == sums["Size"] == row["end"] - row["start"]
    assert row["present"] == sums["Rss"] + hugetlb + len(zeros) * PAGE
    if "zero" in row.dtype.names:
        assert row["zero"] == len(zeros) * PAGE
    not_file = row["present"] - row["shared"] - len(zeros) * PAGE
    if not hugetlb:  # which smaps counts neither here nor there
        assert not_file == sums["Anonymous"]
    if alone and not hugetlb:
        assert row["exclusive"] == sums["Private_Clean"] + sums["Private_Dirty"]
    if keeps_soft_dirty():
        assert row["soft_dirty"] == np.sum(entries >> 55 & 1) * PAGE


def _check_swap_of_row(row, sums, shared_memory):
    """What is swapped, and how much of it nobody could know."""
    if shared_memory:
        assert row["swapped_shared"] <= row["swapped"] <= sums["Swap"]
        assert sums["Swap"] <= row["swapped"] + row["unknown"]
    else:
        assert (row["swapped"], row["swapped_shared"], row["unknown"]) == (sums["Swap"], 0, 0)


# Sums of processes.


def sums(pid, fields=None):
    """The sums of usage(), column by column."""
    with fpm.PageMap(pid) as pm:
        table = pm.usage(fields=fields)
    names = [name for name in table.dtype.names if name not in ("start", "end")]
    return {name: int(table[name].sum()) for name in names}


def as_dict(row):
    """A row by the names of its columns."""
    return dict(zip(row.dtype.names, row.tolist(), strict=True))


def check_sums(pids, fields=None):
    """Hold the rows against usage(), while nothing changes."""

    def wanted():
        return [{"pid": pid, **sums(pid, fields)} for pid in pids]

    expected, table = while_still(lambda: fpm.usage_of(pids, fields=fields), wanted)
    assert [as_dict(row) for row in table] == expected


# Frames.


def frames(pids):
    """Where each page of some processes is: entries, without what changes as others come and go."""
    kept = ~np.uint64(1 << 56 | 1 << 55)  # exclusive, soft-dirty
    return [
        (np.frombuffer(oracle.many_words(line.start, line.end, pid), np.uint64) & kept).tobytes()
        for pid in pids
        for line in oracle.maps(pid)
        if line.start < 1 << 63
    ]


def while_frames_stay(test):
    """Have a test of a family that waits look again where the kernel has moved pages meanwhile.

    Who reads one process after the other, as all do, meets a page that is moved twice, or never.
    """

    @functools.wraps(test)
    def look(family, **others):
        while_still(lambda: test(family, **others), lambda: frames(family.pids))

    return look
