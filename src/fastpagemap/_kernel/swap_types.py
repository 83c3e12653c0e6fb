"""Which types of swap entries are no swap areas, but markers, migration, poison and device entries.

Of 32 types the highest are reserved, as many as the kernel was built for (include/linux/swap.h). No
file says how many; each kind shows elsewhere in /proc.
"""

import functools
import os
import re

from .failures import IgnoringFileErrors, exists

__all__ = ["MAX_RESERVED", "MIN_RESERVED", "reserved_types"]

# The highest type is a marker or for migration in every kernel, and so is the one below it. No
# kernel reserves more than 1 type for markers, 3 for migration, 1 for poison and 4 for devices.
MIN_RESERVED = 2
MAX_RESERVED = 9
# With fewer swap areas the answer makes no difference, and need not be exact.
_MANY_AREAS = 20


def reserved_types() -> int:
    """Return how many types this kernel reserves."""
    release = ""
    with IgnoringFileErrors():  # a sandbox may forbid to ask
        release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or not exists("/proc/sys/vm/swappiness"):
        return MAX_RESERVED  # no Linux known, or a sandbox that hides these files
    version = int(found[1]), int(found[2])
    # Linux 5.19 added markers, a third type for migration, and one for errors, which 6.2 removed.
    count = 2 if version < (5, 19) else 5 if version < (6, 2) else 4
    count += exists("/proc/sys/vm/memory_failure_early_kill")
    counters = _content("/proc/vmstat")
    if (not counters or b"\npgalloc_device " in counters) and _may_have_device_types():
        count += 2 if version < (5, 14) else 4 if version < (6, 15) else 3
    return count


def _may_have_device_types() -> bool:
    """Return whether a kernel with device memory may give its pages swap entries.

    That is CONFIG_DEVICE_PRIVATE. To look for its functions among all takes 0.1 s.
    """
    areas = _content("/proc/swaps").count(b"\n") - 1
    return areas < _MANY_AREAS or _has_device_types()


@functools.cache
def _has_device_types() -> bool:
    symbols = _content("/proc/kallsyms")
    return not symbols or b" make_device_exclusive" in symbols


def _content(path: str) -> bytes:
    """Return the content of a file; nothing if it is not there, or forbidden."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, PermissionError):
        return b""
