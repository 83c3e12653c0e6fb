"""What a mapping is for, as far as its line in /proc/PID/maps tells."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fastpagemap import Mapping

KINDS = ("heap", "stack", "anonymous", "shared memory", "executable", "file", "device", "kernel")

# the kernel's own tmpfs: shared anonymous memory, memfds, SysV
_SHARED = os.makedev(0, 1)


def kinds(mappings: Iterable[Mapping]) -> list[str]:
    """Return the kind of each mapping.

    ``heap`` and ``stack`` are what the kernel names so; ``shared memory`` is MAP_SHARED anonymous
    memory, memfd, SysV and /dev/shm; ``executable`` all of a file of which a part may be executed:
    programs and libraries; ``kernel`` the pages that the kernel provides (``[vdso]``).
    """
    mappings = list(mappings)
    executable = {mapping.path for mapping in mappings if "x" in mapping.permissions}
    return [_kind(mapping, executable) for mapping in mappings]


def _kind(mapping: Mapping, executable: set[str]) -> str:
    path = mapping.path
    if path == "[heap]" or path == "[stack]":
        return path[1:-1]
    if mapping.anonymous:
        return "anonymous"
    if path.startswith("["):
        return "shared memory" if path.startswith("[anon_shmem:") else "kernel"
    if mapping.device == _SHARED or path.startswith("/dev/shm/"):
        return "shared memory"
    if path in executable and path:
        return "executable"
    if path.startswith("/dev/"):
        return "device"
    return "file"
