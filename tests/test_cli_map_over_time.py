"""`fastpagemap map --over-time`: what was recorded of a process, as a picture."""

import os

import numpy as np
import pytest

import reused
from commandline import run
from fastpagemap.cli import recorder
from fastpagemap.cli.collect import about_now
from fastpagemap.report import palette
from fastpagemap.report.replay import read_history
from fastpagemap.report.timeline import CHANGES, timeline
from linux import PAGE
from recordings import files_in, mapped, readings, record, rows_in
from victim import Victim

pyarrow = pytest.importorskip("pyarrow")
image = pytest.importorskip("matplotlib.image")
over_time = pytest.importorskip("fastpagemap.report.over_time")

STEPS = 400


def read(directory, steps=STEPS, max_rows=1000):
    history, _ = read_history(os.fspath(directory), None)
    return history, timeline(history, history.mappings, steps, max_rows)


def row_of(shown, start):
    """The row that an address is in: what lies beside it may be of no file, too."""
    return max((row for row in shown.rows if row.start <= start), key=lambda row: row.start)


def bytes_of(row, key):
    return row.amounts[:, palette.KEYS.index(key)]


@pytest.fixture
def elapsing(monkeypatch):
    """Readings that lie ten seconds apart, or as far as was put into the list."""
    told, clock = [], [1000.0]

    def later(*whose):
        clock[0] += told.pop(0) if told else 10.0
        about = about_now(*whose)
        return about._replace(uptime=clock[0], time=1_800_000_000 + clock[0])

    monkeypatch.setattr(recorder, "about_now", later)
    return told


@pytest.mark.usefixtures("elapsing")
def test_each_step_has_what_its_reading_found(victim, tmp_path):
    span = victim.make("untouched", 100)
    other = victim.make("memfd", 30)
    other.do("write")
    steps = [lambda n=n: span.do("write", 0, n) for n in (20, 50, 90)]
    record(tmp_path, [victim.pid], *steps, lambda: other.do("close"), max_bytes=1)
    history, shown = read(tmp_path)
    present = bytes_of(row_of(shown, span.start), "anonymous")
    assert shown.recorded.all()
    found = [rows_in(path) for path in files_in(tmp_path)]
    assert len(found) == 5
    for (rows,) in map(readings, found):
        step = np.searchsorted(shown.ends, rows[0]["uptime"])
        now = mapped(rows).values()
        touched = sum(row.amounts[step, : palette.UNTOUCHED] for row in shown.rows).sum()
        assert touched == sum(row["present"] + row["swapped"] + row["unknown"] for row in now)
    assert np.unique(present).tolist() == [0, 20 * PAGE, 50 * PAGE, 90 * PAGE]
    marked = row_of(shown, span.start).changed
    assert {what: int(marked[what].sum()) for what in CHANGES} == {
        "swapped_out": 0, "swapped_in": 0, "touched": 3, "written": marked["written"].sum(),
    }  # fmt: skip
    gone = row_of(shown, other.start).amounts.any(axis=1)
    assert gone[0]
    assert not gone[-1]
    assert history.whose.pid == victim.pid


@pytest.mark.usefixtures("any_swap", "elapsing")
@pytest.mark.root
def test_what_was_swapped_out_and_came_back(victim, tmp_path):
    private, shared = victim.make("touched", 300), victim.make("memfd", 200)
    shared.do("write")

    def out():
        victim.pageout(private)
        victim.pageout(shared)

    record(tmp_path, [victim.pid], out, lambda: private.do("write", 0, 100))
    history, shown = read(tmp_path)
    row = row_of(shown, private.start)
    assert np.unique(bytes_of(row, "swapped_anonymous")).tolist() == [0, 200 * PAGE, 300 * PAGE]
    assert [int(row.changed[what].sum()) for what in CHANGES[:3]] == [1, 1, 0]
    row = row_of(shown, shared.start)
    assert np.unique(bytes_of(row, "swapped_shared")).tolist() == [0, 200 * PAGE]
    over_time.draw(history, history.mappings, width=1200).savefig(tmp_path / "a.png")
    pixels = (image.imread(tmp_path / "a.png")[..., :3] * 255).round().astype(int)
    colours = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    for key in ("anonymous", "swapped_anonymous", "swapped_shared"):
        colour = palette.STATES[palette.KEYS.index(key)].colour
        assert tuple(bytes.fromhex(colour[1:])) in colours


def test_what_was_not_recorded_is_left_white(victim, tmp_path, elapsing):
    elapsing += [10.0, 10.0, 10.0]
    record(tmp_path, [victim.pid], lambda: None, lambda: None)
    elapsing += [1000.0]
    record(tmp_path, [victim.pid], lambda: None)
    _, shown = read(tmp_path)
    gap = np.flatnonzero(~shown.recorded)
    assert 0.9 * STEPS < len(gap) < STEPS
    assert (np.diff(gap) == 1).all()
    assert shown.recorded[[0, -1]].all()


@pytest.mark.usefixtures("elapsing")
def test_what_has_no_row_of_its_own_is_counted_together(victim, tmp_path):
    span = victim.make("touched", 5000)
    record(tmp_path, [victim.pid], lambda: None)
    _, all_of_it = read(tmp_path)
    _, shown = read(tmp_path, max_rows=4)
    assert len(shown.rows) == 4
    assert shown.rows[-1].start is None
    most = bytes_of(row_of(all_of_it, span.start), "anonymous")
    assert any((bytes_of(row, "anonymous") == most).all() for row in shown.rows[:-1])
    sums = [sum(row.amounts for row in each.rows) for each in (all_of_it, shown)]
    assert (sums[0] == sums[1]).all()
    assert tuple(over_time.MARKS) == CHANGES


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_of_each_format(victim, tmp_path, kind):
    record(tmp_path / "r", [victim.pid])
    target = tmp_path / f"a.{kind}"
    said = run("map", tmp_path / "r", "--over-time", "-o", target)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert target.read_bytes().startswith(begins[kind])
    assert os.stat(target).st_mode & 0o777 == 0o600


def complaint(*arguments):
    said = run("map", *arguments)
    assert said.stdout == b""
    assert said.stderr.count(b"\n") == 1
    assert not any(name.endswith("a.png") for name in arguments if os.path.exists(name))
    return said.returncode, said.stderr.decode()


def test_which_process(victim, tmp_path):
    told = "--over-time", "-o", os.fspath(tmp_path / "a.png")
    recorded = os.fspath(tmp_path / "r")
    with Victim() as other:
        pids = [victim.pid, other.pid]
        record(recorded, pids)
        record(tmp_path / "r2", pids)
        record(tmp_path / "r2", pids, host="another")
    code, text = complaint(recorded, *told)
    assert code == 2
    assert "2 processes were recorded: say which by --pid: " in text
    assert all(f"{pid} (" in text for pid in pids)
    code, text = complaint(os.fspath(tmp_path / "r2"), *told)
    assert code == 2
    assert "4 processes were recorded: say which by --pid, and by the directory host=..." in text
    code, text = complaint(recorded, *told, "--pid", "1")
    assert code == 2
    assert "no process 1 was recorded" in text
    code, text = complaint(os.fspath(tmp_path / "r2"), *told, "--pid", str(other.pid))
    assert code == 2
    assert "several hosts have a process" in text
    for directory in (recorded, tmp_path / "r2" / "host=another"):
        said = run("map", directory, *told, "--pid", other.pid)
        assert (said.returncode, said.stderr) == (0, b"")


@pytest.mark.root
def test_the_last_one_that_had_the_pid(tmp_path):
    with Victim() as first:
        pid = first.pid
        record(tmp_path / "r", [pid])
    later = reused.process_with(pid)
    try:
        record(tmp_path / "r", [pid])
    finally:
        later.kill()
        later.communicate()
    said = run("map", tmp_path / "r", "--over-time", "-o", tmp_path / "a.png")
    assert said.returncode == 0
    assert said.stderr.decode().count(f"1 more had the process id {pid} before") == 1
    history, before = read_history(tmp_path / "r", None)
    assert before == 1
    assert history.whose.start_time == rows_in(files_in(tmp_path / "r")[-1])[0]["start_time"]


@pytest.mark.parametrize("what", ["empty", "missing", "file", "cut", "text", "another"])
def test_what_is_no_recording(victim, tmp_path, what):
    directory = tmp_path / "r"
    if what in ("cut", "text", "another"):
        record(directory, [victim.pid])
        (path,) = files_in(directory)
        with open(path, "r+b") as file:
            if what == "cut":
                os.truncate(path, os.stat(path).st_size // 2)
            elif what == "text":
                file.write(b"text" * 1000)
                os.truncate(path, 4000)
        if what == "another":
            assert run("report", victim.pid, "--all", "--parquet", path).returncode == 2
            assert run("report", "--all", "--parquet", path).returncode == 0
    elif what == "file":
        directory.write_bytes(b"")
    elif what == "empty":
        directory.mkdir()
    code, text = complaint(os.fspath(directory), "--over-time", "-o", os.fspath(tmp_path / "a.png"))
    assert code == 1
    assert os.fspath(directory) in text
    expected = {
        "empty": "nothing is recorded",
        "missing": "No such file",
        "file": "Not a directory",
    }
    assert expected.get(what, "damaged, or not written by") in text


FORGED = {
    "no time of reading": {"uptime": None},
    "another time of reading": {"uptime": float("nan")},
    "more time than there was": {"uptime": 1e308},
    "no address": {"start": None},
    "no pid": {"pid": None},
    "no path": {"path": None},
    "a list": {b"fastpagemap": b"[1]"},
    "an endless list": {b"fastpagemap": b"[" * 100_000},
    "no end": {b"fastpagemap_end": b'{"until": "x"}'},
    "an endless end": {b"fastpagemap_end": b'{"until": 1e400, "readings": 1e400}'},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_file_that_somebody_else_made(tmp_path, change):
    """Of another host, from which files are copied: each is damaged, and none a fault of ours."""
    record(tmp_path, [os.getpid()])
    (path,) = files_in(tmp_path)
    table = pyarrow.parquet.ParquetFile(path).read()
    rows = [row | {key: change[key] for key in row.keys() & change.keys()} for row in rows_in(path)]
    said = {key: value for key, value in change.items() if isinstance(key, bytes)}
    kept = table.schema.with_metadata((table.schema.metadata or {}) | said)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, kept), path)
    with pytest.raises(OSError, match="damaged, or not written by"):
        read_history(os.fspath(tmp_path), None)


def test_a_file_without_rows(tmp_path):
    record(tmp_path, [os.getpid()])
    (path,) = files_in(tmp_path)
    table = pyarrow.parquet.ParquetFile(path).read()
    pyarrow.parquet.write_table(table.slice(0, 0), path)
    with pytest.raises(FileNotFoundError, match="nothing is recorded there"):
        read_history(os.fspath(tmp_path), None)


def test_nothing_that_can_be_drawn(victim, tmp_path):
    record(tmp_path, [victim.pid], fields=("size", "pss"))
    code, text = complaint(os.fspath(tmp_path), "--over-time", "-o", os.fspath(tmp_path / "a.png"))
    assert code == 1
    assert "neither present nor swapped was recorded" in text


@pytest.mark.parametrize(
    "arguments", [["--pid", "1"], ["--over-time", "--by", "node"], ["--over-time", "--soft-dirty"]]
)
def test_misuse(tmp_path, arguments):
    assert complaint("1", "-o", os.fspath(tmp_path / "a.png"), *arguments)[0] == 2
