"""The files of a recording: when a new one begins, and what is left when something goes wrong."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time

import pytest

import backed
import linux
import runas
from commandline import COMMAND, run
from fastpagemap.cli.collect import about_now, read_mappings
from fastpagemap.report.changes import joined
from fastpagemap.report.recording import MAX_UNSAVED, Recording
from recordings import files_in, mapped, record, rows_in

pytest.importorskip("pyarrow")

DAY = 1_800_000_000 - 1_800_000_000 % 86400  # a midnight, UTC


def recording(directory, **options):
    options = {"host": "h", "max_seconds": 900.0, "max_bytes": 1 << 26, **options}
    return Recording(os.fspath(directory), **options)


def begin(files, when):
    files.begin(about_now(None, "")._replace(time=when))


def test_every_file_begins_with_everything(victim, tmp_path):
    span = victim.make("untouched", 40)
    steps = [lambda n=n: span.do("write", n, n + 1) for n in range(3)]
    record(tmp_path, [victim.pid], *steps, max_bytes=1)
    found = [rows_in(path) for path in files_in(tmp_path)]
    assert len(found) == 4
    for rows in found:
        assert mapped(rows).keys() == mapped(found[0]).keys()
        assert len({row["since"] for row in rows}) == 1
        assert {row["time"] for row in rows} == {rows[0]["since"]}


def test_what_ended_between_two_files_is_not_in_the_second(victim, tmp_path):
    child = victim.fork()

    def end():
        os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while linux.is_running(child):  # it ends when it gets a processor
            assert time.monotonic() < deadline
            time.sleep(0.001)

    record(tmp_path, [victim.pid, child], end, max_bytes=1)
    first, second = (rows_in(path) for path in files_in(tmp_path))
    assert {row["pid"] for row in first} == {victim.pid, child}
    assert {row["pid"] for row in second} == {victim.pid}


@pytest.mark.parametrize(
    ("began", "now", "over"),
    [
        (DAY, DAY + 899, False),
        (DAY, DAY + 900, True),
        (DAY + 500, DAY + 499.999, True),  # the clock was set back
        (DAY + 86_000, DAY + 86_399, False),
        (DAY + 86_000, DAY + 86_400, True),  # another day is another directory
    ],
)
def test_when_a_file_ends(tmp_path, began, now, over):
    files = recording(tmp_path)
    assert not files.is_over(now)
    begin(files, began)
    assert files.is_over(now) == over
    files.save()
    assert not files.is_over(now)


def test_files_of_one_time_do_not_replace_each_other(tmp_path):
    files = recording(tmp_path, host="a/b c\udcff")
    whole = read_mappings(os.getpid(), True, None)
    for _ in range(2):
        begin(files, DAY + 1)
        files.add(joined([whole], whole.about._replace(time=DAY + 1)))
        files.save()
    found = files_in(tmp_path)
    assert len(found) == files.files == 2
    where = os.path.relpath(os.path.dirname(found[0]), tmp_path)
    assert where == f"host=a%2Fb%20c%5Cxff/date={time.strftime('%Y-%m-%d', time.gmtime(DAY))}"
    assert os.stat(found[0]).st_mode & 0o777 == 0o600


def test_a_process_in_no_cgroup(tmp_path):
    """As on a kernel without any, or whose /proc shows none."""
    files = recording(tmp_path)
    whole = read_mappings(os.getpid(), True, None)
    whole = dataclasses.replace(whole, about=whole.about._replace(cgroup=None))
    begin(files, DAY)
    files.add(joined([whole], whole.about))
    files.save()
    assert {row["cgroup"] for row in rows_in(*files_in(tmp_path))} == {None}


@pytest.mark.root
def test_a_full_disk(victim, tmp_path):
    """What could not be written is written when there is room again, but not all that ever was."""
    with backed.mounted("tmpfs", "size=128k") as directory:
        stopper = os.path.join(directory, "stopper")

        def fill():
            with contextlib.suppress(OSError), open(stopper, "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

        rounds = MAX_UNSAVED + 1
        steps = [lambda: None] * rounds + [lambda: os.unlink(stopper)]
        fill()
        recorder = record(f"{directory}/r", [victim.pid], *steps, max_bytes=1)
        found = files_in(f"{directory}/r")
        assert len(found) == recorder.files.files
        assert recorder.files.files + recorder.files.lost == rounds + 2
        assert recorder.files.lost > 0
        assert all(mapped(rows_in(path)) for path in found)


@pytest.mark.root
def test_a_disk_that_stays_full(victim):
    with backed.mounted("tmpfs", "size=4k") as directory:
        said = run("record", victim.pid, "-o", f"{directory}/r", "--count", 1)
        assert said.returncode == 1
        assert said.stderr.count(b"\n") == 1
        assert b"cannot write" in said.stderr
        assert b"No space left" in said.stderr
        assert files_in(directory) == []


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    os.mkdir(tmp_path / "closed", 0o555)
    places = [tmp_path / "file" / "r", *([tmp_path / "closed"] * (os.geteuid() != 0))]
    for place in places:
        said = run("record", os.getpid(), "-o", place, "--count", 1)
        assert (said.returncode, said.stdout) == (1, b"")
        assert said.stderr.count(b"\n") == 1
        assert os.fsencode(place) in said.stderr
    assert files_in(tmp_path) == [os.fspath(tmp_path / "file")]


@pytest.mark.root
def test_a_directory_of_somebody_else(theirs, tmp_path):
    os.chmod(tmp_path, 0o755)

    def attempt():
        runas.become(runas.NOBODY)
        with pytest.raises(PermissionError, match=r"Permission denied|cannot write into"):
            recording(tmp_path)

    runas.in_child(attempt)


def started(*arguments):
    """A recording that has begun, but for its first reading."""
    process = subprocess.Popen(
        [*COMMAND, "record", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(b"recording into ")
    return process


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_all_that_was_read(victim, tmp_path, number):
    with started(victim.pid, "-o", tmp_path, "--interval", 3600) as process:
        process.send_signal(number)
        out, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    (path,) = files_in(tmp_path)
    rows = rows_in(path)
    assert f"1 file, {len(rows)} rows of 1 process; ".encode() in out


def test_a_crash_costs_the_last_file_alone(victim, tmp_path):
    before = []
    for _ in range(2):  # and it goes on, beside what is there
        options = ("--interval", 0.01, "--budget", 0.2, "--rotate-size", 1)
        with started(victim.pid, "-o", tmp_path, *options) as process:
            while len(files_in(tmp_path)) < len(before) + 2:
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        found = files_in(tmp_path)
        assert set(before) <= set(found)
        assert all(mapped(rows_in(path)) for path in found if path.endswith(".parquet"))
        before = found


def test_who_may_not_be_read(public):
    """It says so at once, and leaves no file without rows."""

    def attempt():
        if os.geteuid() == 0:
            runas.become(runas.NOBODY)
        record(public, [1])

    with pytest.raises(OSError, match="1 process could not be read: "):
        runas.in_child(attempt)
    assert files_in(public) == []


def test_it_ends_with_the_last_process(tmp_path):
    sleeper = subprocess.Popen(["sleep", "1000"])
    with started(sleeper.pid, "-o", tmp_path, "--interval", 0.01) as process:
        sleeper.kill()
        sleeper.wait()
        out, _ = process.communicate()
    assert process.returncode == 0
    assert out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1"],
        ["1", "--all", "-o", "x"],
        ["--all", "--tree", "-o", "x"],
        ["1", "-o", "x", "--columns", "rss"],
        ["1", "-o", "x", "--budget", "0"],
        ["1", "-o", "x", "--rotate-size", "much"],
    ],
)
def test_misuse(tmp_path, arguments):
    said = run("record", *arguments, cwd=tmp_path)
    assert (said.returncode, said.stderr.count(b"\n")) == (2, 1)
    assert files_in(tmp_path) == []
