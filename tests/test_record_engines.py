"""Recordings of two hosts, read by several engines, and the queries of docs/fleet.md.

hosts/ has what a virtual machine of another kernel recorded; kernels/record.py says how.
"""

import functools
import importlib
import itertools
import pathlib
import re
import shutil
import time

import pytest

from fastpagemap.cli import recorder
from fastpagemap.cli.collect import about_now
from fastpagemap.report.recording import COLUMNS
from linux import PAGE
from needs import Missing
from recordings import files_in, mapped, readings, record, rows_in
from victim import Victim

HOSTS = pathlib.Path(__file__).with_name("hosts")
#: Pages that were in swap there, of private and of shared memory, and of that the shared.
THERE = "linux-6.1", 2700, 700
DOCS = pathlib.Path(__file__).parents[1] / "docs" / "fleet.md"
QUERIES = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
KEYS = ("host", "boot_id", "pid", "start_time", "start", "time")


def library(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(name) from error


@pytest.fixture
def directory(tmp_path, victim, monkeypatch):
    """Two hosts, of which the second has more; the names are all that is not real of it."""
    library("pyarrow")
    monkeypatch.chdir(tmp_path)
    for host, pages in (("one", 8), ("two.example", 30)):
        span = victim.make("untouched", 100)
        write = functools.partial(span.do, "write")
        steps = [functools.partial(write, 0, pages), time.time, functools.partial(write, 40, 50)]
        record("recorded", [victim.pid], *steps, host=host)
    record("recorded", [victim.pid], host="one")
    return "recorded"


def expected(directory):
    """All rows by the reader of one file, and the host by its directory."""
    found = []
    for path in files_in(directory):
        host, _ = (part for part in path.split("/") if "=" in part)
        found += [{"host": host.partition("=")[2], **row} for row in rows_in(path)]
    return in_order(found)


def in_order(rows):
    return sorted(rows, key=lambda row: tuple(row[key] for key in KEYS))


def _duckdb(directory):
    duckdb = library("duckdb")
    duckdb.sql("SET TimeZone = 'UTC'")
    found = duckdb.sql(f"from read_parquet('{directory}/**/*.parquet', hive_partitioning = true)")
    return found.to_arrow_table().to_pylist()


ENGINES = {
    "duckdb": _duckdb,
    "polars": lambda directory: (
        library("polars")
        .scan_parquet(f"{directory}/**/*.parquet", hive_partitioning=True)
        .collect()
        .to_dicts()
    ),
    "pyarrow": lambda directory: library("pyarrow.parquet").read_table(directory).to_pylist(),
    "dataset": lambda directory: (
        library("pyarrow.dataset").dataset(directory, partitioning="hive").to_table().to_pylist()
    ),
}


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_reads_the_same(directory, name):
    found = ENGINES[name](directory)
    assert {str(row.pop("date")) for row in found} == {
        path.split("date=")[1].partition("/")[0] for path in files_in(directory)
    }
    assert set(found[0]) == {"host", *COLUMNS}
    assert {row["host"] for row in found} == {"one", "two.example"}
    assert in_order(found) == expected(directory)


@pytest.mark.parametrize("name", ENGINES)
def test_what_a_crash_left_behind_is_passed_over(directory, name):
    """A file that was written when `record` was killed, on a file system that names it at once."""
    whole = expected(directory)
    (path, *_) = files_in(directory)
    pathlib.Path(path).with_name(".fastpagemap-0123456789abcdef").write_bytes(b"PAR1")
    assert len(ENGINES[name](directory)) == len(whole)


@pytest.fixture
def of_two_kernels(tmp_path, victim, monkeypatch):
    """Ours, and what was recorded on Linux 6.1, in one directory."""
    library("pyarrow")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(HOSTS, "recorded")
    span = victim.make("untouched", 100)
    record("recorded", [victim.pid], lambda: span.do("write", 0, 50), host="here")
    return "recorded"


@pytest.mark.parametrize("name", ENGINES)
def test_files_of_two_kernels_are_one_table(of_two_kernels, name):
    found = ENGINES[name](of_two_kernels)
    for row in found:
        del row["date"]
    assert in_order(found) == expected(of_two_kernels)
    boots = {row["host"]: row["boot_id"] for row in found}
    assert set(boots) == {"here", THERE[0]}
    assert boots["here"] != boots[THERE[0]]
    assert all(set(row) == {"host", *COLUMNS} for row in found)


def test_who_swapped_most_on_two_kernels(of_two_kernels):
    """What smaps said over there, when it was recorded."""
    rows = library("duckdb").sql(QUERIES[0]).fetchall()
    (host, pages, shared) = THERE
    (found,) = [row for row in rows if row[0] == host]
    assert found[3:] == (pages * 4096, shared * 4096)
    assert {row[0] for row in rows} == {"here", host}


def test_how_one_process_went(directory):
    """By the query of docs/fleet.md, and by hand."""
    duckdb = library("duckdb")
    rows = duckdb.sql(QUERIES[1]).fetchall()
    found = {row[:3]: row[4] for row in rows}
    assert len(found) == len(rows)
    for path in files_in(directory):
        so_far = []
        for reading in readings(rows_in(path)):
            so_far += reading
            (pid,) = {row["pid"] for row in so_far}
            host = path.split("host=")[1].partition("/")[0]
            present = sum(row["present"] for row in mapped(so_far).values())
            assert found.pop((host, pid, reading[0]["time"])) == present
    assert found == {}


def test_the_clock_is_set_back(victim, tmp_path, monkeypatch):
    """While it records, and before it is started again: the newest is still told by the uptime."""
    duckdb = library("duckdb")
    monkeypatch.chdir(tmp_path)
    span, offsets = victim.make("untouched", 100), iter([0, 0, -100, -100, -300])
    monkeypatch.setattr(
        recorder, "about_now", lambda *whose: shifted(about_now(*whose), next(offsets))
    )
    steps = [functools.partial(span.do, "write", 0, pages) for pages in (10, 30, 60)]
    record("recorded", [victim.pid], *steps)
    span.do("write", 60, 100)
    record("recorded", [victim.pid])
    assert len(files_in("recorded")) == 3
    rows = duckdb.sql(QUERIES[1]).fetchall()
    present = [row[4] for row in rows]
    assert len(present) == 5
    assert [more - less for less, more in itertools.pairwise(present)] == [
        pages * PAGE for pages in (10, 20, 30, 40)
    ]
    assert last_state(duckdb, span.start, "uptime") == 100 * PAGE
    assert last_state(duckdb, span.start, "since") < 100 * PAGE


def shifted(about, seconds):
    return about._replace(time=about.time + seconds)


def last_state(duckdb, start, by):
    """What a mapping has present in the end, if `by` tells what came last."""
    rows = "read_parquet('recorded/**/*.parquet', hive_partitioning = true)"
    query = f"SELECT max_by(present, {by}) FROM {rows} WHERE start = {start}"
    return duckdb.sql(query).fetchall()[0][0]


@pytest.mark.root
@pytest.mark.usefixtures("any_swap")
def test_who_swapped_most(victim, directory):
    """By the query of docs/fleet.md: what smaps says of that process."""
    duckdb = library("duckdb")
    private, shared = victim.make("touched", 300), victim.make("memfd", 70)
    shared.do("write")
    steps = [functools.partial(victim.pageout, span) for span in (private, shared)]
    record(directory, [victim.pid], *steps, host="two.example")
    with Victim() as other:
        small = other.make("touched", 20)
        other.pageout(small)
        record(directory, [other.pid], host="one")
        rows = duckdb.sql(QUERIES[0]).fetchall()
        assert [row[:3:2] for row in rows[:2]] == [("two.example", victim.pid), ("one", other.pid)]
        for (_, _, pid, most, shared), whose in zip(rows, (victim, other), strict=False):
            with open(f"/proc/{whose.pid}/smaps_rollup") as file:
                swap = next(int(line.split()[1]) for line in file if line.startswith("Swap:"))
            of_it = 70 * PAGE if whose is victim else 0
            assert (pid, most, shared) == (whose.pid, swap << 10, of_it)
            assert swap << 10 >= (370 if whose is victim else 20) * PAGE


def test_who_swapped_most_has_each_process_once(directory):
    rows = library("duckdb").sql(QUERIES[0]).fetchall()
    assert len(rows) == len({(host, pid) for host, _, pid, *_ in rows}) == 2
