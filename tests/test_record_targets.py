"""Which processes are recorded: ids, names, descendants, all; and one that does not answer."""

import os
import signal
import subprocess
import time

import pytest

import namesakes
from commandline import run
from fastpagemap.cli.processes import parent_of
from fastpagemap.cli.recorded import Targets, everyone
from fastpagemap.cli.recorder import CREDIT, Budget
from locked import Locked
from recordings import files_in, mapped, record, rows_in
from victim import Victim

pytest.importorskip("pyarrow")


def test_all_of_a_name_also_later_ones(tmp_path):
    with namesakes.namesakes(tmp_path) as start:
        first = start("a")
        chosen = Targets([namesakes.NAME], tree=False)
        assert chosen() == [first.pid]
        second = start("b")
        assert chosen() == sorted([first.pid, second.pid])
        for process in (first, second):
            process.kill()
            process.wait()
        assert chosen() == []  # there may be some again


def test_an_id_is_of_one_process(victim):
    with Victim() as other:
        chosen = Targets([str(victim.pid), str(other.pid)], tree=False)
        assert chosen() == sorted([victim.pid, other.pid])
        other.kill()
        assert chosen() == [victim.pid]
        victim.kill()
        assert chosen() is None


def test_who_is_no_process(tmp_path):
    with pytest.raises(ProcessLookupError, match="no process"):
        Targets([namesakes.NAME], tree=False)


def test_a_name_is_first_of_a_process_that_runs(tmp_path):
    """The help says so to whoever wants to record a server from its start on."""
    pytest.importorskip("click")
    said = run("record", namesakes.NAME, "-o", tmp_path / "files")
    assert (said.returncode, said.stdout) == (1, b"")
    assert b"no process is called" in said.stderr
    text = " ".join(run("record", "--help").stdout.decode().split())
    assert "But one of them has to run when the recording begins." in text


def test_descendants_also_orphans():
    """A child of a child goes on once its parent has ended, and is still recorded."""
    program = "(sleep 600 & echo $!; exec sleep 600) & echo $!; exec sleep 600"
    with subprocess.Popen(["sh", "-c", program], stdout=subprocess.PIPE, text=True) as root:
        child, grandchild = sorted(int(root.stdout.readline()) for _ in range(2))
        try:
            chosen = Targets([str(root.pid)], tree=True)
            assert chosen() == sorted([root.pid, child, grandchild])
            assert Targets([str(root.pid)], tree=False)() == [root.pid]
            root.kill()
            root.wait()
            assert chosen() == [child, grandchild]
        finally:
            root.kill()
            for pid in (child, grandchild):
                os.kill(pid, signal.SIGKILL)


def test_all_but_the_recorder(victim, tmp_path):
    me = os.getpid()
    assert me not in everyone()

    def children():
        return [pid for pid in everyone() if parent_of(pid) == me]

    before = set(children())  # other tests may have left some
    assert victim.pid in before
    recorder = record(tmp_path, children, time.time)
    assert {pid for pid, _ in recorder.seen} == before  # and not the worker


def test_one_that_does_not_answer_is_not_gone(victim, tmp_path):
    span = victim.make("untouched", 10)
    with Locked() as locked:
        pids = [locked.pid, victim.pid]
        steps = [locked.lock, lambda: span.do("write", 0, 5)]
        recorder = record(tmp_path, pids, *steps, timeout=0.5)
        (path,) = files_in(tmp_path)
        found = mapped(rows_in(path))
        assert {key[0] for key in found} == set(pids)
        assert "its memory is locked" in recorder.refused[locked.pid]
        assert len(recorder.seen) == 2


def test_what_readings_may_cost():
    budget = Budget(interval=1.0, share=0.01)
    assert budget.next(1000.0, 0.005) == 1001.0
    # what was saved up is used, and then waited for
    assert budget.next(1001.0, CREDIT * 0.01) == pytest.approx(1002.0, abs=0.6)
    assert budget.next(1002.0, 1.0) == pytest.approx(1101.0, abs=2.0)
