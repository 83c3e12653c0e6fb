"""`fastpagemap forks`: what a family of processes shares, as smaps says and as was written."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time

import pytest

import fastpagemap as fpm
import linux
import oracle
from commandline import COMMAND, run
from linux import PAGE
from needs import Absent, need
from runas import as_nobody, in_child
from victim import Victim

pytest.importorskip("click")

from fastpagemap.cli import forked
from fastpagemap.report import forked as report

PAGES = 64


def look(pid):
    return forked.look(pid, {}, 60.0)


@pytest.fixture
def victim():
    with Victim() as each:
        yield each


def parts(victim, memory):
    """(shared, own) in pages of one piece of memory, the parent first, then its children."""
    sight = look(victim.pid)
    assert next(iter(sight.mappings)) == victim.pid
    name = next(
        name for name in sight.mappings[victim.pid] if name.startswith(f"{memory.start:012x}")
    )
    found = [sight.mappings[pid][name] for pid in sight.mappings]
    return [(shared // PAGE, own // PAGE) for shared, own in found]


def test_one_worker(victim):
    memory = victim.make("touched", PAGES)
    assert parts(victim, memory) == [(0, PAGES)]
    victim.fork()
    assert parts(victim, memory) == [(PAGES, 0)] * 2
    # the page that was written is the writer's, and the one it was copied from the child's alone
    memory.do("write", 10, 15)
    assert parts(victim, memory) == [(PAGES - 5, 5)] * 2


def test_two_workers(victim):
    memory = victim.make("touched", PAGES)
    pids = [victim.fork(), victim.fork()]
    memory.do("write", 0, 7)
    assert parts(victim, memory) == [(PAGES - 7, 7), *[(PAGES, 0)] * 2]
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: len(look(victim.pid).mappings) == 2)
    assert parts(victim, memory) == [(PAGES - 7, 7)] * 2


@pytest.mark.root
def test_together(victim):
    victim.make("touched", 4096)
    victim.fork()
    together = look(victim.pid).together
    assert together["rss"] - together["union"] >= 4096 * PAGE
    assert 4096 * PAGE <= together["unique"] < together["union"]


def test_not_a_copy(victim):
    """Zero pages are nobody's; shared memory makes no copies."""
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    zero = victim.make("zero", PAGES)
    untouched = victim.make("untouched", PAGES)
    shared = victim.make("shared_anonymous", PAGES)
    victim.fork()
    assert parts(victim, zero) == [(0, 0)] * 2
    assert parts(victim, untouched) == [(0, 0)] * 2
    parted = look(victim.pid).mappings.values()
    assert not any(name.startswith(f"{shared.start:012x}") for each in parted for name in each)


def test_grandchildren(victim):
    """Whoever was forked below the parent is a worker; what it touched first is its own, too."""
    untouched = victim.make("untouched", PAGES)
    victim.fork()
    untouched.do("write", 0, 3)
    assert parts(victim, untouched) == [(0, 3), (0, 0)]


@pytest.mark.parametrize("kind", ["touched", "sparse", "file_private", "huge"])
def test_like_smaps(victim, kind):
    """Mapping by mapping, in each process: the sums of Shared_* and of Private_*."""
    # any mapping may have zero pages, which smaps leaves out
    need(fpm.capabilities().scan, "PAGEMAP_SCAN (Linux 6.7)", Absent)
    memory = victim.make(kind, 1024 if kind == "huge" else PAGES)
    family = [victim.pid, victim.fork(), victim.fork()]
    memory.do("write", 0, 9)
    with stopped(family):  # a process that runs goes on copying
        sight = look(victim.pid)
        smaps = {pid: by_smaps(pid) for pid in family}
    assert list(sight.mappings) == family
    for pid, found in sight.mappings.items():
        wanted = smaps[pid]
        new = found.pop(report.NEW, report.NOTHING)
        answer = {name.partition(" ")[0]: tuple(part) for name, part in found.items()}
        assert {start: wanted.pop(start) for start in answer} == answer
        # what is left is of mappings that the parent has not
        assert tuple(map(sum, zip((0, 0), *wanted.values(), strict=True))) == new


@contextlib.contextmanager
def stopped(pids):
    """Have processes stand still."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: all(linux.stat(pid)[0] == "T" for pid in pids))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def by_smaps(pid):
    """(shared, own) of all private mappings that can be written to, by their start in hex."""
    answer = {}
    for line, fields in zip(oracle.maps(pid), oracle.smaps(pid).values(), strict=True):
        if "p" in line.permissions and ("w" in line.permissions or not line.path):
            shared = fields["Shared_Clean"] + fields["Shared_Dirty"]
            own = fields["Private_Clean"] + fields["Private_Dirty"]
            answer[f"{line.start:012x}"] = (shared, own)
    return answer


def test_grown_mappings():
    """A worker's mapping is the parent's that it overlaps, whichever of the two has grown."""
    from fastpagemap import Mapping

    def mapping(start, end):
        return Mapping(start << 12, end << 12, "rw-p", 0, "00:00", 0, "")

    parents = [mapping(10, 20), mapping(20, 30), mapping(40, 50)]
    names = [report.mapping_name(each) for each in parents]
    for first in ((10, 20), (12, 13)):
        assert report.place(mapping(*first), parents) == names[0]
    for last in ((42, 90), (35, 45)):
        assert report.place(mapping(*last), parents) == names[2]
    for alone in ((1, 10), (30, 40), (50, 60)):
        assert report.place(mapping(*alone), parents) == report.NEW


def test_strangers():
    """A child that has called exec has a heap of its own: it is left out, and counted."""
    with subprocess.Popen(["sleep", "100"]) as stranger:
        try:
            linux.wait_until_asleep(stranger.pid)
            sight = look(os.getpid())
            roles = {member.pid: member.role for member in sight.members}
            assert roles[stranger.pid] == "other"
            assert stranger.pid not in sight.mappings
        finally:
            stranger.kill()


def test_what_changed_comes_first(victim):
    victim.make("touched", 16 * PAGES)
    small = victim.make("touched", 4 * PAGES)  # more than the victim itself writes meanwhile
    victim.fork()
    first = look(victim.pid)
    small.do("write", 0, 4 * PAGES)
    rows = [*report.tables(look(victim.pid), first, 1, None)]
    assert rows[-2].endswith(f"  {report.change(4 * PAGES * PAGE)}  {small.start:012x} [anon]")


def test_names_of_mappings():
    """By the words of all tables: a name that a program has given, slash or not, is a name."""
    from fastpagemap import Mapping

    names = {"": "[anon]", "[anon:pool/1]": "[anon:pool/1]", "/lib/a.so (deleted)": "a.so"}
    for path, name in names.items():
        mapping = Mapping(1 << 12, 2 << 12, "rw-p", 0, "00:00", 0, path)
        assert report.mapping_name(mapping) == f"{1 << 12:012x} {name}"


def test_change():
    assert [report.change(size) for size in (0, 4096, -8192)] == ["0", "+4Ki", "-8Ki"]


def wait_for(true, patience=30.0):
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_again_and_again(victim):
    memory = victim.make("touched", PAGES)
    child = victim.fork()
    said = run("forks", victim.pid, "--count", 2, "--interval", 0.05, "--limit", 1000)
    assert (said.returncode, said.stderr) == (0, b"")
    text = said.stdout.decode()
    assert text.count("mapping of the parent") == 2
    assert re.search(rf"^ *{child} .* worker ", text, re.MULTILINE)
    row = next(line for line in text.splitlines() if f"{memory.start:012x}" in line)
    assert row.split()[:4] == [f"{PAGES * PAGE >> 10}Ki", "0", "0", "0"]
    # nothing can have changed before the first look
    assert text.count("  change  ") == 2


def test_parent_that_ends(victim):
    """It is an end, and no mistake."""
    command = [*COMMAND, "forks", str(victim.pid), "--interval", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert f"process {victim.pid} and 0 workers".encode() in process.stdout.readline()
        victim.kill()
        process.stdout.read()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.root
def test_not_allowed(victim):
    with pytest.raises(PermissionError):
        as_nobody(look, victim.pid)
    assert in_child(lambda: len(look(victim.pid).mappings)) == 1


def test_a_zombie():
    """It is told from one that is not there."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        said = run("forks", process.pid)
    assert said.returncode == 1
    assert b"zombie" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([2**22 + 1], b"No such process"),
        ([0], b"0"),
        (["no_such_process"], b"no_such_process"),
        ([], b"TARGET"),
        ([1, "more"], b"only a program"),
        ([1, "--interval", "nan"], b"nan"),
        ([1, "--interval", "-1"], b"-1"),
    ],
)
def test_mistakes(arguments, word):
    said = run("forks", *arguments)
    assert said.returncode in (1, 2)
    assert word in said.stderr
    assert said.stderr.count(b"\n") == 1
    assert not said.stdout


def test_reader_that_goes(victim):
    words = [*COMMAND, "forks", victim.pid, "--interval", 0.01, "--count", 500]
    command = shlex.join(map(str, words))
    how = {"shell": True, "capture_output": True, "text": True, "timeout": 60}
    assert subprocess.run(f"{command} | head -1", **how).stderr == ""
