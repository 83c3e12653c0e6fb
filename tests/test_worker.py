"""The worker of the command line: a child that answers, and can be given up."""

import errno
import os
import resource
import select
import signal
import subprocess
import sys
import time

import pytest

import linux
import runas
from fastpagemap import UnsupportedError
from fastpagemap.cli import asking, worker
from fastpagemap.cli.worker import Here, NoAnswer, Worker, WorkerEnded
from locked import Locked


@pytest.fixture
def working():
    """Make a worker of a function; it is given up in the end."""
    made = []

    def make(function):
        made.append(Worker(function))
        return made[-1]

    yield make
    for one in made:
        one.give_up()


def ask(worker, question, seconds=20.0):
    worker.send(question)
    return worker.receive(seconds)


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def test_answers_come_in_the_order_of_the_questions(working):
    doubling = working(lambda number: (os.getpid(), 2 * number))
    for number in range(100):
        doubling.send(number)
    assert [doubling.receive(20) for _ in range(100)] == [(doubling.pid, 2 * n) for n in range(100)]
    assert doubling.pid != os.getpid()


def test_an_answer_larger_than_a_pipe(working):
    assert ask(working(bytes), 30 << 20) == bytes(30 << 20)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "it says why", "/a/path"),
        ProcessLookupError(errno.ESRCH, "gone", b"/proc/1"),
        UnsupportedError(errno.EOPNOTSUPP, "no such thing"),
        MemoryError("4 pages"),
        ValueError("no"),
    ],
)
def test_an_exception_is_raised_here(working, error):
    def fail(question):
        raise error

    with pytest.raises(type(error)) as raised:
        ask(working(fail), None)
    assert (str(raised.value), raised.value.args) == (str(error), error.args)


def test_an_exception_that_cannot_be_pickled_is_told(working):
    class OwnError(Exception):
        pass

    def fail(question):
        raise OwnError("its text")

    with pytest.raises(RuntimeError, match="OwnError: its text"):
        ask(working(fail), None)


def test_what_only_waits_is_given_up(working):
    sleeping = working(time.sleep)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"^\[Errno 110\] no answer within 0.2 s: "):
        ask(sleeping, 1000, 0.2)
    sleeping.give_up()
    assert time.monotonic() - began < 10
    assert runas.in_child(worker.left_behind) == 0  # it is no child of this process's child
    while worker.left_behind():  # it ends now, and only then it is reaped
        os.sched_yield()


def test_what_works_is_waited_for(working, monkeypatch):
    """Longer than the time-out, but not for ever."""
    spinning = working(spin)
    monkeypatch.setattr(worker, "MAX_BUSY_FACTOR", 1000)
    assert ask(spinning, 1.0, 0.5) == 1.0
    monkeypatch.setattr(worker, "MAX_BUSY_FACTOR", 2)
    with pytest.raises(NoAnswer, match="not read within 1 s"):
        ask(spinning, 1000, 0.5)


def test_a_late_answer_can_still_be_had(working):
    late = working(lambda question: question)
    os.kill(late.pid, signal.SIGSTOP)
    late.send("answer")
    with pytest.raises(NoAnswer):
        late.receive(0.1)
    os.kill(late.pid, signal.SIGCONT)
    assert late.receive(20) == "answer"


def test_an_answer_that_comes_just_when_the_time_is_up(working, monkeypatch):
    """Who has answered waits as well: for a question."""
    late = working(lambda question: question)

    def answered(self):
        os.kill(self.pid, signal.SIGCONT)
        select.select([self._answers], [], [])
        return False

    os.kill(late.pid, signal.SIGSTOP)
    monkeypatch.setattr(Worker, "_is_runnable", answered)
    assert ask(late, "answer", 0.1) == "answer"


def test_a_worker_that_is_killed_is_told(working):
    def end(number):
        os.kill(os.getpid(), number)

    with pytest.raises(WorkerEnded, match=r"ended by signal 9 \(out of memory\?\)"):
        ask(working(end), signal.SIGKILL)
    with pytest.raises(WorkerEnded, match="ended by signal 11"):
        ask(working(end), signal.SIGSEGV)


def test_a_worker_holds_nothing_of_its_parent(working, tmp_path):
    """A pipe's reader would wait for it; the terminal would be kept busy."""

    def look(question):
        links = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(200) if _is_open(fd)}
        with open("/proc/self/oom_score_adj") as file:
            score = int(file.read())
        return links, os.getsid(0), score, resource.getrlimit(resource.RLIMIT_AS)[0]

    with open(tmp_path / "file", "w") as file:
        os.dup2(file.fileno(), 150)
        try:
            links, session, score, limit = ask(one := working(look), None)
        finally:
            os.close(150)
    assert {fd for fd, link in links.items() if link.startswith("pipe:")} == set(links) - {0, 1, 2}
    assert len(links) == 5
    assert {links[fd] for fd in (0, 1, 2)} == {"/dev/null"}
    assert session == one.pid
    assert score == 1000
    assert limit < linux.meminfo("MemAvailable") + (1 << 44)


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_the_kernel_does_not_let_go_is_left_behind():
    """A worker that SIGKILL does not end keeps no one waiting, not even at exit."""
    program = (
        "import os, sys; from fastpagemap.cli import worker; w = worker.Worker(os.stat)\n"
        "w.send(sys.argv[1])\n"
        "try:\n    w.receive(0.5)\nexcept worker.NoAnswer as error:\n    print(error.strerror)\n"
        "w.give_up(); print(w.pid, worker.left_behind())"
    )
    with Locked() as process:
        command = [sys.executable, "-c", program, process.slow]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        said, left = done.stdout.splitlines()
        pid, count = map(int, left.split())
        assert (done.returncode, done.stderr, count) == (0, "", 1)
        assert said.startswith("no answer within 0.5 s: a file that it has mapped or opened does")
        assert linux.is_running(pid)
    deadline = time.monotonic() + 60
    while linux.is_running(pid):
        assert time.monotonic() < deadline


def test_a_worker_ends_with_its_parent():
    program = (
        "import os, signal; from fastpagemap.cli.worker import Worker; w = Worker(len)\n"
        "w.send('123'); assert w.receive(20) == 3; print(w.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while linux.is_running(int(done.stdout)):
        assert time.monotonic() < deadline


def test_who_may_have_no_more_processes_is_answered_here():
    def nobody():
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return type(worker.started(len, 1.0)) is Here, asking.about(5, lambda pid: pid + 1, 1.0)

    assert runas.as_nobody(nobody) == (True, 6) or os.geteuid() != 0


def test_ends_of_children_may_be_ignored():
    """Then the kernel would reap the worker, and could give its pid away before it is killed."""
    program = (
        "import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from fastpagemap.cli.worker import Worker, WorkerEnded; w = Worker(os._exit)\n"
        "w.send(7)\n"
        "try:\n    w.receive(20)\nexcept WorkerEnded as error:\n    print(error.strerror)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("the process that read it ended by exit code 7\n", "")


# ---- asking -------------------------------------------------------------------------------------


def test_one_that_fails_keeps_no_other_from_it():
    def answer(pid):
        if pid == 3:
            raise MemoryError
        if pid == 5:
            time.sleep(1000)
        if pid == 7:
            os.abort()
        if pid == 9:
            raise OverflowError("too much")
        return os.getpid()

    outcomes = dict(asking.each(iter(range(40)), answer, 0.3))
    assert list(outcomes) == list(range(40))
    failed = {pid: type(one) for pid, one in outcomes.items() if not isinstance(one, int)}
    assert failed == {3: MemoryError, 5: NoAnswer, 7: WorkerEnded, 9: OverflowError}
    # whoever has run out of memory, or is given up, is replaced
    assert len({one for one in outcomes.values() if isinstance(one, int)}) == 4
    assert os.getpid() not in outcomes.values()


def test_many_that_do_not_answer_share_a_time():
    began = time.monotonic()
    outcomes = list(asking.each(range(40), lambda pid: time.sleep(1000), 0.5))
    assert time.monotonic() - began < 40 * 0.5
    assert all(isinstance(one, NoAnswer) for _, one in outcomes)
    assert str(outcomes[0][1]) != str(outcomes[-1][1])


def test_only_so_many_are_left_behind(monkeypatch):
    monkeypatch.setattr(asking, "left_behind", lambda: asking.MAX_LEFT_BEHIND)
    assert [str(one) for _, one in asking.each([1, 2], len, 0.5)] == [
        "[Errno 110] not read: 32 readers of other processes still wait"
    ] * 2


def test_an_object_is_asked_again_and_again():
    class Counter:
        count = 0

        def add(self, number):
            self.count += number
            return self.count

        def sleep(self):
            time.sleep(2)  # longer than a busy machine lets the other process rest

        def fail(self):
            raise KeyError("no")

    remote = asking.Remote(Counter, 20.0)
    assert [remote.call("add", number) for number in (1, 2, 3)] == [1, 3, 6]
    with pytest.raises(KeyError):
        remote.call("fail")
    with pytest.raises(NoAnswer, match="no answer within 0"), asking.naming(os.getpid()):
        remote.call("sleep", seconds=0.05)
    assert remote.call("add", 1) == 7  # once the call before has returned
    assert remote.spent > 0
    remote.close()
