"""A pid namespace whose numbers are not those in /proc: nobody is taken for a stranger."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import fastpagemap as fpm
import linux
import memory
import namespaces
import runas
import seccomp
from fastpagemap.cli import collect, processes, targets
from fastpagemap.report.report import SIZES

PAGES = 16
HALF = [False] * (PAGES // 2) + [True] * (PAGES // 2)

pytestmark = pytest.mark.root


def of_oneself(process):
    """What all kinds of questions say of this process's own memory."""
    assert os.getpid() != int(os.readlink("/proc/self"))
    with memory.sparse(PAGES) as made, fpm.PageMap(process) as pm:
        (mapping,) = [m for m in pm.mappings() if m.start <= made.start < m.end]
        snapshot = pm.snapshot()
        (shown,) = [m for m in snapshot.mappings if m.start <= made.start < m.end]
        expected = [page % 3 == 0 for page in range(PAGES)]
        assert shown == mapping
        assert pm.present(made.start, made.end).tolist() == expected
        assert pm.usage([mapping])["present"][0] // linux.PAGE >= sum(expected)
        counted = pm.residency([made.start], [made.end - made.start])["present"][0]
        assert counted == sum(expected) * linux.PAGE
        assert pm.uid == os.getuid()
        return pm.pid, snapshot.pid, snapshot.name


def own_name():
    with open("/proc/self/comm") as file:
        return file.read().strip()


def test_oneself():
    assert namespaces.in_pid_namespace(of_oneself, None) == (1, 1, own_name())


def test_oneself_by_pid():
    assert namespaces.in_pid_namespace(of_oneself, 1) == (1, 1, own_name())


def test_capabilities_of_oneself():
    def ask():
        return fpm.capabilities(os.getpid()) == fpm.capabilities()

    assert namespaces.in_pid_namespace(ask)


@pytest.mark.usefixtures("_write_tracking")
def test_tracking_oneself():
    def ask():
        with memory.touched(PAGES) as made, fpm.WriteTracker(made.start, made.end) as tracker:
            made.write(3, 4)
            return tracker.written().tolist()

    assert namespaces.in_pid_namespace(ask) == [page == 3 for page in range(PAGES)]


def test_a_child():
    def ask():
        with memory.touched(PAGES) as made:
            pid, end = forked(lambda: made.drop(0, PAGES // 2))
            with fpm.PageMap(pid) as pm:
                found = pm.pid == pid, pm.present(made.start, made.end).tolist()
            end()
        return found

    assert namespaces.in_pid_namespace(ask) == (True, HALF)


def forked(change):
    """A child that has changed its memory; its pid, and a function that ends it."""
    (reader, ready), (waiting, writer) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        change()
        os.write(ready, b"x")
        os.read(waiting, 1)
        os._exit(0)
    os.read(reader, 1)

    def end():
        os.close(writer)
        os.waitpid(pid, 0)

    return pid, end


def started():
    """A program that waits, as subprocess shows it."""
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", "input()"], stdin=subprocess.PIPE)


def test_a_program_by_its_object():
    def ask():
        with started() as process:
            with fpm.PageMap(process) as pm:
                stack = [m for m in pm.mappings() if m.path == "[stack]"]
                found = os.fsencode(sys.executable) in pm.snapshot().command.encode()
            process.communicate(b"\n")
        with pytest.raises(ProcessLookupError):
            pm.__init__(process.pid)
        return found, len(stack)

    assert namespaces.in_pid_namespace(ask) == (True, 1)


def test_a_stranger_is_no_process():
    """A number in /proc that no process has here."""
    outside = os.getpid()

    def ask():
        with pytest.raises(ProcessLookupError):
            fpm.PageMap(outside)
        with pytest.raises(ProcessLookupError):
            fpm.capabilities(outside)

    namespaces.in_pid_namespace(ask)


def test_refused_where_it_cannot_be_proved():
    def ask():
        with started() as process:
            try:
                seccomp.refuse(linux.PIDFD_OPEN, 1)
                with pytest.raises(fpm.UnsupportedError, match="another pid namespace"):
                    fpm.PageMap(process)
                assert fpm.PageMap().mappings()
            finally:
                process.communicate(b"\n")

    namespaces.in_pid_namespace(ask)


def test_psutil_means_somebody_in_proc():
    def ask():
        like_psutil = SimpleNamespace(pid=os.getpid(), is_running=lambda: True)
        with pytest.raises(fpm.UnsupportedError, match="another pid namespace"):
            fpm.PageMap(like_psutil)

    namespaces.in_pid_namespace(ask)


def test_a_list_of_processes():
    """Their pids here, with their own names and their own memory; nobody else's."""

    def ask():
        with started() as process:
            pids = processes.processes()
            name = processes.name_of(process.pid)
            found = list(targets.named(name))  # as a command does: before it has a worker
            report = collect.collect_all(pids)
            process.communicate(b"\n")
        assert pids == [1, process.pid]
        assert report.labels["pid"] == pids
        assert report.labels["name"][1] == name
        assert found == [process.pid]
        return name, report.usage[SIZES[0]].size

    expected = os.path.basename(sys.executable)[:15]
    assert namespaces.in_pid_namespace(ask) == (expected, 2)


@pytest.mark.parametrize("process", [None, 1])
def test_where_proc_does_not_show_this_process(process):
    def ask():
        with pytest.raises(FileNotFoundError):
            os.readlink("/proc/self")
        for question in (fpm.PageMap, fpm.capabilities):
            with pytest.raises(fpm.UnsupportedError, match="/proc does not show this process"):
                question(process)

    namespaces.with_anothers_proc(ask)


def test_after_a_fork_into_a_namespace():
    """A PageMap of oneself, made before, follows into it."""

    def ask(pm):
        return pm.pid, len(pm.mappings()) > 0, runas.in_child(lambda: pm.pid)

    with fpm.PageMap() as pm:
        pid, mapped, child = namespaces.in_pid_namespace(ask, pm)
    assert (pid, mapped) == (1, True)
    assert child > 1
