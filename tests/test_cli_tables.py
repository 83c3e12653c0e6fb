"""What tables say beside their sizes: of what and when they are, and names for what has none."""

import csv
import io
import json
import os
import re
import sys
import time

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import run
from fastpagemap.report import report as reports
from fastpagemap.report.tables import for_terminal
from terminal import Terminal
from victim import Victim

pytest.importorskip("click")


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        victim.make("sparse", 100)
        yield victim


def test_a_pipe_is_told_of_what_and_when(victim):
    about, head, *_ = run("report", victim.pid).stdout.decode().splitlines()
    found = re.fullmatch(rf"# process {victim.pid} (\S+), ([-0-9]+ [:0-9]+), Linux (\S+)", about)
    assert found is not None
    with open(f"/proc/{victim.pid}/comm") as file:
        assert (found[1], found[3]) == (file.read().strip(), os.uname().release)
    assert abs(time.mktime(time.strptime(found[2], "%Y-%m-%d %H:%M:%S")) - time.time()) < 300
    assert head.split()[0] == "start"
    about = run("report", "--all").stdout.decode().splitlines()[0]
    assert about.startswith("# all processes, ")
    assert about.endswith(f", Linux {found[3]}")


def test_a_saved_one_is_as_it_was(victim, tmp_path):
    assert run("dump", victim.pid, "-o", tmp_path / "before.fpm").returncode == 0
    about = run("report", tmp_path / "before.fpm").stdout.decode().splitlines()[0]
    assert re.fullmatch(
        rf"# process {victim.pid} \S+, as it was at [-0-9]+ [:0-9]+, Linux \S+", about
    )


def test_data_has_no_comment_and_no_made_up_names(victim):
    rows = list(csv.DictReader(io.StringIO(run("report", victim.pid, "--csv").stdout.decode())))
    assert {"", "[heap]"} <= {row["path"] for row in rows}
    paths = [row["path"] for row in json.loads(run("report", victim.pid, "--json").stdout)["rows"]]
    assert "" in paths
    assert "[anon]" not in paths


@pytest.mark.parametrize("more", [[], ["--group", "path"]])
def test_what_has_no_path_has_a_name_in_tables(victim, more):
    lines = run("report", victim.pid, *more).stdout.decode().splitlines()
    named = [line for line in lines if line.endswith("  [anon]")]
    assert len(named) == 1 if more else len(named) > 1
    only = run("report", victim.pid, "--path", "[anon]", *more).stdout.decode().splitlines()
    assert only[2:-1]
    assert all(line.endswith("  [anon]") for line in only[2:-1])


def on_terminal(*arguments, width, **environment):
    """What a report on a terminal of this width is, with its codes."""
    command = [sys.executable, "-m", "fastpagemap", "report"]
    with Terminal(*arguments, command=command, size=(width, 50), **environment) as shown:
        assert shown.wait() == 0
        return shown.written.decode()


def lines_of(text):
    # A slow machine gets a progress bar, which is erased again.
    text = re.sub(r"\r|\x1b\[\?25[hl]", "", text)
    text = re.sub(r"[^\n]*(\n\x1b\[1A|\x1b\[2K)", "", text)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize(
    "arguments", [["--all"], ["--all", "--group", "path"], ["--all", "-n", "3"], ["me"], ["group"]]
)
def test_tables_fit(victim, width, arguments):
    arguments = {"me": [os.getpid()], "group": [victim.pid, os.getpid()]}.get(
        arguments[0], arguments
    )
    lines = lines_of(on_terminal(*arguments, width=width))
    # what is said beside the table is on stderr, which may be longer
    lines = [line for line in lines if not line.startswith("fastpagemap: ")]
    assert max(map(len, lines)) <= width
    assert len({"pid", "maps", "start"} & set(" ".join(lines[1:3]).split())) >= 1


@pytest.mark.parametrize("width", [40, 120])
def test_tables_fit_dumb_terminals(width):
    text = on_terminal(os.getpid(), width=width, TERM="dumb")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) in range(width * 3 // 4, width + 1)


@pytest.mark.parametrize("width", [80, 120])
def test_a_wide_terminal_shows_command_lines(width):
    head = next(line for line in lines_of(on_terminal("--all", width=width)) if "pid" in line)
    names = {"parent", "threads", "command"}
    assert names & set(head.split()) == (names if width == 120 else set())
    assert "user" in head.split()


@pytest.mark.parametrize(
    ("variable", "value", "colour", "bold"),
    [("TERM", "xterm", True, True), ("NO_COLOR", "1", False, True), ("TERM", "dumb", False, False)],
)
def test_colours_are_for_who_wants_them(monkeypatch, variable, value, colour, bold):
    mapping = fpm.Mapping(0x1000, 0x2000, "rw-p", 0, 0, 0, "")
    usage = np.full(1, 4096, [(name, np.uint64) for name in ("start", "end", "size", "swapped")])
    about = reports.About(1, "name", 0.0, "6.18", 4096)
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    text = "".join(for_terminal(reports.of_mappings(about, [mapping], usage)))
    assert ("\x1b[33m" in text, "\x1b[1m" in text) == (colour, bold)
    assert "[anon]" in text
