"""Tables of programs, families, files and swap on terminals: no line is too wide."""

import re
import sys

import pytest

pytest.importorskip("click")

import fastpagemap as fpm
from fastpagemap.report.aligned import aligned
from fastpagemap.report.text import ending
from needs import Absent, need
from terminal import Terminal

# What is said beside a table may be wider.
COMMAND = ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", sys.executable, "-m", "fastpagemap"]
WRITING = """
import mmap, time
parts = [mmap.mmap(-1, 1 << 20) for _ in range(9)]
for part in parts: part.write(bytes(1 << 20))
"""


def lines_on(width, *arguments):
    """What a command prints on a terminal of this width, without colours."""
    with Terminal(*arguments, command=COMMAND, size=(width, 50), NO_COLOR="1") as shown:
        assert shown.wait() == 0
        text = shown.written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "").splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_forks(victim, width):
    victim.fork()
    lines = lines_on(width, "forks", victim.pid)
    assert lines[0] == f"process {victim.pid} and 1 worker"
    assert max(map(len, lines)) <= width
    assert width > 40 or any(line.endswith("…") for line in lines)


@pytest.mark.parametrize("width", [40, 80])
def test_writes(write_program, width):
    """Fewer names where there is little room, and how many more there are."""
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)
    lines = lines_on(width, "writes", write_program(WRITING))
    assert max(map(len, lines)) <= width
    names = [re.search(r"memory 9Mi.* and \d+ more$", line) for line in lines]
    assert any(names) == (width == 80)


@pytest.mark.parametrize("width", [40, 80])
def test_run(write_program, width):
    pytest.importorskip("memray")
    program = write_program("kept = bytearray(9 << 20)  # " + "as long as it is wide, " * 9)
    lines = lines_on(width, "run", program)
    table = lines[lines.index(next(line for line in lines if "allocated  present" in line)) :]
    assert max(map(len, table[:-1])) <= width


@pytest.mark.parametrize("width", [40, 80])
def test_files(tmp_path, width):
    """A path is cut at its beginning."""
    path = tmp_path / ("long_" * 30 + "name")
    path.write_bytes(bytes(1 << 20))
    lines = lines_on(width, "files", path)
    assert max(map(len, lines)) <= width
    (line,) = [line for line in lines if line.endswith("_name")]
    assert line.split()[:3] == ["1Mi", "1Mi", "1Mi"]
    assert ("No room here" in "\n".join(lines)) == (width == 40)


@pytest.mark.root
def test_swap():
    lines = lines_on(30, "report", "--swap")
    table = lines[: lines.index("")]
    assert len(table) > 1
    assert max(map(len, table)) <= 30


@pytest.mark.parametrize("width", [30, 40, 80])
def test_how_many_rows_there_are_is_never_cut(victim, width):
    victim.fork()
    lines = lines_on(width, "report", "--tree", victim.pid, "-n", "1")
    assert lines[0].startswith("processes counted")
    assert re.search(r" 2 pro", "\n".join(lines))


def test_aligned():
    """In a pipe the last cell is whole; on a terminal it is cut, at the end that is wanted."""
    heads, rows = ("size", "path"), [("4Ki", "/a/long/path/of/a/file"), ("12", "/b")]
    assert [*aligned(heads, rows)][1:] == [" 4Ki  /a/long/path/of/a/file", "  12  /b"]
    assert [*aligned(heads, rows, 16)][1:] == [" 4Ki  /a/long/p…", "  12  /b"]
    assert [*aligned(heads, rows, 16, ending)][1:] == [" 4Ki  …of/a/file", "  12  /b"]
    for width in range(1, 40):
        assert max(map(len, aligned(heads, rows, width))) <= width


def test_columns_are_left_out_whole():
    """A size of which the end is cut would be taken for another."""
    heads = ("pid", "rss", "pss", "uss", "name")
    rows = [("1", "24.7Mi", "12.3Mi", "11.1Mi", "postgres: checkpointer"), ("22", *"00", "-", "x")]
    for width in range(20, 60):
        table = [*aligned(heads, rows, width)]
        shown = table[0].split()
        assert shown[-1] == "name"
        assert table[1].split()[: len(shown) - 1] == list(rows[0][: len(shown) - 1])
        gone = [name for name in heads if name not in shown]
        said = f"No room here, but in a pipe, for: {', '.join(gone)}." if gone else ""
        assert " ".join(table[3:]) == said
    assert table[0].split() == list(heads)
