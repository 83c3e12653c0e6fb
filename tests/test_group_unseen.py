"""What a group alone has in swap, where not all processes of the machine can be seen (root)."""

import os

import pytest

import fastpagemap as fpm
import linux
import memory
import namespaces
import runas
import swap
from commandline import run
from linux import PAGE

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("any_swap")]

PAGES = 300
_CAP_DAC_READ_SEARCH = 2
#: What takes a look at all other processes.
OF_OTHERS = {"swapped_unique", "swapped_pss", "swapped_uss"}


@pytest.fixture
def shared():
    """Private memory in swap, which a child of this process has from it."""
    with memory.touched(PAGES) as made:
        swap.pageout(made.start, made.end)
        yield


def mount_proc(options=None):
    namespaces.own_mounts()
    linux.call("mount", b"proc", b"/proc", b"proc", 0, options)


def own():
    """The columns about a group of the calling process alone."""
    with fpm.Group([os.getpid()]) as group:
        total, usage = group.total(), group.usage()
    assert total["swapped_union"] >= PAGES * PAGE
    return {*total.dtype.names, *usage.dtype.names}


def in_pid_namespace(has_own_proc, function):
    def enter():
        if has_own_proc:
            mount_proc()
        return function()

    return namespaces.in_pid_namespace(enter)


@pytest.mark.parametrize("has_own_proc", [False, True])
def test_in_a_pid_namespace(shared, has_own_proc):
    """Outside, the parent has the same places in swap."""
    assert OF_OTHERS.isdisjoint(in_pid_namespace(has_own_proc, own))


def test_where_proc_hides_processes(shared):
    def enter():
        mount_proc(b"hidepid=2")
        runas.become(runas.NOBODY, [runas.CAP_SYS_ADMIN, _CAP_DAC_READ_SEARCH])
        return own()

    assert OF_OTHERS.isdisjoint(runas.in_child(enter))


def test_nothing_in_swap_is_nobody_elses():
    """Then there is nothing that others could have as well."""

    def enter():
        with fpm.Group([os.getpid()]) as group:
            total = group.total()
        return bool(total["swapped_union"]), "swapped_unique" in total.dtype.names

    has_some, is_told = in_pid_namespace(True, enter)
    assert has_some != is_told


def test_the_command_says_what_it_does_not_see(shared):
    pytest.importorskip("click")

    def group():
        return run("report", str(os.getpid()), str(os.getpid())).stderr.decode()

    def machine():
        return run("report", "--swap", "--timeout", "2").stderr.decode()

    assert "another process cannot be read or seen" in in_pid_namespace(True, group)
    assert "only the processes of this pid namespace are here" in in_pid_namespace(True, machine)
