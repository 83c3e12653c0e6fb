"""What a mapping is for: heap, stack, shared memory, a program, a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from fastpagemap.model.mapping import Mapping

KINDS = ("heap", "stack", "anonymous", "shared memory", "executable", "file", "device", "kernel")

#: Returns whether a mapping shows pages of a tmpfs; None where that cannot be known.
IsShmem = Callable[[Mapping], bool | None]

# The kernel's own tmpfs: shared anonymous memory, memfds, SysV, buffers of graphics drivers. It is
# device 0:1 since Linux 5. Before, it had another number, below 0:10 or so, but the same names.
_KERNEL_TMPFS = os.makedev(0, 1)
_KERNEL_NAMES = re.compile(
    r"/(dev/zero|SYSV[0-9a-f]{8}|memfd:.*|i915|drm mm object) \(deleted\)", re.DOTALL
)


def kinds(mappings: Iterable[Mapping], is_shmem: IsShmem | None = None) -> list[str]:
    """Return the kind of each mapping.

    ``heap`` and ``stack`` are what the kernel names so; ``shared memory`` is MAP_SHARED anonymous
    memory, memfd, SysV, /dev/shm, and the files of every other tmpfs; ``executable`` is all of a
    file with an executable part: programs and libraries; ``kernel`` is the pages that the kernel
    provides (``[vdso]``).

    Parameters
    ----------
    mappings : iterable of Mapping
        All of one process: one executable mapping makes every mapping of its file executable.
        They may come from any kernel.
    is_shmem : callable, optional
        Says which files are on a tmpfs. Without it, as for a snapshot, only device numbers and
        paths tell: then a tmpfs mounted elsewhere than on /dev/shm looks like any file system.
    """
    mappings = list(mappings)
    executable = {mapping.path for mapping in mappings if "x" in mapping.permissions}
    return [_kind(mapping, executable, is_shmem) for mapping in mappings]


def _kind(mapping: Mapping, executable: set[str], is_shmem: IsShmem | None) -> str:
    path = mapping.path
    if path == "[heap]":
        return "heap"
    if path == "[stack]" or path.startswith("[stack:"):  # a thread's, Linux 3.4 to 4.4
        return "stack"
    if mapping.anonymous:
        return "anonymous"
    if path.startswith("["):
        return "shared memory" if path.startswith("[anon_shmem:") else "kernel"
    if mapping.device == _KERNEL_TMPFS or path.startswith("/dev/shm/"):
        return "shared memory"
    # A file on a disk may have such a name, too.
    if not os.major(mapping.device) and _KERNEL_NAMES.fullmatch(path):
        return "shared memory"
    # /dev is a tmpfs, but the pages of its device nodes are not in it.
    if is_shmem is not None and not path.startswith("/dev/") and is_shmem(mapping):
        return "shared memory"
    if path in executable and path:
        return "executable"
    if path.startswith("/dev/"):
        return "device"
    return "file"
