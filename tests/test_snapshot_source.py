"""What a snapshot is read from: the process that the PageMap holds, and its maps not twice."""

import collections
import contextlib
import os
import sys

import pytest

import fastpagemap as fpm
import linux
import runas
from victim import Victim

CLONE_NEWPID = 0x20000000
_opened = None


def _note(event, arguments):
    if event == "open" and _opened is not None and isinstance(arguments[0], str):
        _opened[arguments[0]] += 1


@pytest.fixture(scope="module", autouse=True)
def _audit():
    """An audit hook stays for the life of the process: one for all tests here."""
    sys.addaudithook(_note)


@contextlib.contextmanager
def opened_files():
    """Count what is opened meanwhile, by its path."""
    global _opened
    _opened = collections.Counter()
    try:
        yield _opened
    finally:
        _opened = None


def test_the_process_is_not_opened_again():
    """Its pid may be another process's by now."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        pm.snapshot()  # what is probed once is not counted
        with opened_files() as opened:
            pm.snapshot()
    assert opened["maps"]
    assert not [path for path in opened if path.startswith(f"/proc/{victim.pid}")]


def test_maps_are_read_once_for_all_but_the_states():
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        pm.snapshot()
        with opened_files() as by_states:
            pm.states()
        with opened_files() as by_snapshot:
            pm.snapshot()
        own = by_snapshot["/proc/self"]  # capabilities looks at this process as well
    assert by_snapshot["maps"] - own <= by_states["maps"] + 1


@pytest.mark.root
def test_where_the_own_pid_is_anothers():
    """In a pid namespace without a /proc of its own, /proc/1 is the machine's first process."""

    def take():
        assert os.getpid() == 1
        with fpm.PageMap() as pm:
            return pm.snapshot().pid

    def enter():
        linux.call("unshare", CLONE_NEWPID)
        return runas.as_nobody(take)

    assert runas.in_child(enter) == 1
