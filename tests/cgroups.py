"""Control groups with a limit of memory, of both versions, for processes of the tests (root)."""

import contextlib
import os
import re

import linux
from needs import Absent, Missing

#: The version, and where a limit stands.
LIMITS = {
    "v1": "memory.limit_in_bytes",
    "v2": "memory.max",
    "v2-high": "memory.high",
}


def _mounted(version):
    """Where cgroups of a version that limit memory are mounted."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            found = re.search(r"^\S+ \S+ \S+ / (\S+) .* - (\S+) \S+ (\S+)$", line)
            if not found:
                continue
            point, kind, options = found.groups()
            if kind == "cgroup" and version == "v1" and "memory" in options.split(","):
                return point
            if kind == "cgroup2" and version != "v1" and _controls_memory(point):
                return point
    raise Absent(f"memory limits of cgroups, {version}")


def _controls_memory(directory):
    with open(f"{directory}/cgroup.controllers") as file:
        return "memory" in file.read().split()


@contextlib.contextmanager
def limited(kind, size, depth=1):
    """A cgroup below `depth - 1` others, of which the topmost has the limit; gives its path."""
    version = kind.partition("-")[0]
    top = f"{_mounted(version)}/fastpagemap-test-{os.getpid()}"
    made = ["/".join([top, *["below"] * level]) for level in range(depth)]
    with contextlib.ExitStack() as stack:
        for path in made:
            try:
                if version == "v2":
                    parent = os.path.dirname(path)
                    linux.write_text(f"{parent}/cgroup.subtree_control", "+memory")
                os.mkdir(path)
            except OSError as error:
                raise Missing(f"root (to make cgroups, {version})") from error
            stack.callback(os.rmdir, path)
        linux.write_text(f"{top}/{LIMITS[kind]}", size)
        yield made[-1]


def join(path):
    """Move this process into a cgroup."""
    linux.write_text(f"{path}/cgroup.procs", os.getpid())


@contextlib.contextmanager
def own():
    """A cgroup of one's own, of either version, without limits; gives its path."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    points = {line[line.index("-") + 1]: line[4] for line in lines}
    point = points.get("cgroup2") or points.get("cgroup")
    if not point:
        raise Absent("cgroups")
    path = f"{point}/fastpagemap-own-{os.getpid()}"
    try:
        os.mkdir(path)
    except OSError as error:
        raise Missing("root (to make cgroups)") from error
    try:
        yield path
    finally:
        os.rmdir(path)


@contextlib.contextmanager
def nested(path, names):
    """Cgroups, each one below the one before; gives a descriptor of the last."""
    with contextlib.ExitStack() as stack:
        above = os.open(path, os.O_RDONLY)
        stack.callback(os.close, above)
        for name in names:
            os.mkdir(name, dir_fd=above)
            stack.callback(os.rmdir, name, dir_fd=above)
            above = os.open(name, os.O_RDONLY, dir_fd=above)
            stack.callback(os.close, above)
        yield above


def _where_units_are():
    """Where the hierarchy is mounted in which systemd, if it ran, would have its units."""
    with open("/proc/self/mountinfo") as file:
        mounts = [(line.split()[4], line.rpartition(" - ")[2].split()) for line in file]
    of_its_own = [point for point, how in mounts if "name=systemd" in how[2].split(",")]
    unified = [point for point, how in mounts if how[0] == "cgroup2"]
    if not of_its_own + unified:
        raise Absent("a hierarchy of cgroups for systemd")
    return (of_its_own + unified)[0]


@contextlib.contextmanager
def unit(path):
    """A cgroup where systemd has its units, of this name; gives its directory."""
    with named(path, _where_units_are()) as made:
        yield made


@contextlib.contextmanager
def named(path, point=None):
    """A cgroup of this name, where those that limit memory are mounted; gives its directory."""
    try:
        made = [point or _mounted("v1")]
    except Absent:
        made = [_mounted("v2")]
    with contextlib.ExitStack() as stack:
        for name in path.strip("/").split("/"):
            made.append(os.path.join(made[-1], name))
            try:
                os.mkdir(made[-1])
                stack.callback(os.rmdir, made[-1])
            except FileExistsError:
                continue
            except OSError as error:
                raise Missing("root (to make cgroups)") from error
        yield made[-1]
