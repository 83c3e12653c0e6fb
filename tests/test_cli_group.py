"""`fastpagemap report` of several processes, next to Group, smaps and what the processes did."""

import contextlib
import csv
import io
import json
import os

import pytest

import backed
import cgroups
import fastpagemap as fpm
import forks
import linux
import memory
import oracle
import runas
import swap
from commandline import run
from compare_usage import while_frames_stay
from fastpagemap.report.text import human
from linux import PAGE
from locked import Locked
from needs import need
from sharer import Sharer

pytest.importorskip("click")

PAGES, OWN = 4096, 512  # of the memory of a family, and how many of them each child has written
GONE = 999_999_999  # no kernel has pids of nine digits


class Family(contextlib.ExitStack):
    """A process with two children of its own, that share memory; each has copied a part of it."""

    def __enter__(self):
        super().__enter__()
        self.memory = self.enter_context(memory.touched(PAGES))
        self.root = self.enter_context(Sharer({"family": self._fork}))
        self.pids = [self.root.pid, *self.root.ask("family")]
        return self

    def _fork(self):
        return [self._child(first) for first in (0, OWN)]

    def _child(self, first):
        reader, writer = os.pipe()

        def write():
            self.memory.write(first, first + OWN)
            os.write(writer, b"!")

        pid = forks.waiting(write)
        os.read(reader, 1)
        return pid


@pytest.fixture(scope="module")
def family():
    with Family() as family:
        yield family


def as_json(*arguments):
    said = run("report", *arguments, "--json")
    notes = said.stderr.decode().splitlines()
    # A process of the machine may be hidden even from root, and have something in swap.
    assert [note for note in notes if "another process cannot be read" not in note] == []
    assert said.returncode == 0
    return json.loads(said.stdout)


def near(one, other):
    """Whether two sizes are equal, but for what others do meanwhile.

    They map libraries; and these tests, from whose process the family was forked, write to what it
    shares with them.
    """
    return abs(one - other) < max(1 << 20, one // 8)


@pytest.mark.parametrize("arguments", [(), ("--who", os.getpid())])
def test_an_empty_name_is_no_cgroup(arguments):
    said = run("report", "--cgroup", "", *arguments)
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"--cgroup: say which cgroup" in said.stderr


@pytest.mark.root
@pytest.mark.parametrize("how", ["pids", "tree"])
@while_frames_stay
def test_a_group_is_what_group_says(family, how):
    found = as_json(*(family.pids if how == "pids" else ["--tree", family.root.pid]))
    with fpm.Group(family.pids) as group:
        usage, total = group.usage(), group.total()
    assert (found["rows_are"], found["pid"], found["ended"]) == ("member", None, [])
    assert [row["pid"] for row in found["rows"]] == family.pids
    for row, expected in zip(found["rows"], usage, strict=True):
        assert row.keys() == {*usage.dtype.names, "name", "command"}
        assert row["rss"] == expected["rss"]
        assert near(row["pss"], int(expected["pss"]))
        with open(f"/proc/{row['pid']}/comm") as file:
            assert row["name"] == file.read().strip()
    together = found["together"]
    assert together.keys() == set(total.dtype.names)
    for name in ("rss", "union"):
        assert together[name] == total[name]
    # the copies of both children and what is left of the original
    assert together["unique"] <= together["union"] <= together["rss"] - 2 * (PAGES - OWN) * PAGE
    assert together["union"] >= (PAGES + 2 * OWN) * PAGE


@pytest.mark.root
@while_frames_stay
def test_last_line_of_a_table(family):
    lines = run("report", *family.pids).stdout.decode().splitlines()
    head = lines[1].split()
    *rows, last = [line.split(None, len(head) - 1) for line in lines[2:]]
    assert [row[-1] for row in rows] == [row["command"] for row in as_json(*family.pids)["rows"]]
    assert not any(row[-1].startswith("[") for row in rows)
    assert head[:6] == ["pid", "rss", "pss", "uss", "union", "unique"]
    assert {len(row) for row in rows} == {len(head)}
    at = head.index("union")
    assert [row[at] for row in rows] == ["-"] * 3
    assert (last[0], last[-1]) == ("group", "3 processes")
    total = fpm.Group(family.pids).total()
    assert last[at] == human(int(total["union"]))
    assert last[head.index("uss")] == "-"
    assert last[head.index("swapped_union")] == human(int(total["swapped_union"]))


@pytest.mark.root
@while_frames_stay
def test_the_line_of_a_group_is_about_all_whichever_rows_are_shown(family):
    whole = as_json(*family.pids)
    found = as_json(*family.pids, "--sort", "uss", "--columns", "uss,rss", "--filter", "uss>=2M")
    said = run("report", *family.pids, "--columns", "uss,rss").stderr.decode()
    # What is not shown is not missing.
    assert "swapped_pss" not in said or "swapped_pss" not in whole["totals"]
    assert found["together"]["union"] == whole["together"]["union"]
    assert {*found["rows"][0]} == {"command", "name", "pid", "rss", "uss"}
    assert {row["pid"] for row in found["rows"]} == set(family.pids[1:])
    assert found["rows"][0]["uss"] >= found["rows"][1]["uss"] >= OWN * PAGE
    assert as_json(*family.pids, "--min", "1T")["rows"] == []


@pytest.mark.root
@while_frames_stay
def test_named_columns_are_those_of_a_table(family):
    _, head, *_, last = run("report", *family.pids, "--columns", "union,uss").stdout.splitlines()
    assert head.split() == [b"pid", b"union", b"uss", b"command"]
    union = as_json(*family.pids)["together"]["union"]
    assert last.split() == [b"group", human(union).encode(), b"-", b"3", b"processes"]
    assert as_json(*family.pids, "--columns", "union")["together"]["union"] == union


@pytest.mark.root
def test_csv_and_parquet(family, tmp_path):
    rows = as_json(*family.pids)["rows"]
    said = run("report", *family.pids, "--csv").stdout.decode()
    table = list(csv.DictReader(io.StringIO(said)))
    assert [(int(row["pid"]), int(row["rss"])) for row in table] == [
        (row["pid"], row["rss"]) for row in rows
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "group.parquet"
    assert run("report", *family.pids, "--parquet", path).returncode == 0
    table = parquet.read_table(path)
    assert table.column("rss").to_pylist() == [row["rss"] for row in rows]
    assert json.loads(table.schema.metadata[b"fastpagemap"])["together"]["union"] > 0


@pytest.mark.parametrize("gone", [GONE, 2])
def test_who_has_ended_is_named_below(family, gone):
    need(gone != 2 or linux.is_kernel_thread(2), "kthreadd")
    said = run("report", family.root.pid, gone)
    assert said.returncode == 0
    assert f"process {gone} has ended, or has no memory: it is left out" in said.stderr.decode()
    assert said.stdout.decode().splitlines()[-1].endswith("1 process")
    found = json.loads(run("report", family.root.pid, gone, "--json").stdout)
    assert found["ended"] == [gone]
    said = run("report", family.root.pid, *range(GONE - 13, GONE))
    assert said.stderr.count(f"{GONE - 2} and 1 more have ended".encode()) == 1
    said = run("report", gone, GONE - 1)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)


@pytest.mark.parametrize("how", ["pids", "tree"])
def test_without_privilege_there_is_what_smaps_tells(how):
    def report():
        with Family() as family:
            arguments = family.pids if how == "pids" else ["--tree", family.root.pid]
            said = run("report", *arguments, "--json")
            sums = [oracle.smaps(pid).values() for pid in family.pids]
            return (
                json.loads(said.stdout),
                said.stderr.decode(),
                [sum(each["Rss"] for each in mappings) for mappings in sums],
            )

    found, said, rss = runas.as_nobody(report)
    assert [row["rss"] for row in found["rows"]] == rss
    assert found["together"].keys() == {"rss", "pss", "swapped", "unknown"}
    assert found["together"]["rss"] == sum(rss)
    assert said == (
        "fastpagemap: without union, unique, swapped_union: these need CAP_SYS_ADMIN, and root's "
        "/proc/kpagecount\n"
    )


@pytest.mark.root
def test_those_of_other_users_are_listed_not_read(family):
    def report():
        with Sharer({}) as mine:
            return run("report", mine.pid, *family.pids)

    said = runas.as_nobody(report)
    assert (said.returncode, said.stdout.decode().splitlines()[-1][-9:]) == (0, "1 process")
    pids = str(tuple(sorted(family.pids)))
    assert f"3 processes could not be read {pids}: Permission denied" in said.stderr.decode()


@pytest.mark.root
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_cgroup(version):
    with cgroups.limited(version, 1 << 30) as path, Sharer({"join": cgroups.join}) as member:
        member.ask("join", path)
        with Sharer({}):  # beside it
            found = as_json("--cgroup", path)
        assert [row["pid"] for row in found["rows"]] == [member.pid]
        name = path.removeprefix(cgroups._mounted(version))
        assert [row["pid"] for row in as_json("--cgroup", name)["rows"]] == [member.pid]
    said = run("report", "--cgroup", path)
    assert (said.returncode, said.stderr.count(b"\n")) == (1, 1)
    assert b"no such cgroup" in said.stderr


def test_one_that_is_locked_is_given_up(family):
    with Locked(name="it-is-locked") as locked:
        locked.lock()
        said = run("report", locked.pid, *family.pids, "--timeout", 0.5, "--json", timeout=240)
        assert said.returncode == 0
        found = json.loads(said.stdout)
        assert [row["pid"] for row in found["rows"]] == family.pids
        assert [one["pid"] for one in found["unreadable"]] == [locked.pid]
        assert "its memory is locked" in said.stderr.decode()
        said = run("report", "--who", locked.pid, "--timeout", 0.5, timeout=240)
        assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)


@pytest.mark.root
@pytest.mark.parametrize("among", [["--tree"], []])
def test_who_shares(family, among):
    # Others of the machine may not let themselves be read.
    said = run("report", "--who", *among, family.root.pid, "--json", "--timeout", 1)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    root, *children = family.pids
    with fpm.Group(family.pids) as group:
        table = group.overlap()
    assert (found["pid"], found["rows_are"]) == (root, "sharer")
    sizes = [row["overlap"] for row in found["rows"]]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0
    rows = {row["pid"]: row for row in found["rows"]}
    assert root not in rows
    assert set(rows) == set(children) or not among
    for number, pid in enumerate(children, 1):
        assert near(rows[pid]["overlap"], int(table[0, number]))
        assert near(rows[pid]["mapped"], int(table[number, number]))
    assert near(found["mapped"], int(table[0, 0]))
    assert max(sizes) <= found["together"]["overlap"] <= found["mapped"]


@pytest.mark.root
def test_who_needs_frames(family):
    def report():
        with Sharer({}) as mine:
            return run("report", "--who", mine.pid)

    said = runas.as_nobody(report)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)
    assert b"CAP_" in said.stderr


@pytest.mark.usefixtures("any_swap")
@pytest.mark.root
def test_what_is_swapped_counts_once():
    """Memory of a file that both have mapped is in swap once, and in the rows of both."""
    with backed.memfd(256) as made:
        made.write()
        with Sharer({}) as sharer, Sharer({}) as other:
            swap.pageout(made.start, made.end)
            found = as_json(sharer.pid, other.pid)
    assert [row["swapped"] >= 256 * PAGE for row in found["rows"]] == [True, True]
    together = found["together"]
    assert together["swapped"] == sum(row["swapped"] for row in found["rows"])
    assert together["swapped_union"] <= together["swapped"] - 256 * PAGE
