"""The processes that ``fastpagemap top`` samples, without a screen."""

import contextlib
import math
import os
import subprocess
import sys
import time

import pytest

import fastpagemap as fpm
import runas
from fastpagemap.cli.watch.census import LOOKS_SHARE, Census
from fastpagemap.cli.worker import left_behind
from fastpagemap.process import stat
from locked import Locked
from victim import parted

PAGE = fpm.PAGE_SIZE


@contextlib.contextmanager
def census(roots=(), interval=0.05, **options):
    made = Census(interval, roots, **options)
    try:
        yield made
    finally:
        made.close()


def until(made, condition):
    """Sample again and again until what is seen is as expected; return the members by pid."""
    end = time.monotonic() + 30
    while True:
        members = {member.pid: member for member in made.sample()}
        if not made.unfinished and condition(members):
            return members
        assert time.monotonic() < end, members
        time.sleep(0.01)


def all_seen(members):
    return members and all(member.seen for member in members.values())


def sums(pid, *fields):
    with fpm.PageMap(pid) as pagemap:
        usage = pagemap.usage(fields=fields)
        return {name: int(usage[name].sum()) for name in fields}


def test_what_the_kernel_says(victim):
    about = stat.read(victim.pid)
    with open(f"/proc/{victim.pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines())
    assert about.name == status["Name"]
    assert about.parent == int(status["PPid"]) == os.getpid()
    assert about.threads == int(status["Threads"])
    assert about.size == int(status["VmSize"].split()[0]) << 10
    assert not about.is_kernel_thread
    assert stat.read(999_999_999) is None
    name = b"4 (a) S 1 (b) ) S 7 " + b" ".join(b"%d" % number for number in range(5, 53))
    assert stat.parse(name)[:2] == ("a) S 1 (b) ", 7)
    assert stat.parse(name)[3:] == (10, 12, 20, 22, 23, 24)
    with pytest.raises(ValueError, match="no content"):
        stat.parse(b"")


def test_the_sizes_are_those_of_usage(victim):
    victim.make("touched", 1000)
    victim.make("shared_anonymous", 500)
    fields = ("present", "shared", "swapped")
    with census([victim.pid], fields=fields) as made:
        found = until(made, all_seen)
    assert list(found) == [victim.pid]
    assert found[victim.pid].seen.sizes == sums(victim.pid, *fields)
    assert sys.executable in found[victim.pid].seen.command
    assert found[victim.pid].uid == os.geteuid()


def test_a_family(victim):
    """Children come and go; one whose parent has ended stays."""
    with census([victim.pid]) as made:
        until(made, all_seen)
        child = victim.fork()
        found = until(made, lambda members: child in members and all_seen(members))
        assert set(found) == {victim.pid, child}
        assert found[child].about.parent == victim.pid
        os.kill(child, 9)
        until(made, lambda members: set(members) == {victim.pid})


def test_a_child_whose_parent_has_ended():
    program = "import os, time; print(os.fork() or time.sleep(1000), flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        try:
            with census([parent.pid]) as made:
                until(made, lambda members: set(members) == {parent.pid, child})
                parent.kill()
                parent.wait()
                until(made, lambda members: set(members) == {child})
        finally:
            os.kill(child, 9)


def test_all_processes(victim):
    with census() as made:
        found = until(made, lambda members: members.get(victim.pid) and members[victim.pid].seen)
    assert os.getpid() in found
    assert list(found) == sorted(found)
    assert not any(member.about.is_kernel_thread for member in found.values())


def test_who_changes_is_looked_at_again(victim):
    span = victim.make("untouched", 1000)
    with census() as made:
        before = until(made, lambda members: members.get(victim.pid) and members[victim.pid].seen)
        before = before[victim.pid].seen.sizes["present"]
        span.do("write")
        until(made, lambda m: m[victim.pid].seen.sizes["present"] >= before + 1000 * PAGE)


def test_who_has_changed_is_known_without_looking(victim):
    span = victim.make("untouched", 10)
    with census([victim.pid]) as made:
        found = until(made, lambda m: all_seen(m) and m[victim.pid].minor == 0)[victim.pid]
        found.changed = False
        made._list(time.monotonic())
        assert not found.changed
        span.do("write")
        made._list(time.monotonic())
        assert found.changed
        assert found.minor > 0


def test_columns_chosen_later():
    with parted() as victim, census([victim.pid]) as made:
        until(made, all_seen)
        made.fields = ("exclusive",)
        found = until(made, lambda members: "exclusive" in members[victim.pid].seen.sizes)
        assert found[victim.pid].seen.sizes == sums(victim.pid, "exclusive")
        assert set(made.fields) <= set(made.columns)


def test_columns_hidden_later(victim):
    """Nobody is looked at for that; without any, what has no bytes is still known."""
    with census([victim.pid], fields=("present", "pss", "uss")) as made:
        found = until(made, all_seen)[victim.pid]
        assert found.seen.sizes["present"] >= found.seen.sizes["pss"] > found.seen.sizes["uss"] > 0
        when, found.not_before, found.changed = found.when, math.inf, False
        made.fields = ("present",)
        assert until(made, all_seen)[victim.pid].when == when
        made.fields = ("pss",)
        assert until(made, all_seen)[victim.pid].when > when
    with census([victim.pid], fields=()) as made:
        found = until(made, all_seen)[victim.pid]
        assert found.seen.sizes == {}
        assert found.seen.mappings > 0


@pytest.mark.parametrize("fields", [("present", "swapped"), ("present", "pss", "uss")])
def test_looking_has_a_budget(fields):
    with census(interval=0.02, fields=fields) as made:
        until(made, lambda members: True)
        began, before = time.monotonic(), made._asking.spent
        while time.monotonic() - began < 3:
            made.sample()
            time.sleep(0.02)
        spent, passed = made._asking.spent - before, time.monotonic() - began
        dearest = max(member.seen.cost for member in made.sample() if member.seen)
    # What was looked at last may not be paid for yet: a process, or as many as are asked at once.
    assert spent < passed * LOOKS_SHARE + 4 * dearest + 0.05


def test_not_everyone_is_looked_at_at_once():
    """Only in the beginning: later, as many as the budget of an interval has room for."""
    with census(interval=0.001) as made:
        first = until(made, lambda members: True)
        time.sleep(0.1)
        for member in first.values():
            member.not_before = 0.0
        began = time.monotonic()
        assert sum(member.when >= began for member in made.sample()) <= 1


def test_a_process_that_does_not_answer(victim):
    """It is said, and it holds up no other for longer than a second or so."""
    span = victim.make("untouched", 100)
    with Locked(name="it-is-locked") as process:
        process.lock()
        with census([process.pid, victim.pid]) as made:
            found = until(made, lambda members: members[process.pid].refused)
            assert "its memory is locked" in found[process.pid].refused
            assert found[process.pid].about.name == "it-is-locked"
            before = until(made, lambda members: members[victim.pid].seen)
            before = before[victim.pid].seen.sizes["present"]
            began = time.monotonic()
            span.do("write")
            until(made, lambda m: m[victim.pid].seen.sizes["present"] >= before + 100 * PAGE)
            assert time.monotonic() - began < 10


@pytest.mark.root
def test_a_process_that_may_not_be_looked_at(victim):
    def as_nobody():
        with census([victim.pid]) as made:
            found = until(made, lambda members: members[victim.pid].refused)[victim.pid]
            return found.refused, found.seen, found.about.name, found.uid

    refused, seen, name, uid = runas.as_nobody(as_nobody)
    assert (refused, seen, uid) == ("not permitted", None, 0)
    assert name == stat.read(victim.pid).name


def test_a_process_that_cannot_be_named_is_not_there():
    with census([999_999_999]) as made:
        assert made.sample() == []


def test_nothing_is_left_behind(victim):
    with census([victim.pid]) as made:
        until(made, all_seen)
        worker = made._asking._worker
    for name in ("exclusive", "shared"):
        made.fields = (name,)
        made.sample()  # a thread that is still at it starts no other
    assert made._asking._worker in (None, worker)
    end = time.monotonic() + 20
    while os.path.exists(f"/proc/{worker.pid}"):
        left_behind()  # notes who has ended
        assert time.monotonic() < end
