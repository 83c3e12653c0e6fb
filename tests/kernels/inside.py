"""What runs in the virtual machine: a look at its kernel, then the tests.

Standard output is the log; the answer is a line of JSON in the file named by the one argument.
"""

import ctypes
import fcntl
import json
import os
import re
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

# What is left out, by the beginnings of names, and why.
LEFT_OUT: dict[str, str] = {}
EXAMPLES = 5

# struct pm_scan_arg and struct procmap_query of linux/fs.h: 96 and 104 bytes, the first is the size
PAGEMAP_SCAN = 3 << 30 | 96 << 16 | ord("f") << 8 | 16
PROCMAP_QUERY = 3 << 30 | 104 << 16 | ord("f") << 8 | 17


def look():
    """What this kernel has; every answer tried out, none read from a version or a configuration."""
    return {
        "release": os.uname().release,
        "page": f"{linux.PAGE >> 10} KiB",
        "soft-dirty": keeps_soft_dirty(),
        "SCAN": knows_ioctl("pagemap", PAGEMAP_SCAN, 96),
        "QUERY": knows_ioctl("maps", PROCMAP_QUERY, 104),
        "cachestat": has_cachestat(),
        "guard bit": shows_guards(),
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

    def pytest_collection_modifyitems(self, config, items):
        left_out = [item for item in items if item.nodeid.startswith(tuple(LEFT_OUT))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
        self.outcomes["left out"] = len(left_out)

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


def main(answer):
    """Look, test, and write the answer."""
    seen = look()
    print(seen, flush=True)
    recorder = Recorder()
    options = ["-p", "no:cacheprovider", "--durations=30", "-v"]
    options += ["-o", "faulthandler_timeout=600", "--color=no"]
    status = pytest.main([*options, str(TESTS)], plugins=[recorder])
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
    main(sys.argv[1])
