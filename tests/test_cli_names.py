"""What a word on the command line means, where strangers choose names; and where /proc is odd."""

import json
import os
import subprocess
import sys

import pytest

import cgroups
import fastpagemap as fpm
import linux
import runas
from commandline import run
from fastpagemap.cli.collect import collect_all
from namesakes import NAME, namesakes
from victim import Victim

pytest.importorskip("click")

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


@pytest.fixture
def start(tmp_path):
    """Start processes of one name; they end with the test."""
    with namesakes(tmp_path) as start:
        yield start


def test_a_snapshot_and_a_process_of_one_name(start, tmp_path):
    """Whoever may write to the directory could have put the file there."""
    process = start("sleep")
    directory = tmp_path / "there"
    directory.mkdir()
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(directory / NAME)
    said = run("report", NAME, cwd=directory)
    text = f"'{NAME}' is a snapshot here, and a process: say ./{NAME} or {process.pid}"
    assert (said.returncode, said.stdout) == (2, b"")
    assert text in said.stderr.decode()
    found = run("report", f"./{NAME}", "--json", cwd=directory)
    assert (found.returncode, found.stderr) == (0, b"")
    assert json.loads(found.stdout)["pid"] == os.getpid()
    found = run("report", process.pid, "--json", cwd=directory)
    assert json.loads(found.stdout)["snapshot"] is False


def test_a_snapshot_that_is_called_like_a_process_is_named(tmp_path):
    with fpm.PageMap() as pagemap:
        for name in ("no-such-process", "no-such-process.fpm"):
            pagemap.snapshot().save(tmp_path / name)
    said = run("report", "no-such-process", cwd=tmp_path)
    assert said.returncode == 0
    text = b"no process is called 'no-such-process', so it is the file ./no-such-process"
    assert said.stderr == b"fastpagemap: " + text + b"\n"
    for word in ("./no-such-process", "no-such-process.fpm"):
        said = run("report", word, cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["0"], "report"),
        (["forks", "0"], "forks"),
        (["dump", "--raw", "1", "-o", "x"], "dump"),
        (["diff", "-", "-"], "diff"),
        (["map", "0", "-o", "x.png", "--by", "node"], "map"),
        (["report", "0", "--json", "--csv"], "report"),
        ([], ""),
    ],
)
def test_misuse_names_the_command_whose_help_to_read(arguments, command, tmp_path):
    """Also if it is found while the command reads."""
    said = run(*arguments, cwd=tmp_path)
    expected = " ".join(["see 'fastpagemap", *command.split(), "--help'"])
    assert (said.returncode, said.stderr.count(b"\n")) == (2, 1)
    assert said.stderr.decode().endswith(f"({expected})\n")


def elsewhere(kind, options, *arguments, nobody=False, cwd="/"):
    """Run the command where another file system is mounted at /proc."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import linux, runas\n"
        f"linux.call('unshare', {CLONE_NEWNS})\n"
        f"linux.call('mount', b'none', b'/', None, {MS_REC | MS_PRIVATE}, None)\n"
        # now, while what it imports can be read for certain
        "import contextlib as c, io, fastpagemap.cli\n"
        "with c.redirect_stdout(io.StringIO()), c.redirect_stderr(io.StringIO()):\n"
        "    fastpagemap.cli.main(sys.argv[2:])\n"
        f"linux.call('mount', b'none', b'/proc', {kind!r}, 0, {options!r})\n"
        f"{nobody} and runas.become(runas.NOBODY)\n"
        "sys.exit(fastpagemap.cli.main(sys.argv[2:]))"
    )
    directory = os.path.dirname(__file__)
    command = [sys.executable, "-c", program, directory, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.root
@pytest.mark.parametrize("arguments", [["--all"], ["no-such-process"], ["--cgroup", "/"]])
def test_without_proc(arguments):
    said = elsewhere(b"tmpfs", None, "report", *arguments)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)
    assert said.stderr.startswith("fastpagemap: /proc does not show this process")


@pytest.mark.root
def test_without_proc_files_are_read_all_the_same(tmp_path):
    with fpm.PageMap() as pagemap:
        pagemap.snapshot().save(tmp_path / "here.fpm")
    said = elsewhere(b"tmpfs", None, "report", "here.fpm", cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"# process {os.getpid()} ")


@pytest.mark.root
def test_without_proc_no_file_is_said_to_be_missing():
    said = elsewhere(b"tmpfs", None, "files", __file__)
    text = "it can only be opened through /proc, which is not mounted here"
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == f"fastpagemap: {__file__}: {text}\n"


@pytest.mark.root
def test_without_proc_memray_says_what_it_lacks(write_program):
    pytest.importorskip("memray")
    said = elsewhere(b"tmpfs", None, "run", str(write_program("")))
    assert said.returncode == 1
    assert "fastpagemap: memray cannot record the program: " in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.root
def test_what_hidepid_hides_is_said(victim):
    said = elsewhere(b"proc", b"hidepid=invisible", "report", "--all", nobody=True)
    assert (said.returncode, str(victim.pid) in said.stdout) == (0, False)
    assert "fastpagemap: /proc hides the processes of other users" in said.stderr
    said = elsewhere(b"proc", b"hidepid=invisible", "report", "no-such-process", nobody=True)
    assert said.returncode == 1
    assert "(/proc hides those of other users)" in said.stderr


@pytest.mark.root
def test_those_that_may_not_be_entered_are_counted():
    said = elsewhere(b"proc", b"hidepid=noaccess", "report", "--all", nobody=True)
    assert (said.returncode, "python" in said.stdout) == (0, True)
    assert "processes could not be read: Permission denied (it is running" in said.stderr
    assert "hidepid" in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.mark.root
@pytest.mark.parametrize("option", [b"hidepid=noaccess", b"hidepid=invisible"])
def test_hidden_children_and_members_are_said(option):
    with cgroups.own() as group, Victim(runas.NOBODY) as own, Victim() as one, Victim() as other:
        said = elsewhere(b"proc", option, "report", "--tree", str(own.pid), nobody=True)
        assert (said.returncode, str(own.pid) in said.stdout) == (0, True)
        assert "/proc hides the parents of other users' processes (hidepid)" in said.stderr
        for pid in own.pid, one.pid, other.pid:
            linux.write_text(f"{group}/cgroup.procs", pid)
        said = elsewhere(b"proc", option, "report", "--cgroup", group, nobody=True)
    assert (said.returncode, str(own.pid) in said.stdout) == (0, True)
    assert "2 processes could not be read: " in said.stderr
    assert "of them" not in said.stderr
    assert "(hidepid)" not in said.stderr


@pytest.mark.root
def test_where_none_can_be_read_that_is_a_failure(victim):
    def nobody():
        with pytest.raises(OSError, match="1 process could not be read: Permission denied"):
            collect_all([victim.pid, 2, 999_999_999], timeout=20.0)

    runas.as_nobody(nobody)
