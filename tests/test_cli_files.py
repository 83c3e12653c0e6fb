"""dump, diff, doctor and every command on files: real ones, broken ones, strangers'."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

import backed
import fastpagemap as fpm
import oracle
from commandline import COMMAND, run
from compare import while_still
from needs import need

pytest.importorskip("click")


PAGE = fpm.PAGE_SIZE


def rows_of(said):
    assert (said.returncode, said.stderr) == (0, b""), said.stderr
    return json.loads(said.stdout)


def dumped(victim, path):
    said = run("dump", victim.pid, "-o", path)
    assert (said.returncode, said.stderr) == (0, b"")
    assert said.stdout.count(b"\n") == 1
    return path


def test_a_file_stands_for_its_process(victim, tmp_path):
    victim.make("touched", 100)
    path = dumped(victim, tmp_path / "a.fpm")
    live, kept = (rows_of(run("report", of, "--json")) for of in (victim.pid, path))
    assert kept.pop("snapshot")
    assert not live.pop("snapshot")
    for one in (live, kept):
        del one["time"], one["totals"]["exclusive"]
        for row in one["rows"]:
            del row["exclusive"]
    assert live == kept
    assert os.listdir(tmp_path) == ["a.fpm"]


def test_a_bare_word_is_a_file_if_there_is_one(victim, tmp_path):
    dumped(victim, tmp_path / "no-process.fpm")
    said = run("report", "no-process.fpm", "--json", cwd=tmp_path)
    assert rows_of(said)["snapshot"]


def test_diff_tells_what_happened(victim, any_swap, tmp_path):
    there = victim.make("touched", 200)
    gone = victim.make("touched", 90)
    new = victim.make("untouched", 60)
    before = dumped(victim, tmp_path / "before")
    gone.do("drop")
    new.do("write", 0, 30)

    def entries():
        return oracle.words(there.start, there.end, victim.pid)

    def swap_some():
        victim.pageout(there)
        there.do("read", 0, 50)
        return entries()

    def look():
        after = dumped(victim, tmp_path / "after")
        found = rows_of(run("diff", before, after, "--json"))

        def sums(span):
            mine = [row for row in found["rows"] if row["start"] <= span.start < row["end"]]
            assert len(mine) == 1
            return {n: mine[0][n] // PAGE for n in ("swapped_out", "faulted_in", "dropped")}

        # what is read ahead with the 50 is in RAM, too
        assert 100 <= sums(there)["swapped_out"] <= 150
        assert sums(gone)["dropped"] == 90
        assert sums(new)["faulted_in"] == 30
        assert found["same_process"]
        assert found["totals"]["dropped"] >= 90 * PAGE
        now = rows_of(run("diff", before, victim.pid, "--json"))
        assert steady(now["rows"]) == steady(found["rows"])
        nothing = rows_of(run("diff", after, after, "--json"))
        assert nothing["rows"] == []

    while_still(look, swap_some, entries)


def steady(rows):
    """What of a diff does not change as others come and go who map the same files."""
    names = {"swapped_out", "faulted_in", "swapped_in", "dropped", "unshared"}
    assert all(names < row.keys() for row in rows)
    found = [row | {"unshared": row["unshared"] if row["device"] == 0 else 0} for row in rows]
    return [row for row in found if any(row[name] for name in names)]


def test_diff_of_strangers_is_said(victim, tmp_path):
    before = dumped(victim, tmp_path / "before")
    said = run("diff", before, os.getpid())
    assert said.returncode == 0
    assert b"not of the same process" in said.stderr


def test_raw_entries(victim, tmp_path):
    span = victim.make("sparse", 300)
    path = tmp_path / "entries"
    with open(f"/proc/{victim.pid}/pagemap", "rb") as file:
        file.seek(span.start // PAGE * 8)
        path.write_bytes(file.read(300 * 8))
    found = rows_of(run("report", path, "--raw", "--start", f"{span.start:x}", "--json"))
    assert found["totals"]["present"] == 100 * PAGE
    assert found["pid"] is None
    assert found["rows"][0]["start"] == span.start
    assert run("map", path, "--raw", "-o", tmp_path / "a.png").returncode == 0
    for arguments in ([path], [path, "--raw", "--start", "1"], [path, "--raw", "--start", "x"]):
        said = run("report", *arguments)
        assert (said.returncode, said.stdout) == (1 if len(arguments) == 1 else 2, b"")
        assert said.stderr.count(b"\n") == 1
    path.write_bytes(b"123")
    assert run("report", path, "--raw").returncode == 2


@pytest.mark.parametrize("command", ["report", "map", "diff", "doctor", "dump"])
def test_what_is_no_snapshot(command, victim, tmp_path):
    good = dumped(victim, tmp_path / "good").read_bytes()
    broken = {
        "empty": b"",
        "text": b"hello, world\n",
        "short": good[: len(good) // 2],
        "begins": b"PK\3\4" + os.urandom(4096),
        "zeros": bytes(1 << 16),
        "flipped": bytes([*good[:300], good[300] ^ 0xFF, *good[301:]]),
    }
    before = set(os.listdir(tmp_path)) | set(broken)
    for name, content in broken.items():
        path = tmp_path / name
        path.write_bytes(content)
        extra = {"map": ["-o", tmp_path / "a.png"], "dump": ["-o", tmp_path / "a"]}
        others = [path] if command == "diff" else extra.get(command, [])
        said = run(command, path, *others)
        assert (said.returncode, said.stdout) == (1, b""), (name, said)
        assert said.stderr.count(b"\n") == 1
        assert said.stderr.startswith(f"fastpagemap: {path}: ".encode())
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("path", ["/dev/full", "missing/x", ".", "/proc/x"])
def test_what_cannot_be_written(victim, path, tmp_path):
    said = run("dump", victim.pid, "-o", path, cwd=tmp_path)
    assert (said.returncode, said.stdout) == (1, b"")
    assert said.stderr.count(b"\n") == 1
    assert path.encode() in said.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_a_full_disk_leaves_no_half_file(victim):
    """Neither dump nor map; and what was there before is there still."""
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(backed.mounted("tmpfs", "size=16k"))
        kept = os.path.join(directory, "a.png")
        with open(kept, "w") as file:
            file.write("before")
        span = victim.make("untouched", 40_000)
        span.do("write", 0, 40_000, 2)
        span.do("write", 0, 40_000, 7)
        victim.ask("stripe", span.number)
        for command in (["map", victim.pid, "-o", kept], ["dump", victim.pid, "-o", kept]):
            said = run(*command)
            assert said.returncode == 1, command
            assert b"No space left on device" in said.stderr
            assert said.stderr.count(b"\n") == 1
            assert os.listdir(directory) == ["a.png"]
            with open(kept) as file:
                assert file.read() == "before"


def test_a_link_stays_one_and_a_mode_too(victim, tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    os.chmod(tmp_path / "real", 0o640)
    os.symlink("real", tmp_path / "link")
    dumped(victim, tmp_path / "link")
    assert os.path.islink(tmp_path / "link")
    assert os.stat(tmp_path / "real").st_mode & 0o777 == 0o640
    assert fpm.Snapshot.load(tmp_path / "real").pid == victim.pid


def test_doctor_of_a_file(victim, tmp_path):
    path = dumped(victim, tmp_path / "a")
    kept = fpm.Snapshot.load(path)
    made, _, told = run("doctor", path).stdout.partition(b"\n\n")
    assert told == run("doctor", victim.pid).stdout.partition(b"\n\n")[2]
    lines = dict(line.split(maxsplit=1) for line in made.decode().splitlines())
    assert lines["process"] == f"{victim.pid} {kept.name}"
    assert lines["kernel"] == f"Linux {os.uname().release}, {os.uname().machine}"
    when = datetime.strptime(lines["taken"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert when.timestamp() == int(kept.time)
    shown = kept.command if len(kept.command) <= 100 else f"{kept.command[:100]}…"
    assert lines["command"].split() == shown.split()


# ---- interrupted -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_at_any_time_is_quiet(moment, tmp_path):
    """The installed command, interrupted as it starts, as it imports, as it draws."""
    command = os.path.join(os.path.dirname(sys.executable), "fastpagemap")
    need(os.path.exists(command), "the fastpagemap command")
    process = subprocess.Popen(
        [command, "map", str(os.getpid()), "-o", tmp_path / "a.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # how Python starts is not ours to keep quiet
    while process.poll() is None and b"multiarray" not in _maps(process.pid):
        pass
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=240)
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert b"Traceback" not in said[1] or process.returncode == -signal.SIGINT
    assert set(os.listdir(tmp_path)) <= {"a.png"}


def _maps(pid):
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_closed_stdout(victim, tmp_path):
    for arguments in (["report"], ["dump", "-o", tmp_path / "a"]):
        command = shlex.join(map(str, [*COMMAND, *arguments, victim.pid]))
        said = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE)
        assert said.returncode == 1
        assert said.stderr.count(b"\n") == 1
        assert b"standard output is closed" in said.stderr


@pytest.mark.parametrize(
    "command",
    ["", "report", "files", "map", "watch", "top", "dump", "diff", "writes", "forks", "run",
     "memray", "doctor", "completion"],
)  # fmt: skip
def test_help_has_examples(command):
    said = run(*command.split(), "--help")
    assert said.returncode == 0
    assert b"Examples:\n    fastpagemap" in said.stdout
