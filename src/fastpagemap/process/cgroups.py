"""Control groups, of versions 1 and 2: memory limits of this process's, and which a process is in.

Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from .._kernel.own_files import own_file
from .mounts import unescape

__all__ = ["cgroup_of", "left_in_cgroups", "mount_points", "unit_of"]

_MOUNT = re.compile(rb"^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (.*)$", re.MULTILINE)
# The hierarchy in which systemd keeps its units, where it has one of version 1.
_SYSTEMD = b"name=systemd"
# What may have processes, beside slices.
_UNITS = (b".service", b".scope", b".mount", b".swap", b".socket")
# No limit; version 1 has a huge number for that.
_UNLIMITED = 1 << 60
_HIERARCHICAL = b"hierarchical_memory_limit"
# Another cgroup's, the root, which has no limit, or one that was removed meanwhile.
_UNREADABLE = (FileNotFoundError, PermissionError, NotADirectoryError)


class _Version(NamedTuple):
    """The files of one version."""

    limits: tuple[str, ...]
    usage: str
    # Fields of memory.stat: file pages, of which the kernel takes back what it needs.
    inactive: bytes
    active: bytes


_VERSIONS = {
    b"cgroup": _Version(
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        b"total_inactive_file",
        b"total_active_file",
    ),
    # Above memory.high a process is slowed down until it hardly runs.
    b"cgroup2": _Version(
        ("memory.max", "memory.high"), "memory.current", b"inactive_file", b"active_file"
    ),
}


def left_in_cgroups() -> Iterator[tuple[int, str]]:
    """Yield how many bytes each limit leaves, of each cgroup that can be seen, and whose it is."""
    try:
        mounts = _mounts()
        own = _own(_content(own_file("cgroup")))
    except _UNREADABLE:
        return
    for root, point, kind in mounts:
        if kind in own:
            yield from _up_from(root, point, own[kind], _VERSIONS[kind])


def cgroup_of(text: bytes) -> str | None:
    """Return the control group that a process's memory counts in, of its /proc/PID/cgroup."""
    own = _own(text)
    # Where version 1 has the controller of memory, version 2 has not.
    path = own.get(b"cgroup", own.get(b"cgroup2"))
    return None if path is None else os.fsdecode(path)


def unit_of(text: bytes) -> str | None:
    """Return the systemd unit that a process is in, or else its slice, of its /proc/PID/cgroup.

    Of a user's session that is the unit of the system's systemd: ``user@1000.service``.
    """
    own = _own(text)
    path = own.get(_SYSTEMD, own.get(b"cgroup2"))
    return None if path is None else os.fsdecode(_unit(path))


def _unit(path: bytes) -> bytes:
    """Return the unit that a path of systemd's hierarchy names: the first below the slices."""
    found = b"-.slice"  # the topmost cgroup is called so
    for name in path.split(b"/"):
        # systemd puts an underscore before a name that could be one of the kernel's files
        name = name.removeprefix(b"_")
        if name.endswith(b".slice"):
            found = name
        elif name:
            return name if name.endswith(_UNITS) else found
    return found


def _own(text: bytes) -> dict[bytes, bytes]:
    """Return a process's cgroup by the kind of mount that may count its memory, and systemd's."""
    own = {}
    # A name may hold any byte but a newline; splitlines would end a line at a carriage return.
    for line in text.removesuffix(b"\n").split(b"\n") if text else ():
        number, controllers, path = line.split(b":", 2)
        if number == b"0" or b"memory" in controllers.split(b","):
            own[b"cgroup2" if number == b"0" else b"cgroup"] = path
        elif controllers == _SYSTEMD:
            own[_SYSTEMD] = path
    return own


def mount_points() -> list[str]:
    """Return where version 2, or the memory controller of version 1, is mounted."""
    try:
        return [os.fsdecode(point) for _, point, _ in _mounts()]
    except _UNREADABLE:
        return []


def _mounts() -> list[tuple[bytes, bytes, bytes]]:
    """Return root, point and type of each mount with cgroups whose memory is counted."""
    # In version 1 each controller has a mount of its own.
    return [
        (unescape(root), unescape(point), kind)
        for root, point, kind, options in _MOUNT.findall(_content(own_file("mountinfo")))
        if kind == b"cgroup2" or b"memory" in options.split(b",")
    ]


def _up_from(root: bytes, point: bytes, own: bytes, version: _Version) -> Iterator[tuple[int, str]]:
    """Yield what is left from the own cgroup up to the one that is mounted."""
    below = os.path.relpath(own, root)
    if below.startswith(b".."):  # mounted from elsewhere: this process is not below
        return
    at = os.path.normpath(os.path.join(point, below))
    while len(at) > len(point):
        yield from _left_in(os.fsdecode(at), version, False)
        at = os.path.dirname(at)
    yield from _left_in(os.fsdecode(point), version, root != b"/")


def _left_in(directory: str, version: _Version, is_top: bool) -> Iterator[tuple[int, str]]:
    """Yield what each limit of a cgroup leaves; `is_top`: it has parents that cannot be seen."""
    limits = {}
    for name in version.limits:
        with contextlib.suppress(*_UNREADABLE):
            limits[name] = _number(_content(f"{directory}/{name}").strip())
    if min(limits.values(), default=_UNLIMITED) >= _UNLIMITED and not is_top:
        return
    try:
        usage = int(_content(f"{directory}/{version.usage}"))
        stat = dict(line.split() for line in _content(f"{directory}/memory.stat").splitlines())
    except _UNREADABLE:
        return
    if _HIERARCHICAL in stat:  # version 1: the least limit of all its parents
        limits[_HIERARCHICAL.decode()] = int(stat[_HIERARCHICAL])
    # Half of the file pages in use may be needed again at once.
    cached = int(stat.get(version.inactive, 0)) + int(stat.get(version.active, 0)) // 2
    for name, limit in limits.items():
        if limit < _UNLIMITED:
            yield max(0, limit - usage + cached), f" (by {name} of the cgroup {directory})"


def _number(text: bytes) -> int:
    return _UNLIMITED if text == b"max" else int(text)


def _content(path: str) -> bytes:
    """Return the content of a file: for files as small as these, faster than by `open`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = []
        while text := os.read(fd, 1 << 16):
            found.append(text)
        return b"".join(found)
    finally:
        os.close(fd)
