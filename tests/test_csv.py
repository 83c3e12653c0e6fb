"""CSV of names that strangers choose: a row stays a row, and nothing in it is calculated."""

import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
from commandline import run
from fastpagemap.report.formats import csv_lines, json_lines
from fastpagemap.report.parquet import write_parquet
from fastpagemap.report.report import of_snapshot
from fastpagemap.report.text import printable
from linux import PAGE

pytest.importorskip("click")

NAMES = [
    "plain", "a,b", 'a"b', "a\nb", "a\r\nb", "\r", "\n", "\t=1", "'", "'=1", "''", "=1+1", "+1",
    "-1", "@A1", '=cmd|"/c calc"!A1', "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "\x1b]0;t\x07",
    "\udcff", "\u202etxt", "", " =1", "1", "NA", "漢字",
]  # fmt: skip
FORMULA = re.compile("[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def report_of(names):
    spans = [
        fpm.Mapping(2 * row * PAGE, (2 * row + 1) * PAGE, "---p", 0, 8, row, name)
        for row, name in enumerate(names, 1)
    ]
    with fpm.PageMap() as pagemap:
        taken = pagemap.snapshot()
    states = np.array([(span.start, span.end, 1) for span in spans], fpm.RUN_DTYPE)
    return of_snapshot(dataclasses.replace(taken, mappings=spans, states=states))


def text_of(report):
    return "".join(f"{line}\n" for line in csv_lines(report))


def test_each_row_is_a_line_and_nothing_in_it_acts():
    text = text_of(report_of(NAMES))
    assert text.count("\n") == len(NAMES) + 1
    assert text.replace("\n", "").isprintable()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["permissions"] for row in rows] == ["---p"] * len(NAMES)  # the kernel's own word
    paths = [row["path"] for row in rows]
    assert not any(map(FORMULA.match, paths))
    assert [re.sub("^'", "", path) for path in paths] == list(map(printable, NAMES))


def test_pandas_undoes_it():
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(text_of(report_of(NAMES))), keep_default_na=False)
    undone = frame["path"].str.replace("^'", "", regex=True)
    assert undone.tolist() == list(map(printable, NAMES))


def test_json_and_parquet_have_names_as_they_are(tmp_path):
    report = report_of(NAMES)
    found = json.loads("\n".join(json_lines(report)))
    assert [row["path"] for row in found["rows"]] == NAMES
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(report, str(tmp_path / "a.parquet"))
    paths = parquet.read_table(tmp_path / "a.parquet")["path"].to_pylist()
    assert paths == [name.replace("\udcff", "\\xff") for name in NAMES]


def test_names_of_files_and_of_processes(tmp_path):
    """Of a process that is called y, carriage return, z, and maps files of two lines."""
    for name in (b"x\nforged row", b"\x1b]0;title\x07"):
        (tmp_path / os.fsdecode(name)).write_bytes(bytes(PAGE))
    program = (
        "import ctypes, mmap, os, sys\n"
        "os.chdir(sys.argv[1]); files = [open(name, 'rb') for name in os.listdir('.')]\n"
        "maps = [mmap.mmap(f.fileno(), 0, prot=1) for f in files]\n"
        "ctypes.CDLL(None).prctl(15, b'=y\\rz'); print('made', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        one = run("report", process.pid, "--csv").stdout.decode()
        everyone = run("report", "--all", "--csv").stdout.decode()
        process.stdin.close()
    for text, column, name in ((one, "path", "\\nforged"), (everyone, "name", "'=y\\rz")):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len({len(row) for row in rows}) == 1
        assert "\x1b" not in text
        assert any(name in row[rows[0].index(column)] for row in rows)
