"""examples/working_set.py as a program: what processes use that use what the test knows."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastpagemap as fpm
from linux import PAGE
from needs import Absent, need

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
COMMAND = [sys.executable, str(EXAMPLES / "working_set.py")]
BUSY = Path(__file__).with_name("busy.py")
DAMON = Path("/sys/kernel/mm/damon/admin")
IDLE = Path("/sys/kernel/mm/page_idle/bitmap")
STAT = Path("/sys/module/damon_stat/parameters/enabled")
PAGES, READ, WRITTEN = 40_000, 3000, 1000
#: at most: what Python itself uses, meanwhile or at its start
PYTHON = 12_000


def run(*arguments):
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def pages(cell):
    """Return how many pages a cell's size is."""
    return round(float(cell.removesuffix(" MiB")) * 2**20 / PAGE)


def rows(said):
    """Return the table under its head: accessed and written, in pages, None for a dash."""
    lines = said.split("written\n")[1].splitlines()
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return [[None if cell == "-" else pages(cell) for cell in row[2:]] for row in cells]


def everything():
    """Return what stands in all files of DAMON that can be read."""
    found = {}
    for file in sorted(DAMON.rglob("*")):
        with contextlib.suppress(OSError):
            found[file] = file.read_text() if file.is_file() else ""
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0"], "working_set: pid 0: a pid is a positive number"),
        (["1", "--interval", "-1"], "argument --interval: invalid seconds value: '-1'"),
        (["1", "--interval", "nan"], "argument --interval: invalid seconds value: 'nan'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(arguments, said):
    done = run(*arguments)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith(said)
    assert "Traceback" not in done.stderr


@pytest.fixture
def busy():
    command = [sys.executable, "-S", "-E", BUSY, *map(str, (PAGES, READ, WRITTEN))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def usable():
    """DAMON can watch processes, and the kernel's own use of it rests meanwhile."""
    need(DAMON.exists(), "DAMON's files in /sys", Absent)
    need(not IDLE.exists(), "no idle page tracking, which is the better way", Absent)
    need((DAMON / "kdamonds/nr_kdamonds").read_text() == "0\n", "DAMON that nobody uses", Absent)
    own = STAT.exists() and STAT.read_text() == "Y\n"
    try:
        if own:
            STAT.write_text("N")
        said = run(os.getpid(), "--count", 1, "--interval", 0.1).stdout
        need("CONFIG_DAMON_VADDR" not in said, "DAMON for virtual addresses", Absent)
        yield
    finally:
        if own:
            STAT.write_text("Y")


@pytest.fixture
def damon(usable, busy):
    """A busy process that DAMON can watch; afterwards nothing is left of that."""
    before = everything()
    yield busy
    assert everything() == before


@contextlib.contextmanager
def at_work(pid):
    """Run it for as long as it takes, and a row at least; it is ended by SIGTERM."""
    command = [*COMMAND, str(pid), "--count", "1000", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            while "MiB" not in (line := process.stdout.readline()):
                assert line, "it ended"
            yield process
        finally:
            process.terminate()


def test_arrays_of_its_own():
    need(fpm.capabilities().userfaultfd_wp_async, "userfaultfd WP_ASYNC (Linux 6.7)", Absent)
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split() for line in done.stdout.splitlines()]
    used = [["written", "0", "20", "0"]]
    if fpm.capabilities().userfaultfd_rwp_async:
        # 10,000 draws of 500 pages leave out none
        used.append(["accessed", "500", "20", "0"])
    else:
        assert "\naccessed: not told: " in done.stdout
    assert found[-3 * len(used) - 1 :] == [["pages", "4000", "1000", "1000"], *used * 3]


def test_what_cannot_be_told_is_said(busy):
    """Without a way, nothing is invented, and what others have set up is left alone."""
    before = everything()
    done = run(busy.pid, "--count", 1, "--interval", 0.1)
    assert everything() == before
    assert done.stderr == ""
    told = done.stdout.startswith("accessed: by ")
    assert done.returncode == (0 if told else 1)
    if not told:
        assert "\n  by DAMON: " in done.stdout
        assert "MiB" not in done.stdout
    assert "\nwritten: not told: " in done.stdout
    assert ("see --yes" in done.stdout) is fpm.capabilities().soft_dirty


def test_written(busy):
    need(fpm.capabilities().soft_dirty, "soft-dirty bits", Absent)
    done = run(busy.pid, "--yes", "--count", 3)
    assert (done.returncode, done.stderr) == (0, "")
    found = [written for _, written in rows(done.stdout)]
    assert len(found) == 3
    assert all(WRITTEN <= written < WRITTEN + PYTHON for written in found)


@pytest.mark.root
def test_accessed_by_damon(damon):
    """An estimate: the used pages, and not the others, which are three times as many."""
    done = run(damon.pid, "--count", 6)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("accessed: by DAMON: an estimate")
    found = [accessed for accessed, _ in rows(done.stdout)]
    assert len(found) == 6
    assert 0.8 * (READ + WRITTEN) < found[-1] < READ + WRITTEN + PYTHON


@pytest.mark.root
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_takes_away_what_it_set_up(damon, how):
    with at_work(damon.pid) as process:
        process.send_signal(how)
        process.wait(60)
    assert (DAMON / "kdamonds/nr_kdamonds").read_text() == "0\n"


@pytest.mark.root
def test_the_process_ends_meanwhile(damon):
    with at_work(damon.pid) as process:
        damon.kill()
        assert process.wait(60) == 1


@pytest.mark.root
def test_one_user_of_damon_at_a_time(damon):
    with at_work(damon.pid) as process:
        done = run(os.getpid(), "--count", 1)
        assert "another program has set DAMON up, and is left alone" in done.stdout
        for _ in range(2):
            assert "MiB" in process.stdout.readline()


@pytest.mark.root
def test_the_kernel_uses_damon_itself(damon):
    need(STAT.exists(), "damon_stat", Absent)
    STAT.write_text("Y")
    try:
        done = run(damon.pid, "--count", 1)
        assert f"the kernel uses it itself; 'echo N >{STAT}' stops that" in done.stdout
        assert STAT.read_text() == "Y\n"
    finally:
        STAT.write_text("N")


@pytest.mark.root
def test_accessed_by_idle_pages(busy):
    need(IDLE.exists(), "idle page tracking", Absent)
    done = run(busy.pid, "--count", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("accessed: by idle page tracking: exact")
    for accessed, _ in rows(done.stdout):
        assert READ + WRITTEN <= accessed < READ + WRITTEN + PYTHON


def test_how_much_of_the_runs_lies_in_the_spans(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import other_process

    random = np.random.default_rng(1)
    for _ in range(200):
        low = 0 if random.integers(2) else 0x7F0000000000
        first, second = (np.unique(random.integers(0, 60, 2 * size)) for size in (4, 6))
        first, second = (
            low + edges[: len(edges) // 2 * 2].reshape(-1, 2) for edges in (first, second)
        )
        runs = np.zeros(len(second), fpm.RUN_DTYPE)
        runs["start"], runs["end"] = second.T
        truth = set()
        for a, b in first.tolist():
            truth |= set(range(a, b))
        inside = sum(len(truth & set(range(a, b))) for a, b in second.tolist())
        assert other_process.overlap(first.tolist(), runs) == inside
    assert other_process.overlap([], runs) == 0
    assert other_process.overlap([(0, 5)], runs[:0]) == 0
