"""Which processes belong together: a process and its descendants, or the members of a cgroup."""

from __future__ import annotations

import errno
import functools
import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from .._kernel import pagecache
from .._kernel.descriptor import Descriptor, compare_memory, open_file
from .._kernel.failures import failure, is_refusal
from .._kernel.lines import read_all
from ..model.errors import UnsupportedError
from . import stat
from .cgroups import mount_points
from .namespaces import directory_of, is_foreign, pids
from .opening import pass_over
from .probes import version
from .process import Process, open_process

__all__ = ["Known", "descendants", "known", "known_at", "listed", "members", "memories"]
__all__ += ["open_again", "open_known", "others", "swaps_anything", "topmost", "tree"]

_PROCS = "cgroup.procs"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
# CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC.
_CGROUP_SYSTEMS = (0x63677270, 0x0027E0EB)
# It was removed meanwhile, or it has threads alone: their processes are listed further up.
_NOT_LISTED = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP)
_OF_THREADS = "a cgroup of single threads, which names no processes: give the one above it"


class Known(NamedTuple):
    """A process by its pid, and by when it began: a pid may be given to another process.

    `began` is in ticks, as in /proc/PID/stat; None where /proc does not show that to this user.
    """

    pid: int
    began: int | None


def known(process: Process) -> Known:
    """Return how to tell an open process from a later one with its pid."""
    try:
        return Known(process.pid, stat.parse(process.read("stat")).started)
    except FileNotFoundError:
        raise process.gone() from None


def open_known(pid: int, began: int | None) -> Process:
    """Open the process with a pid that began then; whenever that was, for None."""
    process = Process(pid)
    if began is not None and known(process).began != began:
        raise process.gone()
    return process


def open_again(found: Iterable[Known]) -> tuple[list[Process], list[int]]:
    """Open the very processes that are known; return them, and the pids of those that ended."""
    held, ended = [], []
    for each in found:
        try:
            held.append(open_known(*each))
        except ProcessLookupError:
            ended.append(each.pid)
    return held, ended


def tree(process: object) -> tuple[list[Process], list[int]]:
    """Open a process and all its descendants; return them, and the pids of those that ended."""
    root = open_process(process)
    held, ended = open_again(descendants(root.pid))
    root.check_alive()
    return [root, *held], ended


def descendants(*roots: int) -> list[Known]:
    """Return the descendants of processes, as they are now. None is opened: it may be locked."""
    if is_foreign():
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "/proc shows another pid namespace, in which parents have other numbers: name the "
            "processes, or mount the /proc of this one, as unshare --mount-proc does",
        )
    families: dict[int, list[Known]] = {}
    for each in pids():
        found = stat.read(each)
        if found is not None:
            families.setdefault(found.parent, []).append(Known(each, found.started))
    chosen: list[Known] = []
    waiting = [child for root in dict.fromkeys(roots) for child in families.pop(root, ())]
    while waiting:
        child = waiting.pop(0)
        chosen.append(child)
        # None twice, though a pid may have been given to another process meanwhile.
        waiting += families.pop(child.pid, ())
    return chosen


def known_at(pid: int) -> Known:
    """Return how to tell the process that has a pid now; it is not opened."""
    found = stat.read(pid)
    if found is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}")
    return Known(pid, found.started)


def topmost(found: Collection[int]) -> list[int]:
    """Return those of some pids that are no children of others of them."""
    about = {pid: stat.read(pid) for pid in found}
    return [pid for pid, its in about.items() if its is None or its.parent not in about]


def members(path: str) -> tuple[list[Process], list[int]]:
    """Open the processes of a cgroup and of those below it; see ``Group.cgroup``."""
    return open_again(listed(path))


def listed(path: str) -> list[Known]:
    """Return the processes of a cgroup and of those below it. None is opened: it may be locked.

    The kernel's own threads are left out: they never have memory.
    """
    top = _directory(path)
    # Those that hidepid hides stay, and are refused once they are opened.
    about = {pid: stat.read(pid) for pid in _listed(top)}
    found = [
        Known(pid, its.started if its else None)
        for pid, its in about.items()
        if its is None or not its.is_kernel_thread
    ]
    # A pid that was given to another process meanwhile is no longer listed, or rightly. Nor is a
    # process that has ended.
    still = set(_listed(top))
    return [each for each in found if each.pid in still]


def _directory(path: str) -> str:
    """Return the directory of a cgroup, given as that or by its name in /proc/PID/cgroup."""
    if not path:
        raise ValueError("the path of a cgroup is empty: the topmost one is '/'")
    refused = None
    below = (os.path.join(point, path.lstrip("/")) for point in mount_points())
    for directory in itertools.chain([path], below):
        try:
            if _is_cgroup(directory):
                return directory
        except OSError as error:
            pass_over(error)
            if is_refusal(error):
                refused = refused or failure(error.errno or 0, directory)
    if refused is None:
        is_foreign()  # raises an error without /proc, where no cgroup can be found by its name
    raise refused or FileNotFoundError(
        errno.ENOENT,
        "no such cgroup: give its directory, or its name as in /proc/PID/cgroup",
        path,
    )


def _is_cgroup(path: str) -> bool:
    """Return whether a directory is a cgroup, by its file system: any may have cgroup.procs."""
    held = open_file(path, os.O_PATH | os.O_DIRECTORY)
    return pagecache.file_system(held.fd) in _CGROUP_SYSTEMS


def _listed(top: str) -> list[int]:
    """Return the pids in a cgroup and below, sorted."""
    found: set[int] = set()
    for path, directory in _directories(top):
        try:
            file = open_file(_PROCS, os.O_RDONLY, directory.fd)
            found.update(map(int, read_all(file.fd, _PROCS).split()))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and path == top:
                raise UnsupportedError(error.errno, _OF_THREADS, top) from None
            _raise_unless_empty(error, f"{path}/{_PROCS}")
    if 0 in found:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"the cgroup {top} has processes that this pid namespace does not show",
        )
    return sorted(found)


def _directories(top: str) -> Iterator[tuple[str, Descriptor]]:
    """Yield a cgroup and all below it, each with its path, which may be too long to be opened."""
    opened = [(top, held := open_file(top, _DIRECTORY), _names(held))]
    yield top, held
    while opened:
        path, held, names = opened[-1]
        if not names:
            opened.pop()
            continue
        path = f"{path}/{names[-1]}"
        try:
            held = open_file(names.pop(), _DIRECTORY, held.fd)
            opened.append((path, held, _names(held)))
        except OSError as error:
            _raise_unless_empty(error, path)
        else:
            yield path, held


def _names(directory: Descriptor) -> list[str]:
    """Return the names of the cgroups right below one."""
    with os.scandir(directory.fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _raise_unless_empty(error: OSError, path: str) -> None:
    """Raise what keeps a cgroup from being listed: what is not seen would be missing silently."""
    if error.errno not in _NOT_LISTED:
        raise failure(error.errno or 0, path) from None


def memories(processes: Iterable[Process]) -> dict[int, int]:
    """Return for each pid which memory it has: the pid of one of those that have the same.

    Processes share all of their memory between vfork and exec, and after clone with CLONE_VM. Where
    kcmp does not tell (no CONFIG_KCMP, or forbidden), each is taken to have its own.
    """
    found = {process.pid: process.pid for process in processes}
    if is_foreign():  # their pids are others here
        return found
    by_thread = {process.thread: process for process in processes}
    ordered = sorted(by_thread, key=functools.cmp_to_key(_order))
    for before, thread in itertools.pairwise(ordered):
        one, other = by_thread[before], by_thread[thread]
        if _compare(before, thread) == 0 and _still(one, before) and _still(other, thread):
            found[other.pid] = found[one.pid]
    return found


def _compare(one: int, other: int) -> int | None:
    """Return what kcmp says of the memory of two threads; None if it does not."""
    try:
        return compare_memory(one, other)
    except OSError:
        return None


def _order(one: int, other: int) -> int:
    order = _compare(one, other)
    return {1: -1, 2: 1}.get(order or 0, 0)


def _still(process: Process, thread: int) -> bool:
    """Return whether a process still has memory, and is read through this thread of it."""
    try:
        process.read_own("statm")
    except OSError:
        return False
    return process.thread == thread


def swaps_anything(pid: int) -> bool:
    """Return whether private memory of a process is swapped, or may be.

    Before Linux 6.16 VmSwap may be too small by some pages for each processor, and so be 0.

    Raises
    ------
    ProcessLookupError
        It has ended.
    """
    try:
        file = open_file(f"{directory_of(pid)}/status", os.O_RDONLY)
        none = b"\nVmSwap:\t       0 kB\n" in read_all(file.fd, "status")
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from None
    return not none or (version() < (6, 16) and pagecache.swap_in_use())


def others(group: Iterable[Process]) -> list[int]:
    """Return the pids of all processes that /proc shows but these."""
    return sorted(set(pids()) - {process.pid for process in group})
