"""``fastpagemap top`` on a screen, and from there to one process and its children."""

import contextlib
import math
import os
import subprocess
import sys

import pytest

import fastpagemap as fpm

pytest.importorskip("textual")

from fastpagemap.cli.watch.census import Census
from fastpagemap.cli.watch.dialogs import Help
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from fastpagemap.cli.watch.top import Top
from fastpagemap.cli.watch.view import Watch
from locked import Locked
from screens import is_ready, on_screen, shown, watching


def topping(roots, scenario, size=(100, 40)):
    return on_screen(Top(Census(0.1, roots)), scenario, size)


async def at(screen, pid):
    """Move to a process once it is in the list."""
    listing = screen.app.screen.listing
    await screen.until(lambda: any(member.pid == pid for member in listing.items))
    listing.select(next(member for member in listing.items if member.pid == pid))


def number(screen, pid, name):
    rows = screen.app.screen.listing._rows
    index = [member.pid for member in rows.items].index(pid)
    return rows.numbers[name][index] if name in rows.numbers else math.nan


@contextlib.contextmanager
def named(name):
    """A process that calls itself something."""
    program = (
        "import sys; open('/proc/self/comm', 'w').write(sys.argv[1]); print(flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, name], **pipes) as process:
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_all_processes(victim):
    async def scenario(screen):
        await at(screen, victim.pid)
        assert "all processes: " in screen.line("what")
        sizes = [
            number(screen, m.pid, "present") for m in screen.app.screen.listing.items if m.seen
        ]
        assert sizes == sorted(sizes, reverse=True)
        with fpm.PageMap(victim.pid) as pagemap:
            assert number(screen, victim.pid, "present") == pagemap.usage()["present"].sum()
        assert f"{victim.pid} " in shown(screen)

    assert topping((), scenario).failure is None


def test_what_happens_is_seen(victim):
    span = victim.make("untouched", 1000)

    async def scenario(screen):
        before = number(screen, victim.pid, "present")
        span.do("write")
        await screen.until(
            lambda: number(screen, victim.pid, "present") >= before + 1000 * fpm.PAGE_SIZE
        )
        await screen.press("space")
        assert "paused" in shown(screen)
        await screen.press("space")
        assert "paused" not in shown(screen)
        victim.kill()
        await screen.until(lambda: not screen.app.screen.listing.items)

    topping([victim.pid], scenario)


def test_enter_watches_a_process(victim):
    async def scenario(screen):
        await at(screen, victim.pid)
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Watch))
        view = screen.app.screen
        await screen.until(lambda: is_ready(view))
        assert view.source.pid == victim.pid
        assert "whole process" in shown(screen)
        await screen.press("question_mark")
        assert isinstance(screen.app.screen, Help)
        await screen.press("escape", "q")
        assert screen.app.screen is screen.view
        worker = view.source._reader._remote._worker
        await screen.until(lambda: worker._over)
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Watch))
        await screen.press("escape", "escape")
        assert screen.app.screen is screen.view
        await screen.press("q")

    assert topping((), scenario).return_code == 0


def test_a_watched_process_and_its_children(victim):
    child = victim.fork()

    async def scenario(screen):
        screen.view.action_processes()
        await screen.press("p")
        await screen.until(lambda: isinstance(screen.app.screen, Top))
        top = screen.app.screen
        assert len(screen.app.screen_stack) == 2
        await screen.until(lambda: len(top.listing.items) == 2)
        assert {member.pid for member in top.listing.items} == {victim.pid, child}
        assert "and its children" in shown(screen)
        await at(screen, child)
        await screen.press("enter")
        await screen.until(lambda: isinstance(screen.app.screen, Watch))
        assert screen.app.screen.source.pid == child
        assert len(screen.app.screen_stack) == 3
        await screen.press("q", "q")
        assert screen.app.screen is screen.view

    try:
        watching(Live(victim.pid, 0.1), scenario)
    finally:
        os.kill(child, 9)


def test_a_snapshot_has_no_children(victim):
    with fpm.PageMap(victim.pid) as pagemap:
        source = SnapshotSource(pagemap.snapshot())

    async def scenario(screen):
        assert "Children" not in shown(screen)
        await screen.press("p")
        assert len(screen.app.screen_stack) == 1

    watching(source, scenario)


def test_searching_names_and_command_lines():
    with named("first-of-all") as one, named("another") as other:

        async def scenario(screen):
            listing = screen.app.screen.listing
            await screen.press("slash", *"first-of", "enter")
            assert listing.selected.pid == one
            await screen.press("slash", *"input() anot", "enter")
            assert listing.selected.pid == other

        topping([one, other], scenario)


def test_a_hostile_name_and_command_line():
    with named("\x1b[31m\n)\u202e") as pid:

        async def scenario(screen):
            assert number(screen, pid, "present")
            assert shown(screen).count("\\x1b[31m\\n)") == 2
            assert not {"\x1b", "\u202e"} & set(shown(screen))

        topping([pid], scenario, (400, 30))


def test_a_long_name_moves_no_column():
    """Escaped, 15 characters may take 60 columns."""
    with named("\x1b" * 15) as pid:

        async def scenario(screen):
            row = next(line for line in shown(screen).splitlines() if f" {pid} " in line)
            head = next(line for line in shown(screen).splitlines() if " command" in line)
            assert row[head.index("command") :].startswith(sys.executable[:20])

        topping([pid], scenario, (200, 30))


def test_columns(victim):
    async def scenario(screen):
        names = screen.view.known_columns()
        for name in ("exclusive", "uss", "threads"):
            await screen.press("f", *["down"] * names.index(name), "space", "escape")
        await screen.until(lambda: number(screen, victim.pid, "uss") > 0)
        assert number(screen, victim.pid, "exclusive") > 0
        assert number(screen, victim.pid, "threads") == 1
        assert "exclusive" in shown(screen)
        await screen.press(*["o"] * 4)
        assert "▾minor/s" in shown(screen)

    topping([victim.pid], scenario)


def test_a_process_that_does_not_answer(victim):
    with Locked(name="it-is-locked") as process:

        async def scenario(screen):
            await at(screen, process.pid)
            process.lock()
            await screen.press("enter")
            # the list says of it, too, that its memory is locked
            await screen.until(lambda: f"process {process.pid} (it-is-locked): " in shown(screen))
            assert screen.app.screen is screen.view
            await at(screen, victim.pid)
            await screen.press("enter")
            await screen.until(lambda: isinstance(screen.app.screen, Watch))

        topping([process.pid, victim.pid], scenario)


def test_a_process_that_has_ended_meanwhile(victim):
    async def scenario(screen):
        await at(screen, victim.pid)
        await screen.press("space")  # it stays in the list
        victim.kill()
        await screen.press("enter")
        await screen.until(lambda: f"process {victim.pid} " in shown(screen))
        assert screen.app.screen is screen.view

    assert topping([victim.pid], scenario).failure is None


def test_a_process_that_ends_just_when_it_is_watched(victim):
    """Only its own view is left."""
    other = victim.fork()

    async def scenario(screen):
        source = Live(other, 0.1)
        os.kill(other, 9)
        screen.view.post_message(Top.Opened(source, 0.1))
        await screen.until(lambda: "no such process" in shown(screen))
        assert screen.app.screen is screen.view

    assert topping([victim.pid], scenario).failure is None


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (200, 50)])
def test_every_size_has_a_head_and_a_row(victim, size):
    async def scenario(screen):
        lines = shown(screen).splitlines()
        assert max(map(len, lines)) <= size[0]
        assert "present" in lines[1]
        assert str(victim.pid) in lines[2]
        assert "python" in lines[2]
        assert ("name (+2)" in lines[1]) == (size[0] == 60)
        await screen.pilot.resize_terminal(40, 10)
        await screen.until(lambda: "too small" in shown(screen))

    topping([victim.pid], scenario, size)
