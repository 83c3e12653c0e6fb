"""How the full-screen views fit the terminal: what is cut, what comes first, what it can show."""

import math
import os
import re
import sys

import pytest

pytest.importorskip("textual")

from rich.cells import cell_len

from fastpagemap.cli.watch.census import Census, Look, Member
from fastpagemap.cli.watch.dialogs import Help
from fastpagemap.cli.watch.processes import Processes
from fastpagemap.cli.watch.sampling import Live
from fastpagemap.cli.watch.top import Top
from fastpagemap.process import stat
from fastpagemap.report.text import printable
from screens import on_screen, shown, watching
from terminal import Terminal

COMMAND = [sys.executable, "-m", "fastpagemap", "top"]
#: A terminal of ASCII alone.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


def heads(screen):
    return screen.app.screen.listing.render_line(0).text.split()


@pytest.mark.parametrize("name", ["python", "一二三四五", "\x1b[31m\x1b[31m\x1b[3"])
def test_what_is_cut_says_so(name):
    about = stat.read(os.getpid())._replace(name=name)
    listing = Processes("processes")
    seen = Look({}, 1, "program --option " * 9, 0.0)
    for member in (
        Member(1, about, 0, refused="not permitted"),
        Member(1, about, 0, seen=seen),
        Member(1, about, 0),
    ):
        for width in range(12, 60):
            text = listing.last(member, width)
            assert cell_len(text) <= width
            whole = listing.last(member, 1000)
            # where there is no room for the command, a long name has more than its column
            assert text.endswith("…") or whole.startswith(text.rstrip()) or text == printable(name)
            assert text == whole or text.endswith("…") or width < 25


def test_a_name_of_wide_characters_takes_no_more_room():
    about = stat.read(os.getpid())._replace(name="一二三")
    member = Member(1, about, 0, seen=Look({}, 1, "program", 0.0))
    text = Processes("processes").last(member, 60)
    assert cell_len(text.partition("program")[0]) == 16


def test_the_head_tells_name_and_command(victim):
    for size, expected in (((80, 24), ["name"]), ((200, 24), ["name", "command"])):

        async def scenario(screen, expected=expected):
            assert heads(screen)[-len(expected) :] == expected

        on_screen(Top(Census(0.1, [victim.pid])), scenario, size)


def test_the_column_that_orders_the_rows_is_always_there(victim):
    async def scenario(screen):
        await screen.press("O", "O")
        assert {"present", "▾age", "(+2)"} <= set(heads(screen))
        await screen.press("O")
        assert {"▾major/s", "(+2)"} <= set(heads(screen))

    on_screen(Top(Census(0.1, [victim.pid])), scenario, (60, 16))


def test_how_to_get_help_and_out_is_always_there(victim):
    async def scenario(screen):
        start = " ? Help  q Quit "
        await screen.until(lambda: shown(screen).splitlines()[-1].startswith(start))

    watching(Live(victim.pid, 0.1), scenario, (60, 16))
    on_screen(Top(Census(0.1, [victim.pid])), scenario, (60, 16))


WATCH_LINE = "? Help  q Quit  space Pause  +- Zoom  g Go to  p Children  / Search  o Sort"
TOP_LINE = "? Help  q Quit  Enter Watch  space Pause  / Search  o Sort"


@pytest.mark.parametrize("width", [60, 66, 70, 76, 77, 80])
def test_no_key_of_the_last_line_is_cut(victim, width):
    """Those that do not fit are left out, also when the screen gets narrower or wider."""

    async def scenario(screen, line):
        keys = line.split("  ")
        while len("  ".join(keys)) + 2 > width:
            keys.pop()
        for columns, expected in ((width, "  ".join(keys)), (100, line), (width, "  ".join(keys))):
            await screen.pilot.resize_terminal(columns, 20)
            await screen.until(
                lambda expected=expected: shown(screen).splitlines()[-1].strip() == expected
            )

    top = Top(Census(0.1, [victim.pid]))
    on_screen(top, lambda screen: scenario(screen, TOP_LINE), (width, 20))
    watching(Live(victim.pid, 0.1), lambda screen: scenario(screen, WATCH_LINE), (width, 20))


def test_how_old_the_list_is(victim):
    """Where there is no time to read it at each refresh."""

    async def scenario(screen):
        await screen.until(lambda: "listed" not in screen.line("what"))  # a busy machine is late
        screen.view.census._scan._next = math.inf
        await screen.until(lambda: re.search(r"listed [1-9]\d* s ago", screen.line("what")))

    on_screen(Top(Census(0.1, [victim.pid])), scenario)


def test_a_terminal_that_is_not_of_utf_8(victim):
    """Each mark becomes one character: so everything stays where it is."""
    with Terminal(victim.pid, command=COMMAND, **ASCII) as terminal:
        terminal.read_until(b"and children: 1")
        os.write(terminal.leader, b"?")
        terminal.read_until(b"^ v")
        os.write(terminal.leader, b"qq")
        assert terminal.wait() == 0
        assert b" vpresent " in terminal.written
        assert terminal.written.isascii()
        assert b"\\" not in terminal.written.replace(b"\x1b\\", b"")


def test_pages_of_the_columns_on_a_screen_of_one_line(victim):
    """A list that could not be drawn yet has no lines."""

    async def scenario(screen):
        await screen.press("f", "pagedown", "pageup", "escape", "question_mark")
        await screen.until(lambda: isinstance(screen.app.screen, Help))

    watching(Live(victim.pid), scenario, size=(80, 1))
