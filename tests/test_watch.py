"""``fastpagemap watch`` on a screen, driven by textual's own pilot and by a terminal."""

import asyncio
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest

import fastpagemap as fpm
from victim import Victim

pytest.importorskip("textual")

from fastpagemap.cli.watch.app import Watch
from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.cells import Cells, Legend, Line
from fastpagemap.cli.watch.dialogs import Help, Range
from fastpagemap.cli.watch.mappings import Mappings
from fastpagemap.cli.watch.sampling import Live, SnapshotSource
from fastpagemap.report import palette

COMMAND = [sys.executable, "-m", "fastpagemap", "watch"]


@pytest.fixture
def victim():
    with Victim() as victim:
        yield victim


class Screen:
    """The app, and what is on its screen."""

    def __init__(self, app, pilot):
        self.app, self.pilot, self.press = app, pilot, pilot.press
        self.rates = set()  # all that was said of them

    def line(self, name):
        return self.app.screen_stack[0].query_one(f"#{name}", Line)._text.plain

    @property
    def mappings(self):
        return self.app.screen_stack[0].query_one(Mappings)

    @property
    def picture(self):
        return self.app.screen_stack[0].query_one(Cells).picture

    def count(self, key):
        """How many cells show a state."""
        return self.picture.cells.tolist().count(palette.KEYS.index(key))

    async def until(self, condition):
        """Wait for something to be seen."""
        end = time.monotonic() + 20
        while not condition():
            self.rates.add(self.line("rates"))
            assert time.monotonic() < end, "it never came"
            await self.pilot.pause(0.02)
        self.rates.add(self.line("rates"))

    def told(self, pattern):
        """Whether the rates said so at any time."""
        return any(re.search(pattern, line) for line in self.rates)

    async def select(self, start):
        """Select a mapping, and wait until it is looked at."""
        await self.until(lambda: any(m and m.start == start for m, _ in self.mappings._rows))
        self.mappings.select(next(m for m, _ in self.mappings._rows if m and m.start == start))
        await self.until(lambda: self.app.frame.sample.view.start == start)


def watching(source, scenario, size=(100, 40), interval=0.1):
    """Run a scenario on a screen."""

    async def run():
        app = Watch(source, interval, characters=True)
        async with app.run_test(size=size, notifications=True) as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: app.frame and app.frame.request == app._request())
            await scenario(screen)
        return app

    return asyncio.run(run())


# ---- a live process ----------------------------------------------------------------------------


def test_cells_change_with_the_memory(victim):
    span = victim.make("untouched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        assert screen.count("untouched") == 64
        span.do("write", 0, 16)
        await screen.until(lambda: screen.count("present") == 16)
        assert screen.told(r"in [1-9][\d.]*[KM]?i?/s")
        row = screen.mappings._rows[screen.mappings._cursor]
        assert row[0].start == span.start
        await screen.until(lambda: screen.mappings._rows[screen.mappings._cursor][1][1] == 65536)

    watching(Live(victim.pid, 0.1), scenario)


def test_swapping_is_seen(victim, any_swap):
    private, shared = victim.make("touched", 64), victim.make("shared_anonymous", 64)

    async def scenario(screen):
        for span, key in ((private, "swapped"), (shared, "swapped_shared")):
            await screen.select(span.start)
            assert screen.count(key) == 0
            victim.pageout(span)
            await screen.until(lambda key=key: screen.count(key) == 64)
            assert screen.told(r"out [1-9][\d.]*[KM]?i?/s")
            assert re.search(r"swapped.*256Ki", str(screen.app.query_one(Legend).render()))

    watching(Live(victim.pid, 0.1), scenario)


def test_what_cannot_be_known_is_said(victim):
    async def scenario(screen):
        known = fpm.capabilities().soft_dirty
        await screen.until(lambda: ("not known here" in screen.line("rates")) != known)

    watching(Live(victim.pid, 0.1), scenario)


def test_a_pause(victim):
    span = victim.make("untouched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("space")
        assert "paused" in screen.line("what")
        await screen.pilot.pause(0.3)
        span.do("write")
        await screen.pilot.pause(0.5)
        assert screen.count("present") == 0
        await screen.press("plus")  # nothing is looked at for that, either
        await screen.until(lambda: len(screen.picture.cells) == 32)
        assert screen.count("present") == 0
        await screen.press("space")
        await screen.until(lambda: screen.count("present") == 32)
        assert "paused" not in screen.line("what")

    watching(Live(victim.pid, 0.1), scenario)


def test_moving_through_the_mappings(victim):
    async def scenario(screen):
        spans = screen.app.frame.sample.mappings
        assert screen.line("title").startswith(" whole process")
        await screen.press("up")
        assert screen.mappings.selected is None
        await screen.press("down")
        assert screen.mappings.selected == spans[0]
        await screen.until(
            lambda: screen.app.frame.request.view == View(spans[0].start, spans[0].end)
        )
        assert screen.line("title").startswith(f" {spans[0].start:x} ")
        await screen.press("end")
        assert screen.mappings.selected == spans[-1]
        assert spans[-1].path in shown(screen)
        await screen.press("pageup", "pageup", "home")
        assert screen.mappings.selected is None
        await screen.pilot.click(Mappings, offset=(5, 3))
        assert screen.mappings.selected == spans[1]

    watching(Live(victim.pid, 0.1), scenario)


def shown(screen):
    """All text on the screen."""
    lines = screen.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)


def test_the_order_of_mappings(victim):
    big = victim.make("touched", 9000)

    async def scenario(screen):
        await screen.select(big.start)
        for order, column in (("size", 0), ("present", 1), ("swapped", 2)):
            await screen.press("o")
            sizes = [row[1][column] for row in screen.mappings._rows[1:]]
            assert sizes == sorted(sizes, reverse=True)
            assert f"by {order}" in shown(screen)
            assert screen.mappings.selected.start == big.start
        await screen.press("o")
        starts = [row[0].start for row in screen.mappings._rows[1:]]
        assert starts == sorted(starts)

    watching(Live(victim.pid, 0.1), scenario)


def test_zooming_and_moving(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("plus", "plus")
        await screen.until(lambda: len(screen.picture.cells) == 16)
        page = fpm.PAGE_SIZE
        assert screen.picture.area.starts[0] == span.start + 24 * page
        await screen.press("left")
        await screen.until(lambda: screen.picture.area.starts[0] == span.start + 20 * page)
        await screen.press("right", "right")
        await screen.until(lambda: screen.picture.area.starts[0] == span.start + 28 * page)
        await screen.press("minus")
        await screen.until(lambda: len(screen.picture.cells) == 32)
        await screen.press("0")
        await screen.until(lambda: len(screen.picture.cells) == 64)
        await screen.press(*["plus"] * 9)
        await screen.until(lambda: len(screen.picture.cells) == 1)
        await screen.press(*["minus"] * 9)
        await screen.until(lambda: len(screen.picture.cells) == 64)

    watching(Live(victim.pid, 0.1), scenario)


def test_a_range(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.press("g", *"p8-15", "enter")
        await screen.until(lambda: len(screen.picture.cells) == 8)
        assert screen.picture.area.starts[0] == span.start + 8 * fpm.PAGE_SIZE
        await screen.press("g", *f"{span.start:x}+12Ki", "enter")
        await screen.until(lambda: len(screen.picture.cells) == 3)
        await screen.press("g", *"nonsense", "enter")
        await screen.pilot.pause()
        assert isinstance(screen.app.screen, Range)
        assert "a range is" in shown(screen)
        await screen.press("escape")
        assert len(screen.app.screen_stack) == 1
        assert len(screen.picture.cells) == 3

    watching(Live(victim.pid, 0.1), scenario)


def test_characters_and_colours(victim):
    victim.make("touched", 4000)

    async def scenario(screen):
        assert "#####" in shown(screen)
        await screen.press("c")
        await screen.pilot.pause()
        assert "#####" not in shown(screen)

    watching(Live(victim.pid, 0.1), scenario)


def test_help(victim):
    async def scenario(screen):
        await screen.press("question_mark")
        await screen.pilot.pause()
        assert isinstance(screen.app.screen, Help)
        assert "soft-dirty" in shown(screen)
        await screen.pilot.pause(0.3)  # it goes on looking below
        await screen.press("escape")
        assert len(screen.app.screen_stack) == 1

    watching(Live(victim.pid, 0.1), scenario)


def test_a_process_that_ends_stays_on_the_screen(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        victim.kill()
        await screen.until(lambda: "has ended" in screen.line("what"))
        assert screen.count("present") == 64
        await screen.press("home")
        await screen.until(lambda: len(screen.picture.cells) > 64)
        await screen.press("down", "plus", "space", "question_mark", "escape")

    assert watching(Live(victim.pid, 0.1), scenario).failure is None


def test_the_mouse_tells_what_is_in_a_cell(victim):
    span = victim.make("touched", 64)

    async def scenario(screen):
        await screen.select(span.start)
        await screen.pilot.hover(Cells, offset=(3, 0))
        assert f"{span.start + 3 * fpm.PAGE_SIZE:x}" in screen.line("title")
        assert "present 4Ki" in screen.line("title")
        await screen.pilot.hover(Mappings)
        assert "present 4Ki" not in screen.line("title")
        await screen.press("home")
        await screen.until(lambda: len(screen.picture.cells) > 64)
        await screen.pilot.click(Cells, offset=(0, 0))
        assert screen.mappings.selected == screen.app.frame.sample.mappings[0]

    watching(Live(victim.pid, 0.1), scenario)


@pytest.mark.parametrize("size", [(10, 3), (1, 1), (59, 40), (100, 15)])
def test_a_small_terminal_says_so_and_can_grow(victim, size):
    async def scenario(screen):
        await screen.pilot.resize_terminal(*size)
        await screen.pilot.pause()
        assert "whole process" not in shown(screen)
        if size[0] > 40:
            assert "too small" in shown(screen)
            assert f"{size[0]}x{size[1]}" in shown(screen)
        for wide in ((60, 16), (200, 50), (100, 30)):
            await screen.pilot.resize_terminal(*wide)
            await screen.until(lambda: "whole process" in shown(screen))
            cells = screen.app.query_one(Cells).size
            await screen.until(lambda cells=cells: screen.app.frame.request.max_cells == cells.area)
            assert 0 < len(screen.picture.cells) <= cells.area

    watching(Live(victim.pid, 0.1), scenario)


def test_a_picture_is_saved(victim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scenario(screen):
        await screen.press("s", "s")
        await screen.pilot.pause()

    watching(Live(victim.pid, 0.1), scenario)
    files = sorted(os.listdir(tmp_path))
    assert files == [f"fastpagemap-{victim.pid}-{number}.svg" for number in (1, 2)]
    assert "whole&#160;process" in (tmp_path / files[0]).read_text()


def test_a_picture_that_cannot_be_saved(victim, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def scenario(screen):
        await screen.press("s")
        await screen.until(lambda: "cannot write" in shown(screen))

    watching(Live(victim.pid, 0.1), scenario)


def test_a_snapshot_is_still(victim, tmp_path):
    victim.make("touched", 64)
    with fpm.PageMap(victim.pid) as pagemap:
        pagemap.snapshot().save(tmp_path / "it.fpm")

    async def scenario(screen):
        assert "a snapshot" in screen.line("what")
        assert str(victim.pid) in screen.line("what")
        await screen.press("space", "down", "plus")
        await screen.until(lambda: screen.app.frame.request.view != View())
        assert "paused" not in screen.line("what")

    watching(SnapshotSource(fpm.Snapshot.load(tmp_path / "it.fpm")), scenario)


def test_a_failure_ends_it(victim):
    """Whatever goes wrong in the thread is not lost, and leaves no screen behind."""
    live = Live(victim.pid, 0.1)

    async def scenario(screen):
        live._pagemap.close()
        await screen.until(lambda: screen.app.failure is not None)

    assert isinstance(watching(live, scenario).failure, ValueError)


# ---- a terminal --------------------------------------------------------------------------------


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments, size=(80, 24), command=COMMAND, **environment):
        self.leader, self.follower = pty.openpty()
        ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(self.follower)
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), self.follower)
        variables = {**os.environ, "TERM": "xterm-256color", **environment}
        command = [*command, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=variables, start_new_session=True, **ends)
        self.written = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self.follower)

    def read_until(self, text):
        """Read what is drawn until a text has come."""
        end = time.monotonic() + 30
        while text not in self.written:
            assert time.monotonic() < end, self.written[-2000:]
            if select.select([self.leader], [], [], 0.1)[0]:
                self.written += os.read(self.leader, 1 << 16)

    def wait(self):
        """Wait for the end, reading on."""
        while self.process.poll() is None:
            if select.select([self.leader], [], [], 0.05)[0]:
                self.written += os.read(self.leader, 1 << 16)
        while select.select([self.leader], [], [], 0.05)[0]:
            self.written += os.read(self.leader, 1 << 16)
        return self.process.returncode

    def is_sane(self):
        """Whether modes are as before, the screen is the first one again, the cursor is shown."""
        left = self.written.rfind(b"\x1b[?1049l") > self.written.rfind(b"\x1b[?1049h")
        cursor = self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
        return left and cursor and termios.tcgetattr(self.follower) == self.before


@pytest.mark.parametrize(
    ("leave", "code"),
    [(b"q", 0), (b"\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_leaving_a_terminal_as_it_was(victim, leave, code):
    with Terminal(victim.pid) as terminal:
        terminal.read_until(b"whole process")
        if isinstance(leave, bytes):
            os.write(terminal.leader, leave)
        else:
            terminal.process.send_signal(leave)
        assert terminal.wait() == code
        assert terminal.is_sane()


def test_no_colour(victim):
    with Terminal(victim.pid, NO_COLOR="1") as terminal:
        terminal.read_until(b"####")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0
        assert not re.search(rb"\x1b\[[\d;]*[34]8;[25];", terminal.written)
        assert not re.search(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7])m", terminal.written)


def test_sixteen_colours_have_characters(victim):
    with Terminal(victim.pid, TERM="xterm", COLORTERM="") as terminal:
        terminal.read_until(b"####")
        os.write(terminal.leader, b"q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_without_a_terminal_it_is_misuse(victim, stream):
    leader, follower = pty.openpty()
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
    ends[stream] = subprocess.PIPE
    with subprocess.Popen([*COMMAND, str(victim.pid)], **ends) as process:
        assert process.wait(30) == 2
        said = process.stderr.read() if stream == "stderr" else os.read(leader, 4096)
    assert said.startswith(b"fastpagemap: watch needs a terminal")
    assert said.count(b"\n") == 1
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["999999999"], {}, 1),
        (["2"], {}, 1),
        (["no such thing"], {}, 1),
        (["self", "--interval", "0"], {}, 2),
        ([], {}, 2),
        (["1"], {"TERM": "dumb"}, 2),
    ],
)
def test_what_cannot_be_watched_is_one_line(arguments, environment, code):
    with Terminal(*arguments, **environment) as terminal:
        assert terminal.wait() == code
        assert terminal.written.startswith(b"fastpagemap: ")
        assert terminal.written.count(b"\n") == 1
        assert b"\x1b" not in terminal.written


@pytest.mark.root
def test_a_process_that_may_not_be_read_is_one_line(victim):
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        # now, while the interpreter's own files can be read for certain
        "import fastpagemap.report.tables, fastpagemap.cli.commands.watch\n"
        "import fastpagemap.cli.watch.app\n"
        "import runas; runas.become(runas.NOBODY)\n"
        "sys.exit(fastpagemap.cli.main())"
    )
    command = [sys.executable, "-c", program, os.path.dirname(__file__), "watch"]
    with Terminal(victim.pid, command=command) as terminal:
        assert terminal.wait() == 1
        assert b"CAP_SYS_PTRACE" in terminal.written
        assert terminal.written.count(b"\n") == 1
        assert b"\x1b" not in terminal.written


def test_textual_missing_is_said(victim):
    program = "import sys; sys.modules['textual'] = None; import fastpagemap.cli as c"
    command = [sys.executable, "-c", program + "; sys.exit(c.main())", "watch"]
    with Terminal(victim.pid, command=command) as terminal:
        assert terminal.wait() == 1
        assert terminal.written.startswith(b"fastpagemap: textual is not installed: pip install")
        assert terminal.written.count(b"\n") == 1


def test_dirty_bits_are_cleared_only_where_there_are_any(victim):
    if fpm.capabilities().soft_dirty:
        return
    with Terminal(victim.pid, "--dirty") as terminal:
        assert terminal.wait() == 1
        assert b"soft-dirty" in terminal.written
        assert b"\x1b" not in terminal.written
