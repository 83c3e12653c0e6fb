"""TARGET: a word in place of a command, a name of several processes, a word of a command line."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest

import fastpagemap as fpm
from commandline import COMMAND, run
from fastpagemap.report.commands import told_apart
from locked import Locked
from namesakes import NAME, namesakes, user

pytest.importorskip("click")

SCRIPT = f"train-it-{os.getpid()}.py"
SLEEP = "import sys, time; print(flush=True); time.sleep(600)"


@pytest.fixture
def start(tmp_path):
    """Start processes of one name; they end with the test."""
    with namesakes(tmp_path) as start:
        yield start


@pytest.fixture
def script(tmp_path):
    """Start Python programs, each of them a file of this name."""
    with contextlib.ExitStack() as stack:

        def started(name, *words):
            path = tmp_path / name
            path.write_text(SLEEP)
            command = [sys.executable, path, *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            process.stdout.readline()
            return process

        yield started


def pid_of(*words, **options):
    """The process that a report is about."""
    said = run(*words, **options)
    assert said.returncode == 0, said.stderr
    return int(said.stdout.split()[2])


def rows(said):
    """The cells of a table of several processes, by pid."""
    lines = [line.split(None, 4) for line in said.stderr.decode().splitlines()]
    assert lines[1] == ["pid", "user", "parent", "start", "command"]
    return {int(pid): cells for pid, *cells in lines[2:] if pid != "and"}


def test_a_bare_word_is_a_target(start, tmp_path):
    process = start("x")
    assert pid_of(NAME) == process.pid
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(tmp_path / "before.fpm")
    assert pid_of("before.fpm", cwd=tmp_path) == os.getpid()
    assert pid_of("before.fpm", "--sort", "present", cwd=tmp_path) == os.getpid()
    assert run("--all", "--json").stdout.startswith(b"{")
    said = run("--help")
    assert b"COMMAND" in said.stdout
    assert run("--version").stdout.startswith(b"fastpagemap")


def test_the_name_of_a_command_wins(start):
    with contextlib.ExitStack() as stack:
        command = [shutil.which("sleep"), "600"]
        process = stack.enter_context(
            subprocess.Popen(["doctor", *command[1:]], executable=command[0])
        )
        stack.callback(process.kill)
        assert b"page_size" in run("doctor").stdout
        assert pid_of("report", "doctor") == process.pid


def test_what_is_spelled_almost_so_is_suggested(start):
    said = run("reprot")
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"did you mean 'report'?" in said.stderr
    start("x")
    said = run(NAME.replace("name", "nmae"))
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (1, b"", 1)
    # another run of the tests may have names like it
    assert NAME in said.stderr.decode().partition("did you mean ")[2].split("?")[0].split()
    said = run("--al")
    assert said.returncode == 2
    assert b"--all" in said.stderr


@pytest.mark.parametrize("command", ["report", "dump", "doctor"])
def test_a_directory_is_no_file(command, tmp_path):
    name = f"recorded-{os.getpid()}"  # no process has it in its command line
    (tmp_path / name).mkdir()
    output = ["-o", "a.fpm"] if command == "dump" else []
    said = run(command, name, *output, cwd=tmp_path)
    assert (said.returncode, said.stdout, said.stderr.count(b"\n")) == (2, b"", 1)
    told = said.stderr.decode()
    assert f"'{name}' is a directory, and no process; " in told
    assert f"'fastpagemap map {name} --over-time' draws what was recorded" in told


def test_a_process_without_memory_is_said_to_be_one(start):
    """Ps lists it, so there is a process of that name."""
    process = start("sleep", "--version")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    for command in ("report", "forks"):
        said = run(command, NAME)
        assert (said.returncode, said.stdout) == (1, b"")
        assert f"'{NAME}' has no memory: it is a kernel thread or a zombie" in said.stderr.decode()


def test_several_of_a_name_are_told_apart(start):
    start("one")
    start("other")
    said = run(NAME)
    assert (said.returncode, said.stdout) == (2, b"")
    assert f"2 processes are called '{NAME}': say which".encode() in said.stderr
    found = rows(said)
    assert [cells[:2] for cells in found.values()] == [[user(), str(os.getpid())]] * 2
    assert [cells[3] for cells in found.values()] == ["one 600", "other 600"]
    for pid, (_, _, began, _) in found.items():
        expected = os.stat(f"/proc/{pid}").st_ctime
        if ":" in began:
            today = time.strftime("%Y-%m-%d ", time.localtime(expected))
            seconds = time.mktime(time.strptime(today + began, "%Y-%m-%d %H:%M:%S"))
            assert abs(seconds - expected) < 60


def test_a_command_line_does_not_look_like_another_process(start):
    one, other = start("x), 1 (postgres: main\n    1  root"), start("\x1b[2J\n")
    said = run("report", NAME)
    assert (said.returncode, said.stdout) == (2, b"")
    assert list(rows(said)) == [one.pid, other.pid]
    assert b"\x1b" not in said.stderr


def test_a_command_line_of_a_mebibyte_is_cut(start):
    start("a" * (100 << 10)), start("b" * (100 << 10))
    said = run("report", NAME)
    assert said.returncode == 2
    assert max(map(len, said.stderr.decode().splitlines()[1:])) <= 80


def test_not_more_than_a_screen_of_them(start):
    for number in range(22):
        start(f"number-{number}")
    said = run(NAME)
    assert said.stderr.decode().splitlines()[-1] == "  and 2 more"
    assert said.stderr.count(b"number-") == 20


def test_a_word_of_a_command_line(script, tmp_path):
    process = script(SCRIPT, "--fast")
    assert pid_of(SCRIPT) == process.pid
    # the file is here, too, but it is no snapshot
    assert pid_of(SCRIPT, cwd=tmp_path) == process.pid
    assert run(SCRIPT.removesuffix(".py")).returncode == 1
    # the shell is not meant, whose own command line does not say what it runs
    words = ["sh", "-c", f"$RUN {SCRIPT}; exit $?", SCRIPT]
    environment = {**os.environ, "RUN": " ".join(COMMAND)}
    shell = subprocess.run(words, capture_output=True, env=environment)
    assert shell.returncode == 0, shell.stderr
    script("any.py", "fastpagemap", "watch", SCRIPT)
    assert pid_of(SCRIPT) == process.pid  # nor another one of this command
    other = script(SCRIPT, "--slow")
    assert {pid: cells[3][-6:] for pid, cells in rows(run(SCRIPT)).items()} == {
        process.pid: "--fast",
        other.pid: "--slow",
    }


def test_the_name_of_a_program_comes_first(start, script):
    script("any.py", NAME)
    process = start("x")
    assert pid_of(NAME) == process.pid


def test_a_snapshot_and_a_word_of_a_command_line(script, tmp_path):
    """Whoever edits a snapshot, or watches it, does not keep others from reading it."""
    script("any.py", "before.fpm")
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(tmp_path / "before.fpm")
    assert pid_of("before.fpm", cwd=tmp_path) == os.getpid()


def test_one_that_is_locked_hides_no_other(script):
    process = script(SCRIPT)
    with Locked(name="it-is-locked") as locked:
        locked.lock()
        assert pid_of(SCRIPT) == process.pid


@pytest.mark.parametrize(
    ("lines", "width", "expected"),
    [
        (["sleep 1", "sleep 2"], 10, ["sleep 1", "sleep 2"]),
        (["/usr/bin/a-program x", "y"], 12, ["a-program x", "y"]),
        (["long-program one", "long-program other"], 10, ["…one", "…other"]),
        (["a x/y/worker-1", "a x/y/worker-2"], 10, ["…worker-1", "…worker-2"]),
        (
            ["java -Xmx1g -cp long.jar Main", "java -Xmx2g -cp long.jar Main"],
            14,
            ["…-Xmx1g …", "…-Xmx2g …"],
        ),
        (["the same words", "the same words"], 8, ["the sam…", "the sam…"]),
        (["a" * 50, "b"], 4, ["aaa…", "b"]),
        (["\x1b[2J"], 20, ["\\x1b[2J"]),
        ([], 10, []),
        ([""], 10, [""]),
    ],
)
def test_commands_are_cut_where_they_do_not_differ(lines, width, expected):
    assert told_apart(lines, width) == expected
