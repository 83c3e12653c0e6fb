"""``fastpagemap watch`` of a process that locks its memory, or cannot be read any more."""

import os
import signal
import time

import pytest

from locked import Locked

pytest.importorskip("textual")

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.sampling import Live
from screens import watching
from terminal import Terminal

LOCKED = "its memory is locked"


def test_the_view_goes_on():
    """It says so, shows what was seen before, and can be moved through; then it goes on."""
    with Locked() as process:
        live = Live(process.pid, 0.1, timeout=20.0)

        async def scenario(screen):
            seen = screen.view.frame.sample
            process.lock()
            await screen.until(lambda: LOCKED in screen.line("what"))
            assert screen.view.frame.sample.mappings == seen.mappings
            assert "pages seen" in screen.line("what")
            start = screen.mappings.items[1].start
            screen.mappings.select(screen.mappings.items[1])
            await screen.until(lambda: screen.view.frame.request.view.start == start)
            assert screen.picture.area.size
            process.unlock()
            await screen.until(lambda: LOCKED not in screen.line("what"))
            await screen.until(lambda: screen.view.frame.sample.view.start == start)
            assert screen.view.frame.sample.seen > seen.seen

        assert watching(live, scenario).failure is None
        live.close()


@pytest.mark.parametrize("leave", [b"\x03", signal.SIGINT, signal.SIGTERM, b"q"])
def test_it_is_left_at_once(leave):
    with Locked() as process, Terminal(process.pid, "--interval", "0.1") as terminal:
        terminal.read_until(b"whole process")
        process.lock()
        terminal.read_until(b"locked")
        began = time.monotonic()
        assert terminal.leave(leave) == {b"q": 0, signal.SIGTERM: 143}.get(leave, 130)
        assert time.monotonic() - began < 10
        assert terminal.is_sane()


def test_what_is_locked_from_the_beginning_is_one_line():
    with Locked(name="it-is-locked") as process:
        process.lock()
        with Terminal(process.pid, "--timeout", "0.5") as terminal:
            assert terminal.wait() == 1
            said = terminal.written.decode().rstrip()
        name = f"process {process.pid} (it-is-locked)"
        assert said == f"fastpagemap: {name}: no answer within 0.5 s: {LOCKED}"


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_while_it_begins():
    with Locked() as process:
        process.lock()
        with Terminal(process.pid, "--timeout", "1000") as terminal:
            while b"D" not in children_states(terminal.process.pid):
                assert terminal.process.poll() is None
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.wait() == 130


def children_states(pid):
    states = b""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            for child in file.read().split():
                with open(f"/proc/{child}/stat", "rb") as stat:
                    states += stat.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return states


def test_a_failure_is_said_and_got_over(victim, monkeypatch):
    live = Live(victim.pid, 0.01)
    seen = live.sample(View())

    def fail():
        raise errors.pop()

    errors = [MemoryError("1 page"), PermissionError(13, "no more")]
    while errors:
        with monkeypatch.context() as patch:
            patch.setattr(live._reader, "stat", fail)
            failed = live.sample(View())
        assert failed.trouble in ("1 page", "no more")
        assert (failed.mappings, failed.ended) == (seen.mappings, "")
        assert live.sample(View()).trouble == ""


def test_a_worker_that_is_killed(victim):
    live = Live(victim.pid, 0.01, timeout=20.0)
    seen = live.sample(View())
    os.kill(live._reader._remote._worker.pid, signal.SIGKILL)
    ended = live.sample(View())
    assert (ended.ended, ended.runs) == ("can be read no more", seen.runs)
    live.close()


def test_a_process_that_ends_is_told_by_the_worker(victim):
    live = Live(victim.pid, 0.05, timeout=20.0)
    span = victim.make("touched", 64)
    seen = live.sample(View(span.start, span.end))
    assert any(m.start == span.start for m in seen.mappings)
    victim.kill()
    assert "ended" in live.sample(View()).ended
    live.close()
