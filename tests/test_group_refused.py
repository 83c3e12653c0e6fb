"""Groups that cannot be found in full, and what is no group: said, never a smaller answer."""

import mmap
import os
import resource

import pytest

import cgroups
import fastpagemap as fpm
import linux
import memory
import namespaces
import runas
from fastpagemap.process.family import listed
from linux import PAGE
from needs import Absent, need
from victim import Victim

pytestmark = pytest.mark.root

NAME = "n" * 250
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


@pytest.fixture
def group():
    """A control group of one's own; those made below it are removed."""
    with cgroups.own() as path:
        yield path


def test_tree_where_proc_is_another_namespaces():
    """Parents have other numbers there: a stranger's children would be in the group."""

    def ask():
        with pytest.raises(fpm.UnsupportedError, match="in which parents have other numbers"):
            fpm.Group.tree(os.getpid())
        return fpm.Group([os.getpid()]).pids

    assert namespaces.in_pid_namespace(ask) == (1,)


def test_tree_where_this_namespace_has_a_proc_of_its_own():
    def ask():
        linux.call("unshare", namespaces.CLONE_NEWNS)
        linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        linux.call("mount", b"proc", b"/proc", b"proc", 0, None)
        with Victim() as victim:
            return fpm.Group.tree(1).pids == (1, victim.pid)

    assert namespaces.in_pid_namespace(ask)


@pytest.fixture(params=["directory", "file", "fifo", "directory_of_a_fifo"])
def no_group(request, tmp_path):
    """What is no control group, whatever it has."""
    path = tmp_path / "group"
    if request.param == "file":
        path.write_text(f"{os.getpid()}\n")
    elif request.param == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
        if request.param == "directory":
            (path / "cgroup.procs").write_text(f"{os.getpid()}\n")
        else:
            os.mkfifo(path / "cgroup.procs")
    return path


@pytest.mark.parametrize("is_relative", [False, True], ids=["absolute", "relative"])
def test_what_is_no_control_group(no_group, is_relative, monkeypatch):
    """Opening a fifo would wait for ever."""
    monkeypatch.chdir(no_group.parent)
    with pytest.raises(FileNotFoundError, match="no such cgroup"):
        fpm.Group.cgroup(no_group.name if is_relative else str(no_group))


def test_a_relative_name_is_that_of_a_control_group(group, victim, tmp_path, monkeypatch):
    """Not a directory of that name which happens to be here."""
    linux.write_text(f"{group}/cgroup.procs", victim.pid)
    (tmp_path / os.path.basename(group)).mkdir()
    (tmp_path / os.path.basename(group) / "cgroup.procs").write_text(f"{os.getpid()}\n")
    monkeypatch.chdir(tmp_path)
    with fpm.Group.cgroup(os.path.basename(group)) as found:
        assert found.pids == (victim.pid,)


def test_threads_of_the_kernel_are_in_no_group(group):
    """The topmost cgroup lists them; they have not ended, and have no memory."""
    top = os.path.dirname(group)
    with open(f"{top}/cgroup.procs") as file:
        pids = {int(line) for line in file}
    threads = set(filter(linux.is_kernel_thread, pids))
    need(threads, "threads of the kernel in a cgroup", Absent)
    found = {each.pid for each in listed(top)}
    assert os.getpid() in found
    assert not threads & found


def test_deep_control_groups(group):
    """Their paths are too long to be opened by."""
    with cgroups.nested(group, [NAME] * 20) as deepest, Victim() as victim:
        procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=deepest)
        os.write(procs, b"%d" % victim.pid)
        os.close(procs)
        with fpm.Group.cgroup(group) as found:
            assert found.pids == (victim.pid,)


def test_control_groups_that_cannot_be_read(group):
    """Of another user, who has closed them."""
    with cgroups.nested(group, ["closed"]), Victim() as victim:
        linux.write_text(f"{group}/closed/cgroup.procs", victim.pid)
        for path in f"{group}/closed", f"{group}/closed/cgroup.procs":
            mode = os.stat(path).st_mode
            os.chmod(path, 0)
            with pytest.raises(PermissionError, match=path):
                runas.as_nobody(fpm.Group.cgroup, group)
            os.chmod(path, mode)


def test_more_control_groups_than_descriptors(group):
    """The answer is not smaller where they run out."""

    def ask():
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 5, free + 5))
        fpm.Group.cgroup(group)

    with cgroups.nested(group, ["below"] * 9), pytest.raises(OSError, match="Too many open files"):
        runas.in_child(ask)


@pytest.mark.parametrize("kind", cgroups.LIMITS)
def test_sharers_of_more_than_fits(kind, victim):
    """Of 256 GiB that are reserved the entries and the answer take 700 MiB."""
    parent = os.getpid()

    def ask():
        with fpm.Group([parent, victim.pid]) as group:
            cgroups.join(path)
            with pytest.raises(MemoryError, match="MiB are available"):
                group.sharers(parent, start, end)
            return group.sharers(parent, start, start + 9 * PAGE)

    with (
        mmap.mmap(-1, 1 << 38, flags=memory.PRIVATE | linux.MAP_NORESERVE) as made,
        cgroups.limited(kind, 64 << 20) as path,
    ):
        start, end = fpm.span(made)
        assert not runas.in_child(ask).any()


def hide(option):
    """Become a user from whom /proc hides the processes of others."""
    linux.call("unshare", namespaces.CLONE_NEWNS)
    linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    linux.call("mount", b"proc", b"/proc", b"proc", 0, option)
    runas.become(runas.NOBODY)


@pytest.mark.parametrize("option", [b"hidepid=0", b"hidepid=1", b"hidepid=2"])
def test_a_hidden_process_in_a_control_group(group, option):
    """Its group is refused, not smaller."""

    def ask():
        hide(option)
        with pytest.raises(PermissionError):
            fpm.Group.cgroup(group)

    with Victim(runas.NOBODY) as own, Victim() as other:
        for pid in own.pid, other.pid:
            linux.write_text(f"{group}/cgroup.procs", pid)
        runas.in_child(ask)


def test_children_that_may_not_be_seen():
    """hidepid=1: they are listed, and no file of theirs can be opened."""

    def ask():
        hide(b"hidepid=1")
        with pytest.raises(PermissionError):
            os.close(os.open(f"/proc/{other.pid}/stat", os.O_RDONLY))
        with Victim() as own, fpm.Group.tree(os.getpid()) as group:
            assert group.pids == (os.getpid(), own.pid)
            with pytest.raises(PermissionError):
                fpm.Group([own, other])

    with Victim() as other:
        runas.in_child(ask)
