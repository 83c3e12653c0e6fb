"""usage_of() of what cannot be read, or is no process."""

import gc
import os
import resource

import pytest

import fastpagemap as fpm
import runas


def test_want_of_descriptors_is_nobodys_fault(victim):
    def ask():
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))
        fpm.usage_of([victim.pid], left_out={})

    fpm.usage_of([victim.pid])  # what is found out once takes descriptors, too
    with pytest.raises(OSError, match="Too many open files"):
        runas.in_child(ask)


@pytest.mark.root
def test_those_left_out_keep_no_descriptor(victim):
    pids, left_out = [victim.pid, *(victim.fork() for _ in range(20))], {}

    def ask():
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 10, free + 10))
        gc.disable()
        return len(fpm.usage_of([*pids, os.getpid()], left_out=left_out)), list(left_out)

    assert runas.as_nobody(ask) == (1, pids)


@pytest.mark.parametrize("what", ["sh", b"1", "1", 1.5, None, True, object(), [1]], ids=repr)
def test_what_is_no_process(what):
    for left_out in (None, {}):
        with pytest.raises(TypeError):
            fpm.usage_of([os.getpid(), what], left_out=left_out)


def test_none_is_not_offered_where_it_is_refused():
    with pytest.raises(TypeError) as refused:
        fpm.usage_of([None])
    assert str(refused.value) == (
        "process must be a pid, or an object with a .pid (of a process that was started), not None"
    )


@pytest.mark.parametrize("pid", [0, -1, -(1 << 70)])
def test_what_is_no_pid(pid):
    with pytest.raises(ValueError, match=str(pid)):
        fpm.usage_of([pid], left_out={})


def test_pids_beyond_all_that_there_are():
    beyond, left_out = [1 << 31, 1 << 63, 1 << 70], {}
    assert len(fpm.usage_of(iter(beyond), left_out=left_out)) == 0
    assert list(left_out) == beyond
