"""Which process is read: every way to name one, and every way in which it can be gone."""

import multiprocessing
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import memory
import oracle
import runas
from needs import Absent, need
from victim import Victim

PAGES = 16

pytestmark = pytest.mark.usefixtures("_nothing_stays_open")


def test_this_process():
    with memory.touched(PAGES, step=2) as made, fpm.PageMap() as pm:
        assert pm.pid == os.getpid()
        assert pm.present(made.start, made.end).tolist() == [True, False] * (PAGES // 2)


@pytest.mark.parametrize("name", ["int", "numpy", "popen", "object"])
def test_another_process_by_any_name(name):
    with Victim() as victim:
        names = {
            "int": victim.pid,
            "numpy": np.int32(victim.pid),
            "popen": victim._process,
            "object": SimpleNamespace(pid=victim.pid),
        }
        span = victim.make("touched", PAGES)
        with fpm.PageMap(names[name]) as pm:
            assert pm.pid == victim.pid
            assert pm.present(span.start, span.end).all()


def test_a_multiprocessing_process():
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(1000,))
    process.start()
    with fpm.PageMap(process) as pm:
        assert pm.pid == process.pid
        assert pm.mappings()
    process.kill()
    process.join()
    with pytest.raises(ProcessLookupError):
        fpm.PageMap(process)
    process.close()


@pytest.mark.parametrize("pid", [0, -1, -(2**40)])
def test_no_pid_is_not_positive(pid):
    with pytest.raises(ValueError, match=str(pid)):
        fpm.PageMap(pid)


@pytest.mark.parametrize(
    "name", ["self", "1", 1.0, b"1", [1], True, SimpleNamespace(pid=None)], ids=repr
)
def test_what_is_no_process_is_a_type_error(name):
    with pytest.raises(TypeError):
        fpm.PageMap(name)


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31 - 1, 2**31, 2**64, 10**30])
def test_a_pid_that_no_process_can_have(pid):
    with pytest.raises((ProcessLookupError, OverflowError)):
        fpm.PageMap(pid)


def test_gone():
    with Victim() as victim:
        victim.kill()
        with pytest.raises(ProcessLookupError, match=f"/proc/{victim.pid}"):
            fpm.PageMap(victim.pid)
        with pytest.raises(ProcessLookupError):
            fpm.PageMap(victim._process)


@pytest.mark.parametrize("reader", [lambda ask, *a: ask(*a), runas.as_nobody])
def test_a_zombie_is_no_process(reader):
    with Victim() as victim:
        victim.exit()
        with pytest.raises(ProcessLookupError, match=f"/proc/{victim.pid}"):
            reader(fpm.PageMap, victim.pid)


@pytest.mark.parametrize("reader", [lambda ask, *a: ask(*a), runas.as_nobody])
def test_a_kernel_thread_is_no_process(reader):
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    thread = next(filter(linux.is_kernel_thread, pids), 0)
    need(thread, "a kernel thread to be seen", Absent)
    with pytest.raises(ProcessLookupError, match=f"/proc/{thread}"):
        reader(fpm.PageMap, thread)


@pytest.mark.root
def test_another_users_process_is_not_permitted():
    with Victim() as victim, pytest.raises(PermissionError, match=f"/proc/{victim.pid}"):
        runas.as_nobody(fpm.PageMap, victim.pid)


@pytest.mark.root
def test_another_process_of_the_same_user_is_permitted():
    def ask(pid, start, end):
        with fpm.PageMap(pid) as pm:
            return pm.present(start, end).tolist(), len(pm.mappings())

    with Victim(uid=runas.NOBODY) as victim:
        span = victim.make("sparse", PAGES)
        present, mappings = runas.as_nobody(ask, victim.pid, span.start, span.end)
        assert present == [page % 3 == 0 for page in range(PAGES)]
        assert mappings == len(oracle.maps(victim.pid))


@pytest.mark.root
def test_a_process_that_may_not_be_dumped_is_not_permitted_to_itself():
    def ask():
        linux.call("prctl", linux.PR_SET_DUMPABLE, 0)
        fpm.PageMap()

    with pytest.raises(PermissionError, match="dump"):
        runas.as_nobody(ask)


@pytest.mark.parametrize("name", [0, 2**30, "text"])
def test_a_failure_leaves_nothing_open(name):
    with pytest.raises((ValueError, TypeError, OSError)):
        fpm.PageMap(name)
