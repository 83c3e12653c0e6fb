"""Objects that stand for a process: what they know of its end is asked, before its pid is read."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import fastpagemap as fpm
from reused import process_with
from victim import Victim

PROGRAM = [sys.executable, "-S", "-E", "-c", "input()"]

pytestmark = pytest.mark.usefixtures("_nothing_stays_open")


@pytest.mark.root
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork, if there are threads
def test_a_joined_multiprocessing_process_whose_pid_is_anothers(method):
    ended = multiprocessing.get_context(method).Process(target=int)
    ended.start()
    ended.join()
    with process_with(ended.pid) as other:
        assert fpm.PageMap(other).mappings()
        for question in (fpm.PageMap, fpm.capabilities):
            with pytest.raises(ProcessLookupError, match="has ended"):
                question(ended)
        other.communicate(b"\n")
    ended.close()


@pytest.mark.root
def test_a_pagemap_whose_pid_is_anothers():
    """It holds its process open, and its pid means no other."""
    with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE) as ended, fpm.PageMap(ended.pid) as pm:
        assert fpm.usage_of([pm])["pid"].tolist() == [ended.pid]
        ended.communicate(b"\n")
        with process_with(ended.pid) as other:
            left_out = {}
            assert len(fpm.usage_of([pm], left_out=left_out)) == 0
            assert list(left_out) == [other.pid]
            assert fpm.usage_of([pm, other, pm], left_out=left_out)["pid"].tolist() == [other.pid]
            assert not left_out
            for question in (fpm.PageMap, fpm.capabilities, fpm.usage_of):
                with pytest.raises(ProcessLookupError):
                    question(pm)
            other.communicate(b"\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_multiprocessing_process_that_lives(method):
    context = multiprocessing.get_context(method)
    held = context.Event()
    process = context.Process(target=held.wait)
    process.start()
    with fpm.PageMap(process) as pm:
        assert pm.pid == process.pid
        assert pm.mappings()
    held.set()
    process.join()
    process.close()
    with pytest.raises(ValueError, match="closed"):
        fpm.PageMap(process)


def test_this_process_as_multiprocessing_shows_it():
    with fpm.PageMap(multiprocessing.current_process()) as pm:
        assert pm.pid == os.getpid()


def ended_by(**attributes):
    """An object of this process's pid, of which it claims to have ended."""
    return SimpleNamespace(pid=os.getpid(), **attributes)


@pytest.mark.parametrize(
    "attributes",
    [{"returncode": 0}, {"exitcode": -9}, {"terminated": True}, {"is_running": lambda: False}],
    ids=str,
)
def test_an_object_that_knows(attributes):
    with pytest.raises(ProcessLookupError, match="has ended"):
        fpm.PageMap(ended_by(**attributes))


def test_an_object_that_does_not_know_of_an_end():
    known = {"returncode": None, "exitcode": None, "terminated": False, "is_running": lambda: True}
    assert fpm.PageMap(ended_by(**known)).mappings()


def test_a_sentinel():
    reader, writer = os.pipe()
    process = ended_by(sentinel=reader)
    assert fpm.PageMap(process).mappings()
    os.close(writer)
    with pytest.raises(ProcessLookupError, match="has ended"):
        fpm.PageMap(process)
    os.close(reader)


class EndsMeanwhile:
    """Its process is waited for after it was asked for the first time."""

    def __init__(self):
        self.pid = os.getpid()
        self.asked = 0

    @property
    def returncode(self):
        self.asked += 1
        return 0 if self.asked > 1 else None


@pytest.mark.parametrize("question", [fpm.PageMap, fpm.capabilities])
def test_an_end_while_it_is_opened(question):
    with pytest.raises(ProcessLookupError, match="has ended"):
        question(EndsMeanwhile())


def test_a_popen_that_others_have_waited_for():
    """It says it runs, and its pid is that of a process that is no child of this one."""
    with Victim() as victim, subprocess.Popen(PROGRAM, stdin=subprocess.PIPE) as process:
        assert fpm.PageMap(process).mappings()
        real, process.pid = process.pid, victim.fork()
        with pytest.raises(ProcessLookupError, match="has ended"):
            fpm.PageMap(process)
        process.pid = real
        process.communicate(b"\n")


def test_a_popen_that_waits_to_be_waited_for():
    """Asking does not wait for it in its owner's place."""
    with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE) as process:
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            fpm.PageMap(process)
        assert os.waitpid(process.pid, 0)[0] == process.pid
        process.returncode = 1


def test_a_process_of_asyncio():
    async def ask():
        process = await asyncio.create_subprocess_exec(*PROGRAM, stdin=asyncio.subprocess.PIPE)
        with fpm.PageMap(process) as pm:
            assert pm.pid == process.pid
        # As if a thread had waited for it, and the loop had not told its object yet.
        with Victim() as stranger:
            real, process.pid = process.pid, stranger.fork()
            with pytest.raises(ProcessLookupError, match="has ended"):
                fpm.PageMap(process)
            process.pid = real
        await process.communicate(b"\n")
        with pytest.raises(ProcessLookupError):
            fpm.PageMap(process)

    asyncio.run(ask())
