"""``report --all``: each process as ps tells of it, and what may not be added up."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

import fastpagemap as fpm
import namesakes
from commandline import run
from fastpagemap.cli import collect
from fastpagemap.report import report as reports
from fastpagemap.report.tables import plain
from locked import Locked
from needs import need

pytest.importorskip("click")

THREADS = """
import sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


def rows_by_pid(*arguments):
    said = run("report", "--all", "--json", *arguments)
    assert said.returncode == 0, said.stderr
    return {row["pid"]: row for row in json.loads(said.stdout)["rows"]}


def ps(pid):
    """What ps tells of a process: user, parent, command line."""
    words = ["ps", "--no-headers", "-ww", "-o", "user:32=,ppid=,args=", "-p", str(pid)]
    user, parent, command = subprocess.check_output(words, text=True).split(None, 2)
    return user, int(parent), command.strip()


def test_each_process_as_ps_tells_of_it():
    command = [sys.executable, "-c", THREADS, "a word"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        row = rows_by_pid()[process.pid]
        found = tuple(row[name] for name in ("user", "parent", "threads", "command"))
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        process.communicate()
    assert found == (
        namesakes.user(),
        os.getpid(),
        4,
        " ".join(os.fsdecode(word) for word in words),
    )


def test_as_ps_tells_it():
    need(shutil.which("ps"), "ps (procps)")
    row = rows_by_pid()[os.getpid()]
    user, parent, command = ps(os.getpid())
    assert (row["user"], row["parent"], row["command"]) == (user, parent, command[:4096])
    assert row["threads"] >= threading.active_count()


def test_a_sum_is_no_total():
    for more in ([], ["--group", "kind"], ["--group", "path"]):
        lines = run("report", "--all", *more).stdout.decode().splitlines()
        assert lines[-1].split()[0] == "sum"
    assert run("report", os.getpid()).stdout.decode().splitlines()[-1].split()[0] == "total"


def test_one_cell_for_each_column():
    """Also with names that have blanks: only the last cell may hold one."""
    about = reports.About(None, "", 0.0, "6.18", 4096)
    labels = {"pid": [7], "user": ["me"], "parent": [1], "threads": [1], "mappings": [3]}
    labels |= {"name": ["a b"], "command": [""]}
    usage = reports.sizes_of(fpm.PageMap().usage(fpm.PageMap().mappings()[:1]))
    _, head, row, _ = plain(reports.Report(about, "process", labels, usage))
    assert head.split()[:5] == ["pid", "user", "parent", "threads", "mappings"]
    assert row.split()[:5] == ["7", "me", "1", "1", "3"]
    assert row.endswith("  [a b]")
    assert head.index("command") == row.index("[a b]")


def test_one_that_is_locked_is_named_and_the_others_are_told():
    with Locked(name="it-is-locked") as locked:
        locked.lock()
        said = run("report", "--all", "--json", "--timeout", 0.5)
    found = json.loads(said.stdout)
    assert locked.pid in [one["pid"] for one in found["unreadable"]]
    row = next(row for row in found["rows"] if row["pid"] == os.getpid())
    assert row["command"]


def test_one_that_ends_while_it_is_read_is_left_out(victim, monkeypatch):
    """Its row would have neither a name nor a user, also where those of a user are asked for."""
    real = collect.sums_of

    def ended_then(process, columns):
        sums = real(process, columns)
        victim.kill()
        return sums

    monkeypatch.setattr(collect, "sums_of", ended_then)
    with pytest.raises(ProcessLookupError):
        collect._row_of(victim.pid, False, collect.summed_columns(None))
