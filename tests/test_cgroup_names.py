"""Which cgroup and which systemd unit a process is in, next to what was made for it."""

import os

import pytest

import cgroups
from fastpagemap.process.cgroups import _unit, cgroup_of, unit_of
from sharer import Sharer


def told(pid):
    """What /proc tells of the cgroups of a process."""
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        return file.read()


@pytest.mark.root
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_cgroup_of_a_process(version):
    with cgroups.limited(version, 1 << 30, depth=2) as path, Sharer({"join": cgroups.join}) as it:
        before = cgroup_of(told(it.pid))
        it.ask("join", path)
        assert before == cgroup_of(told(os.getpid()))
        assert cgroup_of(told(it.pid)) == path.removeprefix(cgroups._mounted(version))


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "unit"),
    [("test-{}.slice/b@1.service", "b@1.service"), ("_cpu-{}.scope/below", "cpu-{}.scope")],
)
def test_the_unit_of_a_process(name, unit):
    with cgroups.unit(name.format(os.getpid())) as path, Sharer({"join": cgroups.join}) as it:
        it.ask("join", path)
        assert unit_of(told(it.pid)) == unit.format(os.getpid())


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (b"/", b"-.slice"),
        (b"/system.slice", b"system.slice"),
        (b"/system.slice/postgresql.service", b"postgresql.service"),
        (b"/system.slice/system-pg.slice/pg@15-main.service", b"pg@15-main.service"),
        (b"/user.slice/user-1.slice/user@1.service/app.slice/x.service", b"user@1.service"),
        (b"/user.slice/user-1.slice/session-3.scope", b"session-3.scope"),
        (b"/system.slice/_cpu.service", b"cpu.service"),
        (b"/docker/0123", b"-.slice"),
        (b"/a.slice/no-unit/b.service", b"a.slice"),
        (b"/a.slice/\xff.service", b"\xff.service"),
    ],
)
def test_units_by_their_paths(path, unit):
    assert _unit(path) == unit


def test_a_kernel_without_cgroups():
    assert (cgroup_of(b""), unit_of(b"")) == (None, None)
