"""Who is in a group: named, found by descent or by control group; and what strangers may ask."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

import fastpagemap as fpm
import linux
import memory
import runas
from linux import PAGE
from needs import Absent, need
from victim import Victim

SMAPS = ("pid", "rss", "pss", "uss", "swapped", "unknown")


def test_nobody():
    with pytest.raises(ValueError, match="a group needs one process at least"):
        fpm.Group([])


def test_twice(victim):
    with fpm.Group([victim.pid, victim, victim.pid]) as group:
        assert group.pids == (victim.pid,)
        assert repr(group) == f"<Group: processes {victim.pid}>"


def test_no_such_process():
    with subprocess.Popen([sys.executable, "-S", "-E", "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            fpm.Group([os.getpid(), ended.pid])


@pytest.mark.usefixtures("_nothing_stays_open")
def test_closed(victim):
    group = fpm.Group([victim])
    group.usage()
    group.total()
    group.close()
    group.close()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of this very listing
            link = os.readlink(f"/proc/self/fd/{name}")
            assert not link.startswith(("/proc/kpage", f"/proc/{victim.pid}/"))
    assert repr(group) == "<Group: closed>"
    for ask in (
        *(group.usage, group.total, group.overlap, group.__enter__, lambda: group.pids),
        lambda: group.sharers(victim, 0, PAGE),
    ):
        with pytest.raises(ValueError, match="this Group is closed"):
            ask()


def test_sharers_of_a_stranger(victim):
    with fpm.Group([victim]) as group:
        with pytest.raises(ValueError, match=f"process {os.getpid()} is not in the group"):
            group.sharers(os.getpid(), 0, PAGE)
        with pytest.raises(ValueError, match="page"):
            group.sharers(victim, 1, PAGE)


def test_ordinary_user():
    """Without frames there is what smaps tells."""
    root = os.geteuid() == 0
    with Victim(runas.NOBODY if root else None) as victim:
        victim.make("touched", 500)

        def ask():
            with fpm.Group([victim]) as group:
                for question in group.overlap, lambda: group.sharers(victim, 0, PAGE):
                    with pytest.raises(PermissionError):
                        question()
                return group.usage(), group.total()

        usage, total = runas.as_nobody(ask)
        with open(f"/proc/{victim.pid}/smaps_rollup") as file:
            fields = {line.split()[0]: line.split()[1] for line in list(file)[1:]}
    assert usage.dtype.names == SMAPS
    assert total.dtype.names == ("rss", "pss", "swapped", "unknown")
    assert usage["rss"][0] == total["rss"] == int(fields["Rss:"]) * 1024
    # others map the same libraries, and come and go
    assert 500 * PAGE <= usage["uss"][0] <= usage["pss"][0] <= usage["rss"][0]


def test_tree(victim):
    child = victim.fork()
    with fpm.Group.tree(victim.pid) as group:
        assert group.pids == (victim.pid, child)
    with fpm.Group.tree(os.getpid()) as group:
        assert {os.getpid(), victim.pid, child} <= set(group.pids)
        assert len(set(group.pids)) == len(group.pids)


def test_tree_of_a_name_with_blanks(victim, tmp_path):
    """What stands in /proc/PID/stat after the name is found behind the last parenthesis."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(sys.executable)
    wait = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [program, "-S", "-E", "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with fpm.Group.tree(os.getpid()) as group:
            assert {other.pid, victim.pid} <= set(group.pids)


def test_tree_while_children_end():
    """A child that ends while the tree is opened is none of it; that is no error."""
    script = "while :; do /bin/true & /bin/true; wait; done"
    with subprocess.Popen(["/bin/sh", "-c", script]) as root:
        try:
            for _ in range(300):
                with fpm.Group.tree(root) as group:
                    assert group.pids[0] == root.pid
        finally:
            root.kill()


@pytest.mark.root
def test_counted_while_children_come_and_go():
    """Whatever happens meanwhile, what is unique is part of what there is, and that part of rss."""
    script = "while :; do /bin/true & /bin/true; wait; done"
    with subprocess.Popen(["/bin/sh", "-c", script]) as root, memory.touched(100) as made:
        try:
            for _ in range(40):
                with fpm.Group.tree(os.getpid()) as group:
                    total = group.total()
                    assert 100 * PAGE <= total["unique"] <= total["union"] <= total["rss"]
                    rows = group.usage()
                    assert (rows["uss"] <= rows["rss"]).all()
                    assert (group.sharers(os.getpid(), made.start, made.end) <= len(group)).all()
        finally:
            root.send_signal(signal.SIGKILL)


def _mount(version):
    """Where control groups are mounted, and the name of this process's own there."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == version and (kind == "cgroup2" or "memory" in options):
            return fields[4]
    raise Absent(f"{version} mounted")


def test_reserved_address_space():
    """Terabytes that nobody touched cost nothing."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    flags = memory.PRIVATE | linux.MAP_NORESERVE
    places = []
    try:
        with contextlib.suppress(OSError):
            while True:
                places.append(linux.call("mmap", 0, 1 << 42, memory.NONE, flags, -1, 0))
        need(len(places) > 8, "40 TiB of address space")
        with fpm.Group([os.getpid()]) as group:
            began = time.process_time()
            group.total()
            group.usage()
            assert time.process_time() - began < 10
    finally:
        for place in places:
            linux.call("munmap", place, 1 << 42)


@pytest.mark.usefixtures("_nothing_stays_open")
def test_no_descriptor_stays_open(victim):
    """Neither after all is well nor after an error."""
    for _ in range(5):
        with fpm.Group.tree(os.getpid()) as group:
            group.usage()
        with fpm.Group([victim]) as group:
            group.total()
        with pytest.raises(ProcessLookupError):
            fpm.Group([victim, 2**22 + 1])


@contextlib.contextmanager
def _made(path):
    try:
        os.mkdir(path)
    except OSError:
        raise Absent("a control group of one's own") from None
    try:
        yield path
    finally:
        os.rmdir(path)


@pytest.mark.root
@pytest.mark.parametrize("version", ["cgroup", "cgroup2"])
def test_control_groups(version):
    name = f"fastpagemap-group-{os.getpid()}"
    top = f"{_mount(version)}/{name}"
    with _made(top), _made(f"{top}/below") as below, Victim() as one, Victim() as other:
        with pytest.raises(ProcessLookupError, match="has no process with memory"):
            fpm.Group.cgroup(top)
        linux.write_text(f"{top}/cgroup.procs", one.pid)
        linux.write_text(f"{below}/cgroup.procs", other.pid)
        both = tuple(sorted((one.pid, other.pid)))
        with fpm.Group.cgroup(top) as group:
            assert group.pids == both
            assert group.total()["union"] < group.total()["rss"]
        with fpm.Group.cgroup(below) as group:
            assert group.pids == (other.pid,)
        with open(f"/proc/{one.pid}/cgroup") as file:
            names = [line.rstrip("\n").split(":", 2)[2] for line in file]
        with fpm.Group.cgroup(next(each for each in names if each.endswith(name))) as group:
            assert group.pids == both


@pytest.mark.root
def test_control_groups_of_threads():
    """Their processes are listed by the group above."""
    top = f"{_mount('cgroup2')}/fastpagemap-threads-{os.getpid()}"
    with _made(top), _made(f"{top}/below") as below, Victim() as victim:
        linux.write_text(f"{top}/cgroup.procs", victim.pid)
        try:
            linux.write_text(f"{below}/cgroup.type", "threaded")
            linux.write_text(f"{below}/cgroup.threads", victim.pid)
        except OSError:
            need(False, "control groups of threads", Absent)
        with fpm.Group.cgroup(top) as group:
            assert group.pids == (victim.pid,)
        with pytest.raises(fpm.UnsupportedError, match="a cgroup of single threads"):
            fpm.Group.cgroup(below)


def test_all_have_ended_and_frames_are_hidden():
    """It is not the frames that are missed first."""

    def ask():
        with Victim() as victim, fpm.Group([victim]) as group:
            victim.kill()
            for question in group.total, group.overlap:
                with pytest.raises(ProcessLookupError, match="all processes of the group"):
                    question()
            with pytest.raises(ProcessLookupError, match=f"process {victim.pid} has ended"):
                group.sharers(victim, 0, PAGE)

    runas.as_nobody(ask)


def test_an_empty_name_is_no_control_group():
    """It is not the topmost one."""
    with pytest.raises(ValueError, match="is empty"):
        fpm.Group.cgroup("")


def test_no_such_control_group():
    with pytest.raises(FileNotFoundError, match="no such cgroup"):
        fpm.Group.cgroup("/fastpagemap/is/not/there")
