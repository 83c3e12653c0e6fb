"""`fastpagemap doctor`: what it runs in, and what this kernel and this user can be asked."""

import os
import platform
import re
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import namespaces
import runas
from commandline import run
from compare import while_still
from fastpagemap.process.environment import environment

pytest.importorskip("click")

ORDER = ["fastpagemap", "python", "numpy", "kernel", "system", "user", "container", "swap"]
ORDER += ["huge pages"]


def said(*arguments):
    """The two tables it prints: what it runs in, by name, and what can be asked, as text."""
    done = run("doctor", *arguments)
    machine, _, asked = done.stdout.decode().partition("\n\n")
    table = dict(re.split(r"  +", line, maxsplit=1) for line in machine.splitlines())
    return table, asked, done


def test_doctor():
    for arguments in ((), (os.getpid(),)):
        table, asked, done = said(*arguments)
        assert done.returncode == 0
        assert asked.splitlines() == str(fpm.capabilities()).splitlines()
        assert list(table) == ORDER
        assert table["fastpagemap"] == fpm.__version__
        assert table["numpy"] == np.__version__
        assert table["python"].startswith(f"{platform.python_implementation()} {sys.version[:4]}")
        assert table["kernel"] == f"Linux {os.uname().release}, {os.uname().machine}"
        assert table["user"].startswith(f"{os.geteuid()}, ")


def test_doctor_of_no_process():
    gone = run("doctor", 999_999_999)
    assert (gone.returncode, gone.stdout) == (1, b"")
    assert b"no such process" in gone.stderr


@pytest.mark.usefixtures("any_swap")
def test_swap_is_counted():
    def areas():
        with open("/proc/swaps") as file:
            return [line.split()[:2] for line in file][1:]

    found, answer = while_still(lambda: said()[0]["swap"], areas)
    types = ["zram" if name.startswith("/dev/zram") else kind for name, kind in found]
    assert answer == " ".join(types)


@pytest.mark.root
def test_what_this_user_may():
    may = runas.CAP_SYS_ADMIN, runas.CAP_CHECKPOINT_RESTORE
    user = runas.run_as(lambda: environment()["user"], capabilities=may)
    assert user == f"{runas.NOBODY}, CAP_SYS_ADMIN CAP_CHECKPOINT_RESTORE"
    assert runas.as_nobody(said)[0]["user"] == f"{runas.NOBODY}, no capabilities"


@pytest.mark.root
def test_signs_of_a_container():
    def with_podman():
        linux.call("mount", b"none", b"/run", b"tmpfs", 0, None)
        with open("/run/.containerenv", "w"):
            return said()[0]["container"]

    assert "Podman" in namespaces.in_own_mounts(with_podman)
    inside = namespaces.in_pid_namespace(lambda: said()[0]["container"])
    assert "a pid namespace" in inside


@pytest.mark.root
def test_where_nothing_can_be_asked():
    """That a report tells of such a machine matters most."""

    def without_proc():
        linux.call("mount", b"none", b"/proc", b"tmpfs", 0, None)
        return said()

    table, asked, done = namespaces.in_own_mounts(without_proc)
    assert (done.returncode, asked) == (1, "")
    assert b"/proc does not show this process" in done.stderr
    assert table["swap"] == "unknown"
    assert table["user"] == "0, capabilities unknown"
    assert table["kernel"].startswith("Linux ")
