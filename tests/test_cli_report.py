"""`fastpagemap report`: what it collects, chooses, adds up and writes, next to usage and smaps."""

import csv
import fnmatch
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import fastpagemap as fpm
import oracle
import runas
from commandline import run
from fastpagemap.cli import collect
from fastpagemap.cli.processes import processes
from fastpagemap.model.kinds import KINDS
from fastpagemap.process.process import Process
from fastpagemap.report import conditions
from fastpagemap.report import report as reports
from fastpagemap.report.text import printable
from fastpagemap.report.unreadable import summary
from victim import Victim

pytest.importorskip("click")

PAGE = fpm.PAGE_SIZE


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        victim.make("touched", 300)
        victim.make("shared_anonymous", 200)
        victim.make("untouched", 5000)
        victim.make("memfd_sparse", 90)
        yield victim


def as_json(*arguments):
    said = run("report", *arguments, "--json")
    assert (said.returncode, said.stderr) == (0, b"")
    return json.loads(said.stdout)


def steady(rows):
    """What other processes that come and go do not change."""
    return [{key: value for key, value in row.items() if key != "exclusive"} for row in rows]


def test_json_is_what_usage_says(victim):
    found = as_json(victim.pid)
    with fpm.PageMap(victim.pid) as pagemap:
        mappings, usage = pagemap.mappings(), pagemap.usage()
    assert len(found["rows"]) == len(mappings)
    for row, mapping, sizes in zip(found["rows"], mappings, usage, strict=True):
        assert {name: row[name] for name in mapping._fields} == mapping._asdict()
        for name in set(usage.dtype.names) - {"exclusive"}:
            assert row[name] == sizes[name], name
    for name in found["totals"]:
        assert found["totals"][name] == sum(row[name] for row in found["rows"])
    assert (found["pid"], found["page_size"], found["rows_are"]) == (victim.pid, PAGE, "mapping")
    assert found["kernel"] == os.uname().release
    assert found["unreadable"] == []


def test_json_is_what_smaps_says(victim):
    smaps = oracle.smaps(victim.pid)
    for row in as_json(victim.pid)["rows"]:
        sums = smaps[row["start"], row["end"]]
        assert row["swapped"] == sums["Swap"]
        assert row["huge"] == sums["AnonHugePages"] + sums["ShmemPmdMapped"]
        assert row["present"] >= sums["Rss"]  # which has no zero pages
        assert row["present"] == sums["Rss"] or not row["path"].startswith("/"), row


def test_csv_has_the_rows_of_json(victim):
    said = run("report", victim.pid, "--csv")
    found = list(csv.DictReader(io.StringIO(said.stdout.decode(), newline="")))
    expected = [{k: str(v) for k, v in row.items()} for row in as_json(victim.pid)["rows"]]
    assert steady(found) == steady(expected)


def test_parquet_has_the_rows_of_json(victim, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "report.parquet"
    assert run("report", victim.pid, "--parquet", path).stdout == b""
    table = parquet.read_table(path)
    expected = as_json(victim.pid)
    found = table.select(list(expected["rows"][0])).to_pylist()
    assert steady(found) == steady(expected["rows"])
    about = json.loads(table.schema.metadata[b"fastpagemap"])
    assert about["totals"].keys() == expected["totals"].keys()
    assert os.listdir(tmp_path) == ["report.parquet"]


def test_what_cannot_be_written_leaves_nothing(victim, tmp_path):
    missing = tmp_path / "missing" / "x.parquet"
    for path in (missing, tmp_path, "/dev/full"):
        said = run("report", victim.pid, "--parquet", path)
        assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
        assert str(path).encode() in said.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("column", ["size", "present", "exclusive"])
def test_sorted_and_filtered(victim, column):
    rows = as_json(victim.pid, "--sort", column, "--min", "64K", "--filter", "present")["rows"]
    sizes = [row[column] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 64 << 10
    assert all(row["present"] for row in rows)
    everything = as_json(victim.pid)["rows"]
    wanted = [row for row in everything if row[column] >= 64 << 10 and row["present"]]
    if column == "exclusive":  # of files it changes as others come and go who map them
        rows, wanted = ([row for row in them if not row["device"]] for them in (rows, wanted))
    assert sorted(row["start"] for row in rows) == [row["start"] for row in wanted]
    assert rows


@pytest.mark.parametrize("pattern", ["libc", "*/libc.so*", "[[]heap]", "[heap]", "nowhere"])
def test_chosen_by_path(victim, pattern):
    everything = as_json(victim.pid)
    chosen = [
        row
        for row in everything["rows"]
        if pattern in row["path"] or fnmatch.fnmatchcase(row["path"], pattern)
    ]
    found = as_json(victim.pid, "--path", pattern)
    assert steady(found["rows"]) == steady(chosen)
    assert found["totals"]["size"] == sum(row["size"] for row in chosen)


@pytest.mark.parametrize("group", ["path", "kind"])
def test_groups_add_up(victim, group):
    everything = as_json(victim.pid)["rows"]
    found = as_json(victim.pid, "--group", group)
    assert len(found["rows"]) == len({row[group] for row in everything})
    for row in found["rows"]:
        mine = [one for one in everything if one[group] == row[group]]
        assert row["mappings"] == len(mine)
        for name in ("size", "present", "swapped", "shared"):
            assert row[name] == sum(one[name] for one in mine)
    assert {row["kind"] for row in everything} <= set(KINDS)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4k", 4096),
        ("1.5Mi", 3 << 19),
        ("2GiB", 2 << 30),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes_are_read(text, size):
    assert conditions.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "1Z", "99999E", "1 000", "0x10"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is no size"):
        conditions.parse_size(text)


@pytest.mark.parametrize(
    "text", ["size>=10M", "size >= 10M", "swapped", "swapped-shared<1", "huge=0"]
)
def test_filters_are_read(text):
    usage = np.zeros(2, [(name, np.uint64) for name in reports.SIZES])
    usage["size"] = usage["swapped"] = 20 << 20, 0
    about = reports.About(1, "", 0.0, "", PAGE)
    report = reports.Report(about, "kind", {"mappings": [1, 1], "kind": ["a", "b"]}, usage)
    expected = {"swapped-shared<1": [True, True], "huge=0": [True, True]}
    found = conditions.parse_filter(text).rows(report)
    assert found.tolist() == expected.get(text, [True, False])


def test_all_is_the_sum_of_each(victim):
    rows = {row["pid"]: row for row in json.loads(run("report", "--all", "--json").stdout)["rows"]}
    with fpm.PageMap(victim.pid) as pagemap:
        usage = pagemap.usage()
    for name in ("size", "present", "swapped", "shared", "huge"):
        assert rows[victim.pid][name] == usage[name].sum()
    assert rows[victim.pid]["mappings"] == len(usage)
    assert os.getpid() in rows
    # kernel threads have no memory, and no row
    assert 2 not in rows


def test_all_in_groups(victim):
    kind = json.loads(run("report", "--all", "--group", "kind", "--json").stdout)
    assert {row["kind"] for row in kind["rows"]} <= set(KINDS)
    assert len({row["kind"] for row in kind["rows"]}) == len(kind["rows"])
    path = json.loads(run("report", "--all", "--group", "path", "--path", "libc", "--json").stdout)
    assert path["rows"]
    assert all("libc" in row["path"] for row in path["rows"])


@pytest.mark.root
def test_what_nobody_may_not_read_is_counted(victim):
    def as_nobody():
        found = collect.collect_all(processes())
        return found.unreadable, found.labels["pid"], summary(found.unreadable)

    unreadable, read, text = runas.as_nobody(as_nobody)
    reasons = {entry.pid: entry.reason for entry in unreadable}
    assert "Permission denied" in reasons[victim.pid]
    assert victim.pid not in read
    assert 2 not in [*reasons, *read]
    assert text.startswith(f"{len(unreadable)} processes could not be read: ")


def test_whose_a_process_is_is_asked_for_a_file_alone(victim, monkeypatch):
    asked, uid = [], Process.uid

    def noting(process):
        asked.append(process.pid)
        return uid(process)

    monkeypatch.setattr(Process, "uid", noting)
    for group in (None, "path"):
        assert collect.collect_all([victim.pid], group).about.uid is None
        assert asked == []
        assert collect.collect_all([victim.pid], group, owner=True).about.uid == os.getuid()
        assert asked.pop() == victim.pid


def test_a_process_by_its_name(victim, tmp_path):
    program = tmp_path / "a-name-of-its-own"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as one:
        try:
            assert as_json(program.name)["pid"] == one.pid
            with subprocess.Popen([program, "61"]) as other:
                try:
                    said = run("report", program.name)
                finally:
                    other.kill()
            assert said.returncode == 2
            lines = [line.split() for line in said.stderr.splitlines()]
            assert [line[0] for line in lines[2:]] == [b"%d" % one.pid, b"%d" % other.pid]
            assert [line[-1] for line in lines[2:]] == [b"60", b"61"]
        finally:
            one.kill()
    gone = run("report", program.name)
    assert (gone.returncode, gone.stdout) == (1, b"")
    assert program.name.encode() in gone.stderr


def test_a_process_that_ends_meanwhile(victim):
    """It is left out of all, quietly; asked for by its pid, one line says that it has gone."""
    counting, killed = collect.sums_of.__wrapped__.__code__, []

    def kill_when_asked(frame, event, _):  # as a profiler it hears of every call
        asks = event == "call" and frame.f_code is counting
        if asks and frame.f_locals["process"].pid == mortal.pid:
            killed.append(mortal.kill())

    with Victim() as mortal:
        sys.setprofile(kill_when_asked)
        try:
            found = collect.collect_all([victim.pid, mortal.pid])
        finally:
            sys.setprofile(None)
    assert killed
    assert (found.labels["pid"], found.unreadable) == ([victim.pid], [])
    said = run("report", mortal.pid)
    assert (said.returncode, said.stdout) == (1, b"")
    assert said.stderr.count(b"\n") == 1


def test_odd_paths_survive(tmp_path):
    name = os.fsdecode(b'\xff a\n"b",\x1b[31m')
    path = tmp_path / name
    path.write_bytes(b"x" * PAGE)
    program = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); m[0];"
        "print('made', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        found = as_json(process.pid, "--path", "*\x1b*")["rows"]
        assert [row["path"] for row in found] == [str(path)]
        text = run("report", process.pid, "--csv").stdout.decode()
        assert any(
            row["path"] == printable(str(path))
            for row in csv.DictReader(io.StringIO(text, newline=""))
        )
        assert b"\x1b" not in run(process.pid).stdout
        process.stdin.close()
