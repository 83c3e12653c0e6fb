"""Reports as Parquet: one schema, and which process of which host a row is of."""

import datetime
import os
import time

import pytest

import linux
from commandline import run
from fastpagemap.report import parquet
from needs import need
from snapshots import small

arrow = pytest.importorskip("pyarrow")
files = pytest.importorskip("pyarrow.parquet")

TIME = arrow.timestamp("us", tz="UTC")


def written(path, *arguments):
    said = run("report", *arguments, "--parquet", path)
    assert (said.returncode, said.stdout) == (0, b""), said.stderr
    return files.read_table(path)


def cgroup_of(pid):
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        lines = [line.rstrip(b"\n").split(b":", 2) for line in file]
    of_memory = [path for _, names, path in lines if b"memory" in names.split(b",")]
    return os.fsdecode((of_memory or [path for number, _, path in lines if number == b"0"])[0])


def check_origin(rows, pid):
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    for row in rows:
        assert (row["host"], row["boot_id"]) == (os.uname().nodename, boot)
        assert row["since"] == row["time"]
        ago = datetime.datetime.now(datetime.UTC) - row["time"]
        assert datetime.timedelta(0) <= ago < datetime.timedelta(minutes=5)
        assert (row["pid"], row["start_time"]) == (pid, int(linux.stat(pid)[19]))
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - row["uptime"]
        assert 0 <= ago < 300


def test_whose_mappings_they_are(victim, tmp_path):
    table = written(tmp_path / "a", victim.pid)
    assert table.column_names == list(parquet.columns("mapping"))
    check_origin(table.to_pylist(), victim.pid)
    assert set(table["cgroup"].to_pylist()) == {cgroup_of(victim.pid)}
    assert len(set(table["name"].to_pylist())) == 1
    assert set(table["pss"].to_pylist()) == {None}
    types = [str(table.schema.field(name).type) for name in ("present", "start", "path")]
    assert types == ["int64", "uint64", "string"]
    assert table.schema.field("time").type == TIME


def test_processes(victim, tmp_path):
    table = written(tmp_path / "a", "--all", "--user", str(os.geteuid()))
    assert table.column_names == list(parquet.columns("process"))
    (row,) = [row for row in table.to_pylist() if row["pid"] == victim.pid]
    check_origin([row], victim.pid)
    assert row["cgroup"] == cgroup_of(victim.pid)
    assert row["present"] > 0


def test_members_of_a_group(victim, tmp_path):
    table = written(tmp_path / "a", victim.pid, os.getpid())
    assert table.column_names == list(parquet.columns("member"))
    for row in table.to_pylist():
        check_origin([row], row["pid"])
        assert row["cgroup"] is None


def test_a_snapshot_is_of_no_host_that_is_known(tmp_path):
    taken = small()
    taken.save(tmp_path / "a.fpm")
    rows = written(tmp_path / "a", tmp_path / "a.fpm").to_pylist()
    assert len(rows) == len(taken.mappings)
    for row in rows:
        assert [row[name] for name in ("host", "boot_id", "start_time", "cgroup")] == [None] * 4
        assert (row["pid"], row["name"]) == (taken.pid, taken.name)
        assert row["time"].timestamp() == pytest.approx(taken.time, abs=1e-5)


@pytest.mark.parametrize("options", [["--columns", "present"], ["--group", "kind"], []])
def test_the_same_columns_whatever_is_asked_for(victim, tmp_path, options):
    table = written(tmp_path / "a", victim.pid, *options)
    by = "kind" if "kind" in options else "mapping"
    assert table.schema.equals(parquet.schema(parquet.columns(by)))
    assert (table["size"].null_count > 0) == ("present" in options)
    assert set(table["pid"].to_pylist()) == {victim.pid}


def test_a_column_that_was_asked_for(victim, tmp_path):
    need(os.path.exists(f"/proc/{victim.pid}/smaps"), "smaps")
    table = written(tmp_path / "a", victim.pid, "--columns", "present,uss")
    assert table["uss"].null_count == 0
    assert sum(table["uss"].to_pylist()) > 0
