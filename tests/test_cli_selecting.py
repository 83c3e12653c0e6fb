"""Which rows of a report are shown: sorted and filtered by any column, so many of them, of whom."""

import fnmatch
import json
import os
import pwd
import subprocess

import pytest

import fastpagemap as fpm
import runas
from commandline import run
from fastpagemap.report import conditions
from fastpagemap.report.report import LABELS
from victim import Victim

pytest.importorskip("click")

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def victim():
    with Victim() as victim:
        victim.make("sparse", 1000)
        yield victim


def as_json(*arguments):
    said = run("report", *arguments, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.parametrize(
    "option",
    [
        ["--sort", "swaped"],
        ["--filter", "swaped>0"],
        ["--min", "swaped=1"],
        ["--columns", "swaped"],
    ],
)
def test_a_misspelt_column_is_found(option):
    said = run("report", "--all", *option)
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"'swaped'; did you mean 'swapped'? (see 'fastpagemap report --help')" in said.stderr
    assert said.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["swapped-shared", "Swapped_Shared"])
def test_columns_are_named_as_everywhere(victim, name):
    found = as_json(victim.pid, "--sort", name, "--filter", name, "--min", f"{name}=1")
    assert found["rows"] == []


@pytest.mark.parametrize("column", ["path", "kind", "permissions", "start", "end", "inode"])
def test_sorted_by_what_is_no_size(victim, column):
    everything = as_json(victim.pid)["rows"]
    found = as_json(victim.pid, "--sort", column)["rows"]
    assert [row["start"] for row in found] == [
        row["start"] for row in sorted(everything, key=lambda row: row[column])
    ]


@pytest.mark.parametrize("column", ["pid", "parent", "user", "name", "command"])
def test_processes_sorted_by_what_is_no_size(column):
    cells = [row[column] for row in as_json("--all", "--sort", column)["rows"]]
    assert cells == sorted(cells)


@pytest.mark.parametrize("column", ["threads", "mappings"])
def test_counts_are_sorted_with_the_largest_first(column):
    cells = [row[column] for row in as_json("--all", "--sort", column)["rows"]]
    assert cells == sorted(cells, reverse=True)
    assert cells[0] > cells[-1]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("kind=stack", lambda row: row["kind"] == "stack"),
        ("permissions=r-x*", lambda row: row["permissions"].startswith("r-x")),
        ("path=*/libc.so*", lambda row: fnmatch.fnmatchcase(row["path"], "*/libc.so*")),
        ("path=[anon]", lambda row: not row["path"]),
        ("inode", lambda row: row["inode"] > 0),
        ("start>=7f0000000000", lambda row: row["start"] >= 0x7F0000000000),
        ("Permissions = r--p", lambda row: row["permissions"] == "r--p"),
    ],
)
def test_filtered_by_what_is_no_size(victim, condition, expected):
    everything = as_json(victim.pid)["rows"]
    wanted = [row["start"] for row in everything if expected(row)]
    assert wanted
    assert [row["start"] for row in as_json(victim.pid, "--filter", condition)["rows"]] == wanted


def test_every_label_is_one_kind_of_column():
    labels = {name for names in LABELS.values() for name in names} - {"device"}
    assert labels == set(conditions.COLUMNS) - set(conditions.SIZE_COLUMNS)


@pytest.mark.parametrize(
    ("arguments", "column"),
    [
        (["--min", "64K"], "size"),
        (["--min", "64K", "--sort", "present"], "present"),
        (["--min", "64K", "--sort", "path"], "size"),
        (["--min", "present=64K"], "present"),
        (["--min", "present=64K", "--sort", "size"], "present"),
    ],
)
def test_the_column_that_min_is_about(victim, arguments, column):
    everything = as_json(victim.pid)["rows"]
    found = as_json(victim.pid, *arguments)
    assert {row["start"] for row in found["rows"]} == {
        row["start"] for row in everything if row[column] >= 64 * KIB
    }
    assert found["only"] == [f"{column}>=64Ki"]
    about = run("report", victim.pid, *arguments).stdout.decode().splitlines()[0]
    assert about.endswith(f", only {column}>=64Ki")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--path", "libc", "--min", "64K"], ["path like 'libc'", "size>=64Ki"]),
        (["--path", "nothing*", "--group", "kind"], ["path like 'nothing*'"]),
        (["--all", "--user", str(os.geteuid()), "--name", "victim"], ["name like 'victim'", None]),
    ],
)
def test_what_was_left_out_is_said(victim, arguments, expected):
    """Else the sums would be taken for those of all there is."""
    target = [] if "--all" in arguments else [victim.pid]
    expected = [it or f"user={os.geteuid()}" for it in expected]
    assert as_json(*target, *arguments)["only"] == expected
    about = run("report", *target, *arguments).stdout.decode().splitlines()[0]
    assert about.endswith(", ".join(["", *(f"only {it}" for it in expected)]))


def test_of_processes_min_is_about_what_is_present():
    found = as_json("--all", "--min", "5M")
    assert found["only"] == ["present>=5Mi"]
    assert min(row["present"] for row in found["rows"]) >= 5 * MIB


def test_so_many_rows_and_the_total_of_all(victim):
    everything = as_json(victim.pid)
    found = as_json(victim.pid, "--sort", "size", "-n", "3")
    sizes = sorted((row["size"] for row in everything["rows"]), reverse=True)
    assert [row["size"] for row in found["rows"]] == sizes[:3]
    assert (found["of"], found["together"]["size"]) == (len(sizes), sum(sizes))
    assert found["totals"]["size"] == sum(sizes[:3])
    lines = run("report", victim.pid, "--sort", "size", "-n", "3").stdout.decode().splitlines()
    assert len(lines) == 2 + 3 + 1
    assert lines[-1].endswith(f"{len(sizes)} mappings, 3 shown")
    whole = run("report", victim.pid).stdout.decode().splitlines()[-1]
    assert lines[-1].split()[:5] == whole.split()[:5]
    assert len(as_json(victim.pid, "-n", 10_000)["rows"]) == len(sizes)


def test_processes_of_a_name():
    with subprocess.Popen(["sleep", "600.25"]) as one:
        try:
            for pattern in ("600.25", "sleep*", "600.2?"):
                found = as_json("--all", "--name", pattern)["rows"]
                assert one.pid in [row["pid"] for row in found]
                assert os.getpid() not in [row["pid"] for row in found]
            kinds = as_json("--all", "--name", "600.25", "--group", "kind")["totals"]["size"]
            assert kinds == sum(m.end - m.start for m in fpm.PageMap(one.pid).mappings())
        finally:
            one.kill()
    said = run("report", "--all", "--name", "no-such-process")
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)


@pytest.mark.root
def test_processes_of_a_user(victim):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["cat"], user=runas.NOBODY, bufsize=0, **pipes) as process:
        process.stdin.write(b"\n")
        process.stdout.readline()  # it runs
        found = as_json("--all", "--user", runas.NOBODY)["rows"]
        process.communicate()
    assert process.pid in [row["pid"] for row in found]
    assert len({row["user"] for row in found}) == 1
    name = pwd.getpwuid(os.geteuid()).pw_name
    mine = as_json("--all", "--user", name)["rows"]
    assert os.getpid() in [row["pid"] for row in mine]
    assert {row["user"] for row in mine} == {name}


@pytest.mark.parametrize("user", ["", "no-such-user"])
def test_a_user_without_processes(user):
    said = run("report", "--all", "--user", user)
    assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
    assert f"no process is of user '{user}'" in said.stderr.decode()


@pytest.mark.root
def test_rows_of_a_group_by_name(victim):
    with Victim() as other:
        whole = as_json(victim.pid, other.pid)
        found = as_json(victim.pid, other.pid, "--name", "no-such-name")
        every = as_json(victim.pid, other.pid, "--name", "victim.py")
        said = run("report", victim.pid, other.pid, "--filter", "rss<1")
    assert said.stdout.decode().rstrip().endswith("2 processes, 0 shown")
    assert found["rows"] == []
    assert found["of"] == 2
    assert (found["totals"]["rss"], "of" in every) == (0, False)
    assert [row["pid"] for row in every["rows"]] == [victim.pid, other.pid]
    assert found["together"]["rss"] == pytest.approx(whole["together"]["rss"], rel=0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--all", "--path", "libc"],
        ["1", "2", "--path", "libc"],
        ["1", "--name", "x"],
        ["1", "--user", "root"],
        ["1", "--json", "--csv"],
        ["1", "--csv", "--parquet", "x"],
        ["1", "-n", "0"],
        ["1", "-n", "x"],
        ["1", "--min", "pid=1M"],
        ["1", "--min", "rss=1M"],
        ["1", "--min", "=1M"],
        ["1", "--sort", "command"],
        ["1", "--sort", "pid"],
        ["--all", "--sort", "path"],
        ["1", "--group", "kind", "--sort", "path"],
        ["1", "--filter", "path>x"],
        ["1", "--filter", "threads"],
        ["1", "--filter", "start>xyz"],
        ["--all", "--filter", "threads>-1"],
        ["--swap", "--name", "x"],
        ["--swap", "-n", "3"],
        ["--swap", "--user", ""],
    ],
)
def test_what_does_not_go_together_is_refused(arguments):
    said = run("report", *arguments)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1), said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["forks", "1", "--json", "--limit", "10"],
        ["run", "--json", "--limit", "3", __file__],
        ["memray", "x", str(os.getpid()), "--json", "--limit", "3"],
        ["memray", "x", str(os.getpid()), "--json", "--pprof", "-"],
        ["memray", "x", str(os.getpid()), "--json", "--flamegraph", "-"],
        ["memray", "x", str(os.getpid()), "--pprof", "x.json", "--flamegraph", "./x.json"],
        ["record", "1", "-o", "-"],
    ],
)
def test_what_would_not_be_heeded_is_refused(arguments, tmp_path):
    said = run(*arguments, cwd=tmp_path)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1), said.stderr
    assert not os.listdir(tmp_path)


def test_where_there_are_no_rows_none_match(tmp_path):
    """As of two snapshots between which nothing changed."""
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(tmp_path / "a.fpm")
    said = run("diff", *[tmp_path / "a.fpm"] * 2, "--json", "--path", "lib")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["rows"] == []


def test_of_differences_one_form(tmp_path):
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(tmp_path / "a.fpm")
    pair = tmp_path / "a.fpm", tmp_path / "a.fpm"
    assert run("diff", *pair, "--json").returncode == 0
    assert run("diff", *pair, "--json", "--csv").returncode == 2
