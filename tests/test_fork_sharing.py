"""examples/fork_sharing.py: what a family of processes shares, as smaps says and as was written."""

import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import linux
import oracle
from linux import PAGE
from needs import need
from runas import as_nobody, in_child
from victim import Victim

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fork_sharing.py"
PAGES = 64


def need_modules():
    for name in ("click", "rich"):
        need(importlib.util.find_spec(name), name)


@pytest.fixture(scope="module")
def example():
    """The example as a module."""
    need_modules()
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        yield importlib.import_module("fork_sharing")
    finally:
        sys.path.remove(str(EXAMPLE.parent))


@pytest.fixture
def victim():
    with Victim() as each:
        yield each


def parts(example, victim, memory):
    """(shared, own) in pages of one piece of memory, the parent first, then its children."""
    sight = example.look(victim.pid)
    assert next(iter(sight.parts)) == victim.pid
    name = next(name for name in sight.parts[victim.pid] if name.startswith(f"{memory.start:012x}"))
    found = [sight.parts[pid][name] for pid in sight.parts]
    return [(shared // PAGE, own // PAGE) for shared, own in found]


def test_one_worker(example, victim):
    memory = victim.make("touched", PAGES)
    assert parts(example, victim, memory) == [(0, PAGES)]
    victim.fork()
    assert parts(example, victim, memory) == [(PAGES, 0)] * 2
    # the page that was written is the writer's, and the one it was copied from the child's alone
    memory.do("write", 10, 15)
    assert parts(example, victim, memory) == [(PAGES - 5, 5)] * 2


def test_two_workers(example, victim):
    memory = victim.make("touched", PAGES)
    pids = [victim.fork(), victim.fork()]
    memory.do("write", 0, 7)
    assert parts(example, victim, memory) == [(PAGES - 7, 7), *[(PAGES, 0)] * 2]
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: len(example.look(victim.pid).parts) == 2)
    assert parts(example, victim, memory) == [(PAGES - 7, 7)] * 2


@pytest.mark.root
def test_together(example, victim):
    victim.make("touched", 4096)
    victim.fork()
    together = example.look(victim.pid).together
    assert together["rss"] - together["union"] >= 4096 * PAGE
    assert 4096 * PAGE <= together["unique"] < together["union"]


def test_not_a_copy(example, victim):
    """Zero pages are nobody's; shared memory makes no copies."""
    zero = victim.make("zero", PAGES)
    untouched = victim.make("untouched", PAGES)
    shared = victim.make("shared_anonymous", PAGES)
    victim.fork()
    assert parts(example, victim, zero) == [(0, 0)] * 2
    assert parts(example, victim, untouched) == [(0, 0)] * 2
    parted = example.look(victim.pid).parts.values()
    assert not any(name.startswith(f"{shared.start:012x}") for each in parted for name in each)


def test_grandchildren(example, victim):
    """Whoever was forked below the parent is a worker; what it touched first is its own, too."""
    untouched = victim.make("untouched", PAGES)
    victim.fork()
    untouched.do("write", 0, 3)
    assert parts(example, victim, untouched) == [(0, 3), (0, 0)]


@pytest.mark.parametrize("kind", ["touched", "sparse", "file_private", "huge"])
def test_like_smaps(example, victim, kind):
    """Mapping by mapping, in each process: the sums of Shared_* and of Private_*."""
    memory = victim.make(kind, 1024 if kind == "huge" else PAGES)
    family = [victim.pid, victim.fork(), victim.fork()]
    memory.do("write", 0, 9)
    with stopped(family):  # a process that runs goes on copying
        sight = example.look(victim.pid)
        smaps = {pid: by_smaps(pid) for pid in family}
    assert list(sight.parts) == family
    for pid, found in sight.parts.items():
        wanted = smaps[pid]
        new = found.pop(example.NEW, example.NOTHING)
        answer = {name.partition(" ")[0]: tuple(part) for name, part in found.items()}
        assert {start: wanted.pop(start) for start in answer} == answer
        # what is left is of mappings that the parent has not
        assert tuple(map(sum, zip((0, 0), *wanted.values(), strict=True))) == new


@contextlib.contextmanager
def stopped(pids):
    """Have processes stand still."""

    def state(pid):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: all(state(pid) == "T" for pid in pids))
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


def test_grown_mappings(example):
    """A worker's mapping is the parent's that it overlaps, whichever of the two has grown."""
    from fastpagemap import Mapping

    def mapping(start, end):
        return Mapping(start << 12, end << 12, "rw-p", 0, "00:00", 0, "")

    parents = [mapping(10, 20), mapping(20, 30), mapping(40, 50)]
    names = [example.name(each) for each in parents]
    for first in ((10, 20), (12, 13)):
        assert example.place(mapping(*first), parents) == names[0]
    for last in ((42, 90), (35, 45)):
        assert example.place(mapping(*last), parents) == names[2]
    for alone in ((1, 10), (30, 40), (50, 60)):
        assert example.place(mapping(*alone), parents) == example.NEW


def test_strangers(example):
    """A child that has called exec has a heap of its own: it is left out, and counted."""
    with subprocess.Popen(["sleep", "100"]) as stranger:
        try:
            linux.wait_until_asleep(stranger.pid)
            sight = example.look(os.getpid())
            assert stranger.pid in sight.strangers
            assert stranger.pid not in sight.parts
        finally:
            stranger.kill()


def test_change(example):
    assert [example.change(size) for size in (0, 4096, -8192)] == ["", "+4Ki", "-8Ki"]


def wait_for(true, patience=30.0):
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run(*arguments):
    need_modules()
    return subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "NUMPY_MADVISE_HUGEPAGE": "0"},
    )


def objects(done):
    """What the demo's table says: {step: [(shared, own) of each kind of object]}."""
    answer = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if len(cells) == 4 and all(" + " in cell for cell in cells[1:]):
            answer[cells[0]] = [tuple(map(in_bytes, cell.split(" + "))) for cell in cells[1:]]
    return answer


def in_bytes(text):
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return float(text[:-2]) * units[text[-2:]] if text[-2:] in units else float(text)


@pytest.mark.parametrize("freeze", [False, True])
def test_demo(freeze):
    """What is read stays shared; objects looked at do not, nor those the collector looks at."""
    done = run("--demo", *["--freeze"] * freeze)
    assert (done.returncode, done.stderr) == (0, "")
    steps = objects(done)
    assert len(steps) == 4

    def mostly(step):
        """For each kind of object, whether most of it is shared."""
        halves = steps[step]
        assert all(min(pair) < 0.02 * sum(pair) for pair in halves), halves
        return [shared > own for shared, own in halves]

    assert mostly("forked") == [True, True, True]
    assert mostly("array.sum()") == [True, True, True]
    assert mostly("for word in strings: pass") == [True, False, True]
    assert mostly("gc.collect()") == [True, False, freeze]
    assert ("--freeze" in done.stdout) is not freeze


def test_watch(victim):
    memory = victim.make("touched", PAGES)
    child = victim.fork()
    done = run(victim.pid, "--count", 2, "--interval", 0.05, "--limit", 1000)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("By mapping") == 2
    assert f"worker {child}" in done.stdout
    assert "together" in done.stdout
    row = next(line for line in done.stdout.splitlines() if f"{memory.start:012x}" in line)
    size = f"{PAGES * PAGE >> 10}Ki"
    assert row.strip("│").split()[:4] == [f"{memory.start:012x}", size, "│", size]


def test_parent_that_ends(example, victim):
    tables = example.watch(victim.pid, 0.01, 0, 5)
    assert f"process {victim.pid} and 0 workers" in next(tables)
    victim.kill()
    assert list(tables)[-1] == f"process {victim.pid} has ended"


@pytest.mark.root
def test_not_allowed(example, victim):
    with pytest.raises(PermissionError):
        as_nobody(example.look, victim.pid)
    assert in_child(lambda: len(example.look(victim.pid).parts)) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([2**22 + 1], "no such process"),
        ([0], "0"),
        (["one"], "one"),
        ([], "--demo"),
        (["--freeze", 1], "--demo"),
        (["--demo", 1], "--demo"),
        ([1, "--interval", "nan"], "nan"),
        ([1, "--interval", "-1"], "-1"),
    ],
)
def test_mistakes(arguments, word):
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_without_click():
    hidden = f"import sys, runpy; sys.modules['click'] = None; runpy.run_path({str(EXAMPLE)!r})"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fork_sharing: click is not installed: pip install click rich\n"


def test_reader_that_goes(victim):
    words = [sys.executable, EXAMPLE, victim.pid, "--interval", 0.01, "--count", 500]
    command = shlex.join(map(str, words))
    how = {"shell": True, "capture_output": True, "text": True, "timeout": 60}
    assert subprocess.run(f"{command} | head -1", **how).stderr == ""
