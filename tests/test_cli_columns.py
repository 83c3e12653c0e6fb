"""`fastpagemap report --columns`, next to usage; and options of it that do not go together."""

import json

import pytest

import fastpagemap as fpm
from commandline import run
from fastpagemap.report.conditions import SIZE_COLUMNS as SIZES
from victim import Victim

pytest.importorskip("click")


@pytest.fixture(scope="module")
def touched():
    with Victim() as victim:
        yield victim.make("touched", 3000)


def as_json(*arguments):
    said = run("report", *arguments, "--json")
    assert (said.returncode, said.stderr) == (0, b""), said.stderr
    return json.loads(said.stdout)


def test_a_snapshot_keeps_no_shares(touched, tmp_path):
    """It is not the kernel that lacks them."""
    assert run("dump", touched.victim.pid, "-o", tmp_path / "a.fpm").returncode == 0
    said = run("report", tmp_path / "a.fpm", "--columns", "pss")
    assert (said.returncode, said.stdout) == (1, b"")
    assert b"there is no column pss here: a snapshot does not keep it" in said.stderr


@pytest.mark.parametrize("columns", ["present,pss,uss", "uss", "size,present"])
def test_columns_of_mappings(touched, columns):
    names = columns.split(",")
    found = as_json(touched.victim.pid, "--columns", columns)
    with fpm.PageMap(touched.victim.pid) as pagemap:
        usage = pagemap.usage(fields=["start", *names])
    assert [row["start"] for row in found["rows"]] == usage["start"].tolist()
    assert list(found["totals"]) == names
    row, expected = (
        [row for row in rows if row["start"] <= touched.start][-1]
        for rows in (found["rows"], usage)
    )
    assert [row[name] for name in names] == [expected[name] for name in names]
    assert found["totals"][names[0]] > 0


@pytest.mark.parametrize("column", ["uss", "present"])
def test_mappings_sorted_by_a_column_that_is_not_shown(touched, column):
    rows = as_json(touched.victim.pid, "--columns", "pss,uss", "--sort", column, "--min", "4K")[
        "rows"
    ]
    with fpm.PageMap(touched.victim.pid) as pagemap:
        usage = pagemap.usage(fields=["start", column])
    sizes = dict(usage.tolist())
    assert all({"pss", "uss"} == row.keys() & set(SIZES) for row in rows)
    assert max(sizes, key=sizes.get) == rows[0]["start"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tree"],
        ["--who"],
        ["--who", "1", "2"],
        ["--tree", "1", "2"],
        ["1", "--cgroup", "/"],
        ["--tree", "1", "--cgroup", "/"],
        ["--tree", "--all"],
        ["1", "2", "--all"],
        ["1", "2", "--group", "kind"],
        ["1", "2", "--raw"],
        ["1", "2", "--sort", "present"],
        ["1", "2", "--columns", "nothing"],
        ["1", "2", "--columns", "mapped"],
        ["1", "2", "--sort", "union"],
        ["1", "--columns", "union"],
        ["1", "--sort", "pss"],
        ["1", "--columns", "rss"],
        ["1", "2", "--json", "--parquet", "x"],
    ],
)
def test_misuse(arguments):
    said = run("report", *arguments)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1), said.stderr
