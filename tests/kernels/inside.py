"""What runs in the virtual machine: a look at its kernel, then the tests.

Standard output is the log. The arguments: which tests ("usual", "quick" or "whole"), and the file
for the answer, a line of JSON.
"""

import ctypes
import fcntl
import json
import os
import re
import struct
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

import linux  # noqa: E402
import memory  # noqa: E402
import needs  # noqa: E402
import oracle  # noqa: E402
import uffd  # noqa: E402

# What is left out, files by their names and others by the beginnings of theirs, and why.
LEFT_OUT = {
    "test_cli*.py": "how answers are drawn and errors worded",
    "test_watch*.py": "what a terminal shows",
    "test_notebooks.py": "what a notebook shows",
    "test_entry.py": "words are decoded, wherever they come from",
    "test_arguments.py": "refused before the kernel is asked",
    "test_span.py": "of buffers, not of pages",
    "test_core*.py": "the same loops, in a module that has to be compiled",
    "test_memray*.py": "another program's files",
    "test_profiles.py": "how files are written",
    "test_postgres.py": "a server of a gigabyte: its memory is of kinds that others test",
    "test_usage.py::test_every_kind_in_swap[swapfile": "after zram the same; each starts a Python",
    "test_properties.py::test_this_process_as_nobody": "slow; others are nobody, too",
}
# What is enough to see whether a kernel is understood: each question once to each kind of memory.
QUICK = [
    "test_capabilities.py",
    "test_soft_dirty.py",
    "test_regions.py",
    "test_walk.py",
    "test_pagemap.py::test_every_kind",
    "test_shmem.py::test_truth_table",
    "test_residency.py::test_of_every_kind",
    "test_states.py::test_every_kind",
    "test_states.py::test_soft_dirty",
    "test_frames.py::test_any_order_and_number",
    "test_mapcounts.py::test_huge_pages_and_parts_of_them",
    "test_nodes.py",
    "test_folios.py::test_kinds",
    "test_zero.py::test_huge_pages_and_the_huge_zero_page",
    "test_cached.py::test_pages_of_a_file_on_disk",
    "test_group.py::test_mapped_three_times",
    "test_accesses.py::test_exactly_what_was_accessed",
    "test_tracking.py::test_exactly_what_was_written",
    "test_tracking_closed.py::test_the_memory_is_left_as_it_was",
]
EXAMPLES = 5

# struct pm_scan_arg and struct procmap_query of linux/fs.h: 96 and 104 bytes, the first is the size
PAGEMAP_SCAN = 3 << 30 | 96 << 16 | ord("f") << 8 | 16
CATEGORIES = {7: "SOFT_DIRTY", 8: "GUARD", 9: "ACCESSED"}  # those that came later, by their bits
PROCMAP_QUERY = 3 << 30 | 104 << 16 | ord("f") << 8 | 17


def look():
    """What this kernel has; every answer tried out, none read from a version or a configuration."""
    return {
        "release": os.uname().release,
        "page": f"{linux.PAGE >> 10} KiB",
        "soft-dirty": keeps_soft_dirty(),
        "SCAN": knows_ioctl("pagemap", PAGEMAP_SCAN, 96),
        "and categories": ", ".join(name for bit, name in CATEGORIES.items() if knows(bit)),
        "QUERY": knows_ioctl("maps", PROCMAP_QUERY, 104),
        "cachestat": has_cachestat(),
        "guard bit": shows_guards(),
        "WP_ASYNC": protects_asynchronously(),
    }


def keeps_soft_dirty():
    """A page written has the bit, after it was cleared no more, and written again once more."""

    def bit():
        return oracle.decode(oracle.words(made.start, made.end)[0]).soft_dirty

    with memory.touched(1) as made:
        seen = [bit()]
        linux.write_text("/proc/self/clear_refs", "4")
        seen.append(bit())
        made.write()
        seen.append(bit())
    return seen == [True, False, True]


def knows_ioctl(name, request, size):
    """Ask with a structure that says nothing but its size, of address 0: EINVAL will do, too."""
    argument = size.to_bytes(8, sys.byteorder).ljust(size, b"\0")
    with open(f"/proc/self/{name}", "rb") as file:
        try:
            fcntl.ioctl(file, request, argument)
        except OSError as error:
            return error.errno != 25  # ENOTTY
    return True


def knows(bit):
    """Ask PAGEMAP_SCAN for pages of a category, of no pages at all."""
    argument = struct.pack("12Q", 96, *[0] * 8, 1 << bit, 0, 0)
    with open("/proc/self/pagemap", "rb") as file:
        try:
            fcntl.ioctl(file, PAGEMAP_SCAN, argument)
        except OSError:
            return False
    return True


def protects_asynchronously():
    """Ask userfaultfd for it."""
    try:
        with memory.untouched(1) as made:
            uffd._watched(made, uffd._FEATURE_WP_ASYNC, uffd._MODE_WP, "WP_ASYNC")
    except needs.Missing:
        return False
    return True


def has_cachestat():
    """Ask about a page of a file that has none."""
    fd = os.memfd_create("cachestat")
    try:
        linux.syscall(linux.CACHESTAT, fd, (ctypes.c_uint64 * 2)(0, 1), (ctypes.c_uint64 * 5)(), 0)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def shows_guards():
    """Whether a guard region, where there is such a thing, has bit 58."""
    try:
        with memory.guarded(1) as made:
            return oracle.decode(oracle.words(made.start, made.end)[0]).guard
    except needs.Missing:
        return False


class Recorder:
    """A plugin of pytest: leaves out what is not for here, and counts what happens."""

    def __init__(self):
        self.outcomes = Counter()
        self.failed = []
        self.missing = Counter()
        self.durations = Counter()

    def pytest_configure(self):
        from hypothesis import settings  # after pytest, which wants to be there first

        # A profile would not do: some tests name a number of their own. Settings are immutable,
        # but for those who ask the class's class.
        type.__setattr__(settings, "max_examples", property(lambda _: EXAMPLES))

    def pytest_runtest_logreport(self, report):
        self.durations[report.nodeid.split("::")[0]] += report.duration
        if report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")
        elif report.skipped:
            self.outcomes["skipped"] += 1
            self.missing[re.sub(r"^.*this machine lacks: ", "", report.longrepr[2])] += 1
        elif report.when == "call":
            self.outcomes["passed"] += 1

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(f"{report.nodeid} (collect)")
        elif report.skipped:
            self.outcomes["skipped"] += 1
            self.missing[report.longrepr[2]] += 1


def selected(select):
    """Return pytest's arguments for a selection."""
    if select == "whole":
        return [str(TESTS)]
    # those that come with other packages take longer to be loaded than some tests
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if select == "quick":
        # not each kind in a process of its own, nor each in swap of both kinds
        return ["-k", "not made_there and not swapfile", *map(path, QUICK)]
    without = [
        f"--deselect=tests/{name}" if "::" in name else f"--ignore-glob={path(name)}"
        for name in LEFT_OUT
    ]
    return [*without, str(TESTS)]


def path(name):
    """Return where a test is."""
    return str(TESTS / name)


def main(select, answer):
    """Look, test, and write the answer."""
    seen = look()
    print(seen, flush=True)
    recorder = Recorder()
    options = ["-p", "no:cacheprovider", "--durations=60", "-v", "-o", "faulthandler_timeout=600"]
    # emulated, a test takes many times as long
    options += ["--color=no", "-p", "timeout", "--timeout=1800"]
    status = pytest.main([*options, *selected(select)], plugins=[recorder])
    if status not in (0, 1):
        recorder.failed.append(f"pytest: {status!r}")
    Path(answer).write_text(
        json.dumps(
            {
                "seen": seen,
                "failed": recorder.failed,
                "outcomes": recorder.outcomes,
                "met": needs.met,
                "missing": recorder.missing,
                "seconds": {name: round(time) for name, time in recorder.durations.items()},
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
