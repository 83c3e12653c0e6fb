"""What a recording has in it: all mappings at first, then what has changed."""

import os

import pytest

import fastpagemap as fpm
import memory
import reused
from fastpagemap.cli import collect
from fastpagemap.report.parquet import columns, schema
from fastpagemap.report.recording import COLUMNS
from linux import PAGE
from recordings import files_in, mapped, readings, record, rows_in
from victim import Victim

files = pytest.importorskip("pyarrow.parquet")


def rows_of(directory):
    (path,) = files_in(directory)
    return rows_in(path)


def usage_of(pid):
    """The columns of `usage` by address, of a process that does nothing."""
    with fpm.PageMap(pid) as pm:
        usage = pm.usage()
        return {
            row["start"]: dict(zip(usage.dtype.names, row.tolist(), strict=True)) for row in usage
        }


def check_state(rows, pid):
    """The last row of each mapping is what the process has now."""
    found = {key[2]: row for key, row in mapped(rows).items() if key[0] == pid}
    expected = usage_of(pid)
    assert found.keys() == expected.keys()
    for start, sizes in expected.items():
        for name, size in sizes.items():
            if name == "exclusive" and found[start]["inode"]:
                continue  # other processes map and unmap the same files
            assert found[start][name] == size, (hex(start), name)


def test_what_was_written_has_a_new_row(victim, tmp_path):
    span = victim.make("untouched", 40)
    record(tmp_path, [victim.pid], lambda: span.do("write", 0, 7))
    rows = rows_of(tmp_path)
    first, second = readings(rows)
    assert [row["start"] for row in first] == sorted(usage_of(victim.pid))
    changed = {row["start"]: row for row in second}
    assert changed[span.start]["present"] == 7 * PAGE
    assert len(second) < len(first)
    check_state(rows, victim.pid)


def test_nothing_happens_and_nothing_is_written(victim, tmp_path):
    # not `exclusive`: other processes map and unmap the same files
    fields = ("size", "present", "swapped")
    record(tmp_path, [victim.pid], lambda: None, lambda: None, fields=fields)
    assert len(readings(rows_of(tmp_path))) == 1


@pytest.mark.parametrize("how", ["protect", "unmap", "grow"])
def test_mappings_come_and_go(victim, tmp_path, how):
    span = victim.make("touched", 16)

    def change():
        if how == "protect":  # it becomes three
            span.do("protect", 0, 4, 8)
        elif how == "unmap":
            span.do("close")
        else:
            victim.make("touched", 30)

    record(tmp_path, [victim.pid], change)
    rows = rows_of(tmp_path)
    check_state(rows, victim.pid)
    if how == "unmap":
        (gone,) = [row for row in rows if row["start"] == span.start and not row["size"]]
        assert gone["present"] == 0
        assert gone["permissions"] == "rw-p"


def test_a_process_that_ends(victim, tmp_path):
    with Victim() as other:
        record(tmp_path, [victim.pid, other.pid], other.kill)
        rows = rows_of(tmp_path)
    assert {key[0] for key in mapped(rows)} == {victim.pid}
    assert {row["pid"] for row in rows} == {victim.pid, other.pid}


def test_another_program_in_the_same_process(victim, tmp_path):
    record(tmp_path, [victim.pid], victim.exec)
    check_state(rows_of(tmp_path), victim.pid)


@pytest.mark.root
def test_a_pid_that_is_given_out_again(tmp_path):
    with Victim() as first:
        pid, later = first.pid, []

        def replace():
            first.kill()
            later.append(reused.process_with(pid))

        try:
            record(tmp_path, [pid], replace)
            rows = rows_of(tmp_path)
            assert {row["pid"] for row in rows} == {pid}
            before, after = sorted({row["start_time"] for row in rows})
            assert {key[1] for key in mapped(rows)} == {after}
            assert {row["start_time"] for row in readings(rows)[0]} == {before}
        finally:
            for process in later:
                process.kill()
                process.communicate()


def test_a_name_that_changes(tmp_path):
    """A row says which name its process has: then all are written anew."""

    def rename(name):
        with open("/proc/self/comm", "wb") as file:
            file.write(name)

    with open("/proc/self/comm", "rb") as file:
        before = file.read()
    try:
        record(tmp_path, [os.getpid()], lambda: rename(b"\xff\n\x1b[2J"))
    finally:
        rename(before.removesuffix(b"\n"))
    first, second = readings(rows_of(tmp_path))
    assert {row["name"] for row in second if row["size"]} == {"\\xff\n\x1b[2J"}
    unchanged = {row["start"] for row in first} & {key[2] for key in mapped([*first, *second])}
    assert unchanged <= {row["start"] for row in second}


def test_paths_of_any_bytes(tmp_path):
    odd_path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff caf\xc3\xa9\n")
    with open(odd_path, "wb+") as file:
        os.ftruncate(file.fileno(), PAGE)
        made = memory.Memory(1, flags=memory.mmap.MAP_SHARED, fd=os.dup(file.fileno()))
    with made:
        record(tmp_path / "r", [os.getpid()])
    paths = [os.path.basename(row["path"]) for row in rows_of(tmp_path / "r")]
    assert "\\xff café\\x0a" in paths or "\\xff café\n" in paths


def test_one_schema(victim, tmp_path):
    record(tmp_path / "a", [victim.pid])
    record(tmp_path / "b", [victim.pid], fields=("size", "present"))
    for directory in ("a", "b"):
        (path,) = files_in(tmp_path / directory)
        assert files.read_schema(path).equals(schema(COLUMNS))
    assert ("host", *COLUMNS) == columns("mapping")
    assert {row["swapped"] for row in rows_in(path)} == {None}


def test_who_cannot_be_read_does_not_end_others(victim, tmp_path):
    told = []
    recorder = record(tmp_path, lambda: told.append(1) or [victim.pid, 2], lambda: None)
    assert len(told) == 2
    assert {row["pid"] for row in rows_of(tmp_path)} == {victim.pid}
    assert len(recorder.seen) == 1


def test_paths_have_a_budget(victim, tmp_path, monkeypatch):
    """As those of `report` have; the others are recorded."""
    size = sum(map(len, collect.read_mappings(victim.pid, False, None).labels["path"]))
    monkeypatch.setattr(collect, "MAX_PATHS_SIZE", size)
    recorder = record(tmp_path, [os.getpid(), victim.pid])
    assert {pid for pid, _ in recorder.seen} == {victim.pid}
    assert recorder.refused == {os.getpid(): "not enough memory: its paths are too long"}
