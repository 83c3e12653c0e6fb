"""A /proc that does not show what there is: it is said what is missing, and why."""

import os
import signal
import subprocess
import sys

import pytest

import fastpagemap as fpm
import linux
import memory
import runas
from fastpagemap.process.process import Process
from victim import Victim

pytestmark = pytest.mark.root

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE = 2, 19


def in_own_mounts(function):
    """Call a function in a child that mounts for itself alone."""

    def child():
        linux.call("unshare", _CLONE_NEWNS)
        linux.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        return function()

    return runas.in_child(child)


def command(*arguments):
    """What the command line says: exit code, and the last line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "fastpagemap", *arguments], capture_output=True, text=True
    )
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def said(ask):
    """The exception that asking raises, as its type and its text."""
    try:
        ask()
    except OSError as error:
        return type(error), str(error)
    raise AssertionError("it was answered")


def test_no_pagemap():
    """As in gVisor, and in kernels without CONFIG_PROC_PAGE_MONITOR."""

    def ask():
        names = ("maps", "statm", "comm", "cmdline", "status")
        content = {name: open(f"/proc/self/{name}", "rb").read() for name in names}  # noqa: SIM115
        me = os.getpid()
        linux.call("mount", b"none", b"/proc", b"tmpfs", 0, None)
        os.mkdir(f"/proc/{me}")
        for name in names:
            with open(f"/proc/{me}/{name}", "wb") as file:
                file.write(content[name])
        os.symlink(str(me), "/proc/self")
        asked = (fpm.PageMap, fpm.capabilities, lambda: fpm.PageMap(me), lambda: fpm.PageMap(2**22))
        return [said(ask) for ask in asked]

    *answers, other = in_own_mounts(ask)
    for kind, text in answers:
        assert kind is fpm.UnsupportedError
        assert "no pagemap" in text
        assert "gVisor" in text
    assert other[0] is ProcessLookupError


def test_no_proc():
    def ask():
        linux.call("mount", b"none", b"/proc", b"tmpfs", 0, None)
        asked = (fpm.PageMap, fpm.capabilities, lambda: fpm.PageMap(1), lambda: fpm.PageMap(2**22))
        codes = [command(*line.split())[0] for line in ("doctor", "report 1", "report sshd")]
        return [said(ask) for ask in asked], codes, fpm.span(bytearray(9))[1] > 0

    answers, codes, works = in_own_mounts(ask)
    for kind, text in answers:
        assert kind is fpm.UnsupportedError
        assert "/proc does not show this process: it is not mounted" in text
    assert codes == [1, 1, 1]
    assert works


@pytest.mark.parametrize("option", ["hidepid=1", "hidepid=2"])
def test_a_process_that_proc_hides(option):
    """hidepid: other users' processes are there, and not in /proc, or closed."""

    def ask():
        linux.call("mount", b"proc", b"/proc", b"proc", 0, option.encode())
        runas.become(runas.NOBODY)
        own = fpm.PageMap().usage()["present"].sum() > 0
        return said(lambda: fpm.PageMap(victim.pid)), said(lambda: fpm.PageMap(2**22)), own

    with Victim() as victim:
        hidden, none, own = in_own_mounts(ask)
    assert hidden[0] is PermissionError
    assert "hidepid" in hidden[1]
    assert none[0] is ProcessLookupError
    assert own


def test_pids_alone():
    """As under systemd's ProcSubset=pid: no meminfo, swaps, mounts."""

    def ask():
        linux.call("mount", b"proc", b"/proc", b"proc", 0, b"subset=pid")
        assert not os.path.exists("/proc/meminfo")
        with memory.touched(9) as made, fpm.PageMap() as pm:
            masks = pm.masks(made.start, made.end)
            assert pm.present(made.start, made.end).all()
            assert not masks.shared.any()
            assert not masks.unknown.any()
            assert pm.snapshot().usage()["present"].sum() > 0
            assert fpm.capabilities().scan == known.scan
        return command("report", str(os.getpid()))[0]

    known = fpm.capabilities()
    assert in_own_mounts(ask) == 0


def test_no_sys():
    def ask():
        linux.call("mount", b"none", b"/sys", b"tmpfs", 0, None)
        with memory.touched(9) as made, fpm.PageMap() as pm:
            assert pm.present(made.start, made.end).all()
            return fpm.capabilities() == known

    known = fpm.capabilities()
    assert in_own_mounts(ask)


@pytest.mark.parametrize("name", ["", "/pagemap", "/maps", "/smaps"])
def test_what_is_mounted_over(name, tmp_path):
    """So processes are hidden, by the directory of another one or by an empty file."""

    def ask():
        path, file = f"/proc/{victim.pid}{name}", tmp_path / "file"
        file.touch()
        over = os.fsencode(file) if name else f"/proc/{os.getppid()}".encode()
        linux.call("mount", over, path.encode(), None, _MS_BIND, None)
        return path, said(lambda: Process(victim.pid).read("smaps"))

    with Victim() as victim:
        path, (kind, text) = in_own_mounts(ask)
    assert kind is fpm.UnsupportedError
    assert path in text
    assert "mounted over it" in text


@pytest.mark.parametrize(
    ("capabilities", "may"),
    [
        ([], False),
        ([CAP_SYS_PTRACE], False),
        ([CAP_DAC_READ_SEARCH], False),
        ([CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH], True),
    ],
)
def test_what_another_users_process_needs(capabilities, may):
    """Both capabilities: the message names them."""

    def ask():
        return int(fpm.PageMap(victim.pid).usage()["present"].sum())

    with Victim() as victim:
        if may:
            assert runas.run_as(ask, capabilities=capabilities)
            return
        with pytest.raises(PermissionError, match="CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"):
            runas.run_as(ask, capabilities=capabilities)


def test_a_process_that_ends_is_not_missing_anything():
    """However it is met: before, while or after it becomes a zombie."""
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        try:
            fpm.PageMap(pid).usage()
        except ProcessLookupError:
            pass
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
