"""What a mapping is for: heap, stack, shared memory, a program, a file; columns of such labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .mapping import UNKNOWN_PATH, Mapping, looks_shmem

__all__ = ["KINDS", "LABELS", "IsShmem", "kinds", "labelled"]

#: Columns of `usage` that are no sizes: what maps says of a mapping, and its kind.
LABELS = (*Mapping._fields[2:], "kind")

KINDS = (
    "heap",
    "stack",
    "anonymous",
    "shared memory",
    "executable",
    "file",
    "device",
    "kernel",
    "unknown",
)

#: Returns whether a mapping shows pages of a tmpfs; None where that cannot be known.
IsShmem = Callable[[Mapping], bool | None]


def kinds(
    mappings: Iterable[Mapping],
    is_shmem: IsShmem | None = None,
    among: Iterable[Mapping] | None = None,
) -> list[str]:
    """Return the kind of each mapping.

    ``heap`` and ``stack`` are what the kernel names so; ``shared memory`` is MAP_SHARED anonymous
    memory, memfd, SysV, /dev/shm, and the files of every other tmpfs; ``executable`` is all of a
    file with an executable part: programs and libraries; ``kernel`` is the pages that the kernel
    provides (``[vdso]``); ``unknown`` where entries were saved without maps.

    Parameters
    ----------
    mappings : iterable of Mapping
        They may come from any kernel.
    is_shmem : callable, optional
        Says which files are on a tmpfs. Without it, as for a snapshot, only device numbers and
        paths tell: then a tmpfs mounted elsewhere than on /dev/shm looks like any file system.
    among : iterable of Mapping, optional
        All mappings of the process, if `mappings` are not: one executable mapping makes every
        mapping of its file executable.
    """
    mappings = list(mappings)
    everything = mappings if among is None else among
    executable = {mapping.path for mapping in everything if "x" in mapping.permissions}
    return [_kind(mapping, executable, is_shmem) for mapping in mappings]


def _kind(mapping: Mapping, executable: set[str], is_shmem: IsShmem | None) -> str:
    path = mapping.path
    if path == UNKNOWN_PATH:
        return "unknown"
    if path == "[heap]":
        return "heap"
    if path == "[stack]" or path.startswith("[stack:"):  # a thread's, Linux 3.4 to 4.4
        return "stack"
    if mapping.anonymous:
        return "anonymous"
    if looks_shmem(mapping):
        return "shared memory"
    if path.startswith("["):
        return "kernel"
    # /dev is a tmpfs, but the pages of its device nodes are not in it.
    if is_shmem is not None and not path.startswith("/dev/") and is_shmem(mapping):
        return "shared memory"
    if path in executable and path:
        return "executable"
    if path.startswith("/dev/"):
        return "device"
    return "file"


def labelled(
    names: Sequence[str],
    mappings: Sequence[Mapping],
    sizes: npt.NDArray[np.void],
    kinds_of: Callable[[], list[str]],
) -> npt.NDArray[np.void]:
    """Return the named columns: sizes, and labels of the mappings; texts are of dtype object.

    Parameters
    ----------
    names : sequence of str
        Columns of `sizes`, or of ``LABELS``.
    mappings : sequence of Mapping
        In the order of the rows of `sizes`.
    sizes : ndarray
        Structured.
    kinds_of : callable
        Returns the kinds of the mappings; called only if they are wanted.
    """
    columns = {name: sizes[name] for name in sizes.dtype.names or ()}
    for name in LABELS:
        if name in names:
            values = kinds_of() if name == "kind" else [getattr(m, name) for m in mappings]
            number = name in ("offset", "device", "inode")
            columns[name] = np.array(values, np.uint64 if number else object)
    table = np.empty(len(mappings), [(name, columns[name].dtype) for name in names])
    for name in names:
        table[name] = columns[name]
    return table
