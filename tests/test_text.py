"""Names that strangers choose, as text: nothing in them acts, hides, or takes long to shorten."""

import dataclasses
import random
import time
import unicodedata

import numpy as np
import pytest

import fastpagemap as fpm
from fastpagemap.report.report import of_snapshot
from fastpagemap.report.text import ending, name_of, printable
from linux import PAGE

cells = pytest.importorskip("rich.cells")

#: A clipboard, a title, a link, colours; marks of direction; what has no width; bytes; newlines.
HOSTILE = [
    "\x1b]52;c;cm0=\x07", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x9b31m", "\x7f", "\b\b\b",
    "\u202e", "\u2066", "\u2069", "\u200f", "\u061c",
    "\u200b", "\u200d", "\ufeff", "\u00ad", "\u034f", "\u115f", "\u3164", "\uffa0", "\u2800",
    "\ufe0f", "\U000e0100", "\U000e0041",
    "\udcff", "\udc80", "\ud800", "\n", "\r", "\t", "\v", "\x85", "\u2028", "\u2029", "\xa0",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_acts_or_hides_is_escaped(text):
    shown = printable(f"a{text}b")
    assert shown.isprintable()
    assert shown != f"a{text}b"
    assert shown.startswith("a\\")
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Mn", "Me") for char in shown)
    shown.encode()


def test_names_of_people_are_as_they_are():
    for text in ("/home/jürgen", "漢字", "e\u0301", "שלום", "हिन्दी", "C:\\n", "\\x1b", "👍"):
        assert printable(text) == text


def slowly(text):
    """A character at a time."""
    return "".join(printable(char) for char in text)


ALPHABET = [*"ab/\\n. ", *HOSTILE, "漢", "é", "e\u0301", "👍", "\u0627"]


def test_pieces_are_escaped_as_the_whole():
    chance = random.Random(5)
    for _ in range(3000):
        text = "".join(chance.choices(ALPHABET, k=chance.randrange(12)))
        assert printable(text) == slowly(text)


def test_the_end_of_a_path_fits():
    chance = random.Random(6)
    for _ in range(3000):
        text = "".join(chance.choices(ALPHABET, k=chance.randrange(40)))
        width = chance.randrange(2, 40)
        shown = ending(text, width, ".")
        whole = printable(text)
        assert cells.cell_len(shown) <= width
        if cells.cell_len(whole) <= width and len(text) <= 4 * width:
            assert shown == whole
        else:
            assert shown[0] == "."
            assert whole.endswith(shown[1:])
            # no wide character is left out for which there was space
            assert cells.cell_len(shown) >= width - 1 or len(text) > 4 * width


def seconds(function):
    began = time.process_time()
    function()
    return time.process_time() - began


def test_a_long_path_is_shortened_in_no_time():
    for char in ("d", "漢", "\u0301", "\x1b"):
        assert seconds(lambda char=char: ending("/" + char * (1 << 20), 60)) < 0.5
        assert seconds(lambda char=char: name_of("/" + char * (1 << 20))) < 0.5


def with_long_paths(count, size):
    path = "/" + "d\x1b" * size
    spans = [
        fpm.Mapping(2 * row * PAGE, (2 * row + 1) * PAGE, "rw-p", 0, 8, row, path)
        for row in range(1, count + 1)
    ]
    states = np.array([(span.start, span.end, 1) for span in spans], fpm.RUN_DTYPE)
    with fpm.PageMap() as pagemap:
        taken = pagemap.snapshot()
    return dataclasses.replace(taken, mappings=spans, states=states)


def test_tables_of_long_paths():
    """Before, one such path took a minute."""
    from fastpagemap.report import tables

    report = of_snapshot(with_long_paths(50, 1 << 15))
    lines = []
    assert seconds(lambda: lines.extend(tables.for_terminal(report))) < 5
    assert max(map(len, lines)) < 1000
    assert seconds(lambda: lines.extend(tables.plain(report))) < 5


def test_notebooks_of_long_paths():
    made = with_long_paths(50, 1 << 15)
    assert len(made._repr_html_()) < 200_000


def test_the_live_view_of_long_paths():
    pytest.importorskip("textual")
    from fastpagemap.cli.watch.sampling import SnapshotSource
    from screens import watching

    made = with_long_paths(30, 1 << 15)

    async def scenario(screen):
        screen.mappings.select(made.mappings[3])
        await screen.until(lambda: "…" in screen.line("title"))
        assert len(screen.line("title")) < 200
        await screen.pilot.hover("#cells", offset=(0, 0))
        line = screen.mappings.render_line(3).text
        assert "\\x1b" in line
        assert "\x1b" not in line

    assert seconds(lambda: watching(SnapshotSource(made), scenario)) < 20


def test_pictures_are_not_made_by_tex():
    """Names are no programs for TeX, whatever matplotlibrc says."""
    matplotlib = pytest.importorskip("matplotlib")
    made = dataclasses.replace(with_long_paths(3, 1 << 15), name=r"\input{/etc/passwd} $x$")
    with matplotlib.rc_context({"text.usetex": True}):
        figure = made.plot()
    found = [text for text in figure.findobj(matplotlib.text.Text) if "input" in text.get_text()]
    assert len(found) == 1
    texts = [*found, *(text for axes in figure.axes for text in axes.texts)]
    named = [text for text in texts if "\\" in text.get_text()]
    assert len(named) > 1
    assert not any(text.get_usetex() or text.get_parse_math() for text in named)
    assert max(len(text.get_text()) for text in texts) < 500
